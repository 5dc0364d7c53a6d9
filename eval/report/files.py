"""A comparison as files: `comparison.json`, and the report that is made from it alone.

`report.html` is one file without outside parts, for a browser, a phone or paper.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from pyarrow import csv

from eval.report.figures import forest, pareto, write_pictures
from eval.report.wording import COST_COLUMNS, cost_cells, difference_cells, shares, summary, what_intervals_mean
from foils.comparison import COMPARISON, Comparison, TaskQueries
from foils.metrics import MAIN_METRIC
from foils.verdicts import BASE

SHOWN_QUERIES = 25
_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["code"] = lambda text: Markup(  # noqa: S704  # escaped before
    re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text)))
)


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes `comparison.json` and all that is made from it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / COMPARISON).write_bytes(encoded(comparison))
    write_report(folder, comparison)


def write_report(folder: Path, comparison: Comparison) -> None:
    """Writes `report.html`, its pictures into `figures/`, and every number as CSV."""
    shown, quality = forest(comparison), pareto(comparison)
    page = _environment.get_template("report.html").render(
        comparison=comparison,
        base_arm=BASE,
        summary=summary(comparison),
        forest=shown,
        pareto=quality,
        metrics=list(comparison.tables[0].rows[0].metrics),
        cells=difference_cells,
        costs=[cost_cells(cost, comparison.tables[-1]) for cost in comparison.costs],
        cost_columns=COST_COLUMNS,
        shares=shares(comparison),
        meaning=what_intervals_mean(comparison),
        tasks=[(task, list(task.scores), _lines(task)) for task in comparison.queries],
        shown=SHOWN_QUERIES,
    )
    (folder / "report.html").write_text(page, "utf-8")
    write_pictures(folder, [shown, quality])
    _write_csv(folder, comparison)


def encoded(comparison: Comparison) -> bytes:
    """A comparison as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n"


def _lines(task: TaskQueries) -> list[tuple[str, str, list[float]]]:
    """Id, text and nDCG@10 by arm (mean over seeds) of every query, those that differ most between arms first."""
    means = []
    for runs in task.scores.values():
        by_query = zip(*(run[MAIN_METRIC] for run in runs.values()), strict=True)
        means.append([round(sum(values) / len(values), 4) for values in by_query])
    lines = zip(task.queries, task.texts, map(list, zip(*means, strict=True)), strict=True)
    return sorted(lines, key=lambda line: (min(line[2]) - max(line[2]), line[0]))


def _write_csv(folder: Path, comparison: Comparison) -> None:
    """Writes `arms.csv`, `pairs.csv` and `queries.csv`."""
    for name, rows in (("arms", _arms), ("pairs", _pairs), ("queries", _queries)):
        columns: dict[str, list[Any]] = {}
        for row in rows(comparison):
            for column, value in row.items():
                columns.setdefault(column, []).append(value)
        if columns:
            csv.write_csv(pa.table(columns), folder / f"{name}.csv")


def _arms(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for table in comparison.tables:
        for row in table.rows:
            by_seed = " ".join(f"{seed}:{score}" for seed, score in row.by_seed.items())
            about = {"task": table.task, "revision": table.revision, "queries": table.queries, "arm": row.arm}
            yield {**about, **row.metrics, "by_seed": by_seed}


def _pairs(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for table in comparison.tables:
        for verdict in table.verdicts:
            values = msgspec.to_builtins(verdict)
            numbers = values.pop("estimate")
            values |= {half: values[half] and values[half]["mean"] for half in ("fewest", "most")}
            numbers["p_alone"], numbers["p_equivalent_alone"] = numbers.pop("p"), numbers.pop("p_equivalent")
            yield {"task": table.task, **values, **numbers}


def _queries(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for task in comparison.queries:
        for arm, runs in task.scores.items():
            for seed, scores in runs.items():
                for place, query in enumerate(task.queries):
                    found = {metric: values[place] for metric, values in scores.items()}
                    yield {"task": task.name, "arm": arm, "seed": seed, "query": query, **found}
