"""Results: per-query scores first, means after; one folder per model and task, found again by content."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytrec_eval
from msgspec import Struct

METRICS = {"nDCG@10": "ndcg_cut_10", "Precision@10": "P_10", "Recall@100": "recall_100"}
"""Printed name -> trec_eval's name."""

Rankings = Mapping[str, Mapping[str, float]]
PerQuery = dict[str, dict[str, float]]


class Result(Struct, frozen=True):
    """One model on one task.

    Attributes:
        model: its name; `model_revision` pins its weights.
        task: its name; `task_revision` pins its data, `split` its part.
        queries: how many were judged.
        metrics: printed name -> mean over the queries, 0 to 1.
        precision: of the weights while encoding, `fp32` or `bf16`.
        seconds: wall time of encoding and search.
        packages: versions behind the figures.
    """

    model: str
    model_revision: str
    task: str
    task_revision: str
    split: str
    queries: int
    metrics: dict[str, float]
    precision: str
    seconds: float
    packages: dict[str, str]


def per_query_scores(rankings: Rankings, qrels: Mapping[str, Mapping[str, int]]) -> PerQuery:
    """Every metric of every judged query by trec_eval; a query without hits scores 0.

    Args:
        rankings: query id -> passage id -> score, higher is better.
        qrels: query id -> passage id -> relevance.

    Returns:
        query id -> printed metric name -> value, 0 to 1, in the order of `qrels`.
    """
    evaluator = pytrec_eval.RelevanceEvaluator(
        {query_id: dict(judged) for query_id, judged in qrels.items()}, set(METRICS.values())
    )
    measured = evaluator.evaluate({query_id: dict(rankings.get(query_id, {})) for query_id in qrels})
    return {
        query_id: {name: measured.get(query_id, {}).get(key, 0.0) for name, key in METRICS.items()}
        for query_id in qrels
    }


def means(scores: PerQuery) -> dict[str, float]:
    """Printed metric name -> mean over the queries."""
    return {name: sum(query[name] for query in scores.values()) / len(scores) for name in METRICS}


class Key(NamedTuple):
    """What decides a result: the weights, their precision and the data; not the names of folders."""

    model_revision: str
    precision: str
    task: str
    task_revision: str

    def folder(self, root: Path) -> Path:
        """Where the result lies under `root`."""
        return root / f"{_short(self.model_revision)}-{self.precision}" / f"{self.task}-{_short(self.task_revision)}"


def write_result(folder: Path, result: Result, scores: PerQuery) -> None:
    """Writes the per-query scores, then the result, whose presence means complete."""
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[str] | list[float]] = {"query-id": list(scores)}
    for name in METRICS:
        columns[name] = [query[name] for query in scores.values()]
    pq.write_table(pa.table(columns), folder / "per-query.parquet")
    partial = folder / "result.json.partial"
    content = {field: getattr(result, field) for field in result.__struct_fields__}
    partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    partial.rename(folder / "result.json")


def read_result(folder: Path) -> Result | None:
    """The result in a folder; None where there is none."""
    file = folder / "result.json"
    return Result(**json.loads(file.read_text("utf-8"))) if file.exists() else None


def read_scores(folder: Path) -> PerQuery:
    """The per-query scores beside a result."""
    rows = pq.read_table(folder / "per-query.parquet").to_pylist()
    return {row["query-id"]: {name: row[name] for name in METRICS} for row in rows}


def _short(revision: str) -> str:
    return revision.removeprefix("sha256:")[:16]
