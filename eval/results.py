"""Results: rankings and per-query scores first, means after; one folder per model and task, found again by content."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from eval.per_query import DEPTH, NAMES, scores_of
from eval.prompts import Prompts, mark
from foils.encode.drift import Measured as Drift
from foils.errors import UserError
from foils.evidence import read_judgements, read_rankings, write_judgements, write_rankings
from foils.metrics import PerQuery, Qrels, Rankings, means

RESULT = "result.json"
MEASURING = 3
"""The version of the code that figures come from: raised by hand with each change that moves them, and no other."""


class Result(Struct, frozen=True):
    """One model on one task.

    Attributes:
        model: its name; `model_revision`, `weights` and `identity` are those of `foils.models.ModelReference`.
        task: its name; `task_revision` pins its data, `split` its part.
        dataset: the Hub data set that the task's data comes from; None for local files.
        queries_of: see `eval.tasks.Task`.
        queries: how many were judged; the `unanswerable` ones among them have no relevant passage, and score 0.
        metrics: name of `per_query.NAMES` -> mean over the queries, 0 to 1.
        precision: of the weights while encoding, or the runtime of a converted model: see `eval.encoder`.
        prompts: put before texts in place of the model's own; None for its own.
        pooling: of a model that does not say how it pools; None for one that does.
        ignore_identical_ids: whether the passage whose id is the query's was left out of the rankings.
        seconds: wall time of encoding and search.
        packages: versions behind the figures.
        drift: how far the scores of some texts are from those of fp32; None for fp32.
    """

    model: str
    model_revision: str
    weights: str
    identity: str
    task: str
    task_revision: str
    split: str
    dataset: str | None
    queries_of: str | None
    queries: int
    unanswerable: int
    metrics: dict[str, float]
    precision: str
    prompts: Prompts | None
    pooling: str | None
    ignore_identical_ids: bool
    seconds: float
    packages: dict[str, str]
    drift: Drift | None = None

    def key(self) -> "Key":
        """What decides it."""
        how = (self.prompts, self.pooling, self.ignore_identical_ids)
        return Key(self.identity, self.precision, self.task, self.task_revision, *how)


class Measured(NamedTuple):
    """All that one run of a model on a task gives.

    Attributes:
        rankings: query id -> passage id -> score.
        qrels: the judgements.
        scores: per query.
        mteb: mteb's own result, in the form that its results repository takes, and its account of the model.
        drift: of the precision's scores from fp32's; None for fp32.
    """

    rankings: Rankings
    qrels: Qrels
    scores: PerQuery
    mteb: dict[str, Any]
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

    def folder(self, root: Path) -> Path:
        """Where the result lies under `root`."""
        pooled = f"-{self.pooling}" if self.pooling else ""
        how = f"{_short(self.identity)}-{self.precision}{mark(self.prompts)}{pooled}"
        task = f"{self.task}-{_short(self.task_revision)}{'-other-ids' * self.ignore_identical_ids}"
        return root / f"v{MEASURING}" / how / task


def write_result(folder: Path, result: Result, measured: Measured) -> None:
    """Writes rankings, judgements, per-query scores, then the result, whose presence means complete."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rankings(folder / "rankings.parquet", measured.rankings, DEPTH)
    write_judgements(folder / "judgements.parquet", measured.qrels)
    _write_scores(folder, measured.scores)
    (folder / "mteb.json").write_text(json.dumps(measured.mteb, indent=2) + "\n", "utf-8")
    _write(folder, result)


def read_result(folder: Path) -> Result | None:
    """The result in a folder; None where there is none, or one of an older form, to be measured again.

    Raises:
        UserError: it is broken.
    """
    file = folder / RESULT
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text("utf-8"))
        return msgspec.convert(content, Result) if content.keys() == set(Result.__struct_fields__) else None
    except (ValueError, AttributeError):  # msgspec's errors are ValueErrors
        raise UserError(f"{file}: not a result of eval.run; delete {folder} to have it measured again") from None


def rescore(folder: Path) -> Result:
    """Computes a result's figures again from its rankings and judgements, and writes them in place of what stood there.

    Raises:
        UserError: there is no result, or one of its files is broken.
    """
    result = read_result(folder)
    if result is None:
        raise UserError(f"{folder}: no result of this version of eval.run; measure it again")
    try:
        scores = scores_of(read_rankings(folder / "rankings.parquet"), read_judgements(folder / "judgements.parquet"))
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder}: its rankings or judgements are broken ({reason}); measure it again") from None
    _write_scores(folder, scores)
    renewed = msgspec.structs.replace(result, metrics=means(scores, NAMES), queries=len(scores))
    _write(folder, renewed)
    return renewed


def read_scores(folder: Path) -> PerQuery:
    """The per-query scores beside a result."""
    file = folder / "per-query.parquet"
    try:
        return {row.pop("query-id"): row for row in pq.read_table(file).to_pylist()}
    except (OSError, pa.ArrowException, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file}: cannot be read ({reason}); python -m eval.rescore {folder} makes it anew") from None


def _write_scores(folder: Path, scores: PerQuery) -> None:
    columns: dict[str, list[str] | list[float]] = {"query-id": list(scores)}
    for name in NAMES:
        columns[name] = [query[name] for query in scores.values()]
    pq.write_table(pa.table(columns), folder / "per-query.parquet")


def _write(folder: Path, result: Result) -> None:
    partial = folder / f"{RESULT}.partial"
    partial.write_text(json.dumps(msgspec.to_builtins(result), indent=2) + "\n", "utf-8")
    partial.rename(folder / RESULT)


def _short(revision: str) -> str:
    return revision.removeprefix("sha256:")[:16]
