"""Tables and the report: what a person reads."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cards.metrics import METRICS
from eval.results import Result
from eval.runs import BASE

if TYPE_CHECKING:
    from eval.recipe import CompareRecipe
    from eval.tables import Row, Table

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def metrics_table(rows: Sequence[tuple[str, Sequence[Result]]]) -> str:
    """A plain-text table of labelled results, one block per task.

    Args:
        rows: label and that model's results, the same tasks in the same order in every row.
    """
    blocks = []
    for position, task in enumerate(rows[0][1]):
        body = [[label, *(f"{results[position].metrics[name]:.4f}" for name in METRICS)] for label, results in rows]
        blocks.append(f"{task.task} ({task.split}, {task.queries} queries)\n{text_table([['', *METRICS], *body])}")
    return "\n\n".join(blocks)


def comparison_table(table: "Table", config: "CompareRecipe", precision: str) -> str:
    """A table and its verdicts as plain text, with what its intervals mean."""
    header = ["", *METRICS, "nDCG@10 - base", "95 % interval", "win/loss", "verdict on base"]
    words = {found.first: found.word for found in table.verdicts if found.second == BASE}
    body = [
        [row.arm, *(f"{row.metrics[name]:.4f}" for name in METRICS), *difference_cells(row), words.get(row.arm, "")]
        for row in table.rows
    ]
    seeds = config.seeds
    trained = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    lines = [f"{table.task}: {table.queries} queries, {trained}, encoded in {precision}", text_table([header, *body])]
    decided = [found.text for found in table.verdicts if found.word != "undecided"]
    lines += [f"- {text}" for text in [*decided, *table.turned]]
    left = [found for found in table.verdicts if found.word == "undecided"]
    if left:
        pairs = ", ".join(f"{found.first}/{found.second}" for found in left)
        lines.append(f"- {len(left)} of {len(table.verdicts)} pairs undecided: {pairs}.")
    lines.append(what_intervals_mean(len(seeds), config.margin))
    return "\n".join(lines)


def what_intervals_mean(seeds: int, margin: float) -> str:
    """What a reader must know of intervals and verdicts."""
    spoken = (
        "other queries of this kind and other trainings" if seeds > 1 else "other queries of this kind, not other seeds"
    )
    return (
        f"Intervals speak of {spoken}; none speaks of another corpus or base. Verdicts: 5 % over all pairs of a table "
        f"(Holm); equivalent: certainly less than {margin:g} apart."
    )


def render_report(config: "CompareRecipe", base: str, precision: str, tables: Sequence["Table"]) -> str:
    """The comparison as one HTML page without outside parts."""
    return _environment.get_template("report.html").render(
        config=config,
        base=base,
        precision=precision,
        tables=tables,
        metrics=list(METRICS),
        span=_span(tables),
        cells=difference_cells,
        meaning=what_intervals_mean(len(config.seeds), config.margin),
        hardness=hardness_of(Path(config.dataset)),
    )


def hardness_of(dataset: Path) -> dict[str, str] | None:
    """The picture of how hard a data set's kinds are, as `python -m builders.realism` left it in the folder.

    Returns:
        `source`, a data URL; `alt`; `scorer`. None where it was not made, or the data set is no folder here.
    """
    try:
        found = json.loads((dataset / "manifest.json").read_text("utf-8"))["audit"]["realism"]["hardness"]
        picture = base64.b64encode((dataset / found["figure"]).read_bytes()).decode()
        return {"source": f"data:image/png;base64,{picture}", "alt": found["alt"], "scorer": found["scorer"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text: the first column to the left, the others to the right.

    >>> print(text_table([["", "nDCG@10"], ["base", "0.5"]]))
          nDCG@10
    base      0.5
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def difference_cells(row: "Row") -> list[str]:
    """Mean, interval and wins against losses of a row; empty for the base."""
    found = row.difference
    if found is None:
        return ["", "", ""]
    return [f"{found.mean:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", f"{found.wins}/{found.losses}"]


def _span(tables: Sequence["Table"]) -> float:
    """Half the width of the plots' axis: the farthest end of any interval, with some air."""
    ends = [
        abs(end)
        for table in tables
        for row in table.rows
        if row.difference is not None
        for end in (row.difference.low, row.difference.high)
    ]
    return 1.1 * max(ends, default=0.0) or 0.01
