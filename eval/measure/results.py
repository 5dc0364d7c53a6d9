"""Results: rankings and per-query scores first, means after; one folder per model and task, found again by content."""

from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from eval.measure.encoding import Prompts
from foils.errors import UserError
from foils.evidence import write_judgements, write_rankings
from foils.metrics import JUDGED, METRICS, PerQuery, Qrels, Rankings, per_query_scores, top
from foils.provenance import sha256_json
from foils.records import Drift, Result, read_record

MEASURING = 3
"""The version of the code that figures come from: raised by hand with each change that moves them, and no other."""
DEPTH = 1000
"""Ranks that are kept; MAP looks at all of them."""
FURTHER = {"MRR@10": "recip_rank", "MAP": "map"}
"""Beside the published metrics: printed name -> trec_eval's name."""
NAMES = (*METRICS, *FURTHER, JUDGED)
_CUT = 10


class Measured(NamedTuple):
    """All that one run of a model on a task gives.

    Attributes:
        rankings: query id -> passage id -> score.
        qrels: the judgements.
        drift: of the precision's scores from those of fp32; None for fp32.
    """

    rankings: Rankings
    qrels: Qrels
    drift: Drift | None = None


class Key(NamedTuple):
    """What decides a result beside `MEASURING`: model, precision, data, how both are read; not folders or commits."""

    identity: str
    precision: str
    task: str
    task_revision: str
    prompts: Prompts | None = None
    pooling: str | None = None
    ignore_identical_ids: bool = False

    @classmethod
    def of(cls, result: Result) -> "Key":
        """The key of a result."""
        return cls(*(getattr(result, name) for name in cls._fields))

    def folder(self, root: Path) -> Path:
        """Where the result lies under `root`."""
        how = f"{_short(self.identity)}-{self.precision}"
        if self.prompts is not None:
            how += f"-{sha256_json(dict(self.prompts))[:8]}"
        if self.pooling:
            how += f"-{self.pooling}"
        task = f"{self.task}-{_short(self.task_revision)}{'-other-ids' * self.ignore_identical_ids}"
        return root / f"v{MEASURING}" / how / task


def scores_of(rankings: Rankings, qrels: Qrels) -> PerQuery:
    """Query id -> name of `NAMES` -> value, 0 to 1, in the order of `qrels`.

    `judged@10` is the share of the ten best hits that anyone has judged, relevant or not: where it is low, the other
    figures say little, since what was not judged counts as irrelevant.

    Args:
        rankings: query id -> passage id -> score, higher is better.
        qrels: query id -> passage id -> relevance, 0 for judged irrelevant.
    """
    found = per_query_scores(rankings, qrels, METRICS | FURTHER)
    for query, scores in found.items():
        if scores["MRR@10"] < 1 / _CUT:  # trec_eval's has no cut: 1 / rank of the first relevant hit
            scores["MRR@10"] = 0.0
        best = top(rankings.get(query, {}), _CUT)
        scores[JUDGED] = sum(passage in qrels[query] for passage, _ in best) / _CUT
    return found


def write_result(folder: Path, result: Result, measured: Measured, scores: PerQuery) -> None:
    """Writes rankings, judgements, per-query scores, then the result, whose presence means complete."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rankings(folder / "rankings.parquet", measured.rankings, DEPTH)
    write_judgements(folder / "judgements.parquet", measured.qrels)
    columns: dict[str, list[str] | list[float]] = {"query-id": list(scores)}
    columns |= {name: [query[name] for query in scores.values()] for name in NAMES}
    pq.write_table(pa.table(columns), folder / "per-query.parquet")
    partial = folder / "result.json.partial"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    partial.rename(folder / "result.json")


def read_result(folder: Path) -> Result | None:
    """The result in a folder; None where there is none.

    Raises:
        UserError: it does not decode.
    """
    return read_record(folder / "result.json", Result, f"delete {folder} to have it measured again")


def read_scores(folder: Path) -> PerQuery:
    """The per-query scores beside a result.

    Raises:
        UserError: they are missing or broken.
    """
    file = folder / "per-query.parquet"
    try:
        rows = pq.read_table(file, columns=["query-id", *NAMES]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file}: cannot be read ({reason}); delete {folder} to have it measured again") from None
    return {row.pop("query-id"): row for row in rows}


def first_hits(scores: PerQuery) -> float:
    """The share of queries whose first hit is relevant."""
    return sum(query["MRR@10"] == 1 for query in scores.values()) / len(scores)


def _short(revision: str) -> str:
    return revision.removeprefix("sha256:")[:16]
