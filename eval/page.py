"""Reports: each one HTML file without outside parts, for a browser, a phone or paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.account import Account
from eval.changed import Change, QueryLine
from eval.costs import Cost
from eval.guarantees import Shared
from eval.pictures import Picture, curves_of, forests, hardness_of, pareto_of, write_pictures
from eval.recipe import CompareRecipe
from eval.report import COST_COLUMNS, cost_cells, difference_cells, what_intervals_mean
from eval.runs import BASE
from eval.summary import summary
from eval.tables import Table
from eval.why import examples, reasons
from foils.metrics import METRICS
from foils.provenance import package_versions

SHOWN_QUERIES = 25
_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


class ArmChanges(NamedTuple):
    """The queries that an arm changed most."""

    name: str
    gained: list[Change]
    lost: list[Change]


class TaskQueries(NamedTuple):
    """A task's queries: `columns` names the scores of each of `lines`."""

    name: str
    columns: list[str]
    lines: list[QueryLine]
    arms: list[ArmChanges]


class About(NamedTuple):
    """What a report is about.

    Attributes:
        config: the comparison.
        base: the model that all arms start from.
        precision: that texts were encoded in.
        shared: what the arms' trainings have in common.
        costs: of each arm.
        account: of the data set's build; None where it is not known.
        losses: arm -> step and loss of its trainings, means over seeds.
    """

    config: CompareRecipe
    base: str
    precision: str
    shared: Shared
    costs: Sequence[Cost]
    account: Account | None
    losses: Mapping[str, Sequence[tuple[int, float]]]


class OneBase(NamedTuple):
    """A base among several: its name, its own report beside that of all, and its tables."""

    name: str
    report: str
    tables: Sequence[Table]

    def difference(self, arm: str) -> str:
        """An arm's nDCG@10 less the untouched base's, with its interval; a dash if the arm did not finish."""
        row = next((row for row in self.tables[-1].rows if row.arm == arm), None)
        mean, interval, _ = ("", "", "") if row is None else difference_cells(row)
        return f"{mean} ({interval})" if mean else "\N{EN DASH}"


def mean_of(bases: Sequence[OneBase]) -> str:
    """What stands in the place of a base's name where several are meant."""
    return f"The mean of {' and '.join(base.name for base in bases)}"


def write_report(folder: Path, about: About, tables: Sequence[Table], tasks: Sequence[TaskQueries]) -> Path:
    """Writes `report.html`, and its figures as files of their own into `figures/`; the report's path.

    Args:
        folder: where to.
        about: the comparison.
        tables: by task; the last speaks for all.
        tasks: the queries of each task.
    """
    pareto_, curves_ = pareto_of(about.costs, tables[-1]), curves_of(about.losses)
    shown = forests(about.config, tables)
    write_pictures(folder, [picture for picture in (*shown, pareto_, curves_) if picture is not None])
    file = folder / "report.html"
    file.write_text(_rendered(about, tables, tasks, shown, pareto_, curves_), "utf-8")
    return file


def write_report_over_bases(
    folder: Path, config: CompareRecipe, bases: Sequence[OneBase], precision: str, tables: Sequence[Table]
) -> Path:
    """Writes `report.html` and its figures for the mean over bases; the report's path.

    Args:
        folder: where to.
        config: the comparison.
        bases: each with its own report, which has what is left out here: costs, rows, queries.
        precision: that texts were encoded in.
        tables: of the mean, by task; the last speaks for all.
    """
    shown = forests(config, tables)
    write_pictures(folder, shown)
    file = folder / "report.html"
    file.write_text(_page("bases.html", config, mean_of(bases), precision, tables, shown, bases=bases), "utf-8")
    return file


def _rendered(
    about: About,
    tables: Sequence[Table],
    tasks: Sequence[TaskQueries],
    shown: Sequence[Picture],
    pareto_: Picture | None,
    curves_: Picture | None,
) -> str:
    return _page(
        "report.html",
        about.config,
        about.base,
        about.precision,
        tables,
        shown,
        tasks=tasks,
        shared=about.shared,
        costs=[cost_cells(cost, tables[-1]) for cost in about.costs],
        cost_columns=COST_COLUMNS,
        pareto=pareto_,
        curves=curves_,
        funnel=dict(about.account.manifest.get("funnel", {})) if about.account else {},
        reasons=reasons(about.account, about.config.arms),
        examples=examples(about.account, about.config.arms),
        shown=SHOWN_QUERIES,
        hardness=hardness_of(Path(about.config.dataset)),
    )


def _page(
    template: str,
    config: CompareRecipe,
    base: str,
    precision: str,
    tables: Sequence[Table],
    plots: Sequence[Picture],
    **details: Any,
) -> str:
    """A page with what every report has: summary, forest plots, tables, how to read them."""
    return _environment.get_template(template).render(
        config=config,
        base=base,
        base_arm=BASE,
        precision=precision,
        summary=summary(config, base, tables),
        forests=plots,
        tables=tables,
        metrics=list(METRICS),
        cells=difference_cells,
        meaning=what_intervals_mean(len(config.seeds), config.margin),
        packages=package_versions(),
        **details,
    )
