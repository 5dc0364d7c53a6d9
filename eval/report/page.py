"""The report: one HTML file without outside parts, for a browser, a phone or paper."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.report.figures import Picture
from eval.report.queries import query_lines
from eval.report.wording import COST_COLUMNS, cost_cells, difference_cells, summary, what_intervals_mean
from foils.comparison import BASE, Comparison
from foils.metrics import METRICS

SHOWN_QUERIES = 25
_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(comparison: Comparison, forests: Sequence[Picture], pareto: Picture | None, curves: Picture | None) -> str:
    """The HTML of a comparison's report, its pictures inside."""
    return _environment.get_template("report.html").render(
        told=comparison,
        base_arm=BASE,
        summary=summary(comparison),
        forests=forests,
        pareto=pareto,
        curves=curves,
        metrics=list(METRICS),
        cells=difference_cells,
        costs=[cost_cells(cost, comparison.tables[-1]) for cost in comparison.costs],
        cost_columns=COST_COLUMNS,
        meaning=what_intervals_mean(comparison),
        tasks=[(task, list(task.scores), query_lines(task)) for task in comparison.queries],
        shown=SHOWN_QUERIES,
    )
