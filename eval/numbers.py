"""Every number of a comparison as CSV, for those who go on with other tools."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from eval.tables import Measured, Table


def write_numbers(folder: Path, measured: Sequence[Measured], tables: Sequence[Table]) -> list[Path]:
    """Writes `arms.csv`, `pairs.csv` and `queries.csv`; their paths.

    Args:
        folder: where to.
        measured: what each run scored on each query.
        tables: what follows from it.
    """
    contents = {"arms.csv": _arms(tables), "pairs.csv": _pairs(tables), "queries.csv": _queries(measured)}
    files = []
    for name, rows in contents.items():
        files.append(folder / name)
        _write(files[-1], rows)
    return files


def _arms(tables: Sequence[Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        for row in table.rows:
            about = {"task": table.task, "revision": table.revision, "queries": table.queries, "arm": row.arm}
            yield {
                **about,
                **row.metrics,
                "by_seed": " ".join(f"{seed}:{score}" for seed, score in row.by_seed.items()),
            }


def _pairs(tables: Sequence[Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        for verdict in table.verdicts:
            told = msgspec.to_builtins(verdict)
            numbers = told.pop("estimate")
            numbers["p_alone"], numbers["p_equivalent_alone"] = numbers.pop("p"), numbers.pop("p_equivalent")
            yield {"task": table.task, **told, **numbers}


def _queries(measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    for task in measured:
        for arm, runs in task.runs.items():
            for seed, scores in runs.items():
                for query, found in scores.items():
                    yield {
                        "task": task.task,
                        "arm": arm,
                        "seed": seed,
                        "query": query,
                        **found,
                    }


def _write(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as target:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(target, list(row))
                writer.writeheader()
            writer.writerow(row)
