"""Every number of a comparison as CSV, for those who go on with other tools."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import csv

from foils.comparison import Comparison


def write_csv(folder: Path, comparison: Comparison) -> None:
    """Writes `arms.csv`, `pairs.csv` and `queries.csv`."""
    for name, blocks in (("arms", _arms), ("pairs", _pairs), ("queries", _queries)):
        tables = [pa.Table.from_pylist(rows) for rows in blocks(comparison)]
        if tables:
            csv.write_csv(pa.concat_tables(tables, promote_options="default"), folder / f"{name}.csv")


def _arms(comparison: Comparison) -> Iterator[list[dict[str, Any]]]:
    for table in comparison.tables:
        about = {"task": table.task, "revision": table.revision, "queries": table.queries}
        yield [
            {
                **about,
                "arm": row.arm,
                **row.metrics,
                "by_seed": " ".join(f"{seed}:{score}" for seed, score in row.by_seed.items()),
            }
            for row in table.rows
        ]


def _pairs(comparison: Comparison) -> Iterator[list[dict[str, Any]]]:
    for table in comparison.tables:
        rows = []
        for verdict in table.verdicts:
            values = msgspec.to_builtins(verdict)
            numbers = values.pop("estimate")
            numbers["p_alone"], numbers["p_equivalent_alone"] = numbers.pop("p"), numbers.pop("p_equivalent")
            rows.append({"task": table.task, **values, **numbers})
        yield rows


def _queries(comparison: Comparison) -> Iterator[list[dict[str, Any]]]:
    for task in comparison.queries:
        for arm, runs in task.scores.items():
            for seed, scores in runs.items():
                columns = {"query": task.queries, **scores}
                about = {"task": task.name, "arm": arm, "seed": seed}
                yield [about | dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
