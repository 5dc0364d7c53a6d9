"""The report: one HTML file without outside parts, for a browser, a phone or paper."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cards.metrics import MAIN_METRIC, METRICS
from cards.provenance import package_versions
from eval.account import Account
from eval.changed import Change, QueryLine
from eval.costs import Cost
from eval.figures import curves, describe_forest, forest, pareto
from eval.guarantees import Shared
from eval.recipe import CompareRecipe
from eval.report import COST_COLUMNS, cost_cells, difference_cells, what_intervals_mean
from eval.runs import BASE, CONTROL
from eval.summary import summary
from eval.tables import Table
from eval.why import examples, reasons

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


class Picture(NamedTuple):
    """A picture as `png` and `svg`, its name as a file, the picture in words, and what stands below it."""

    drawn: Mapping[str, bytes]
    name: str
    alt: str
    caption: str

    @property
    def inline(self) -> Markup:
        """The SVG within a page, without the prologue of a file."""
        text = self.drawn["svg"].decode()
        return Markup(text[text.index("<svg") :])  # noqa: S704  # our own drawing


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
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for picture in (*shown, pareto_, curves_):
        if picture is not None:
            for form, content in picture.drawn.items():
                (folder / "figures" / f"{picture.name}.{form}").write_bytes(content)
    file = folder / "report.html"
    file.write_text(_rendered(about, tables, tasks, shown, pareto_, curves_), "utf-8")
    return file


def _rendered(
    about: About,
    tables: Sequence[Table],
    tasks: Sequence[TaskQueries],
    shown: Sequence[Picture],
    pareto_: Picture | None,
    curves_: Picture | None,
) -> str:
    return _environment.get_template("report.html").render(
        config=about.config,
        base=about.base,
        base_arm=BASE,
        precision=about.precision,
        summary=summary(about.config, about.base, tables),
        forests=shown,
        tables=tables,
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
        metrics=list(METRICS),
        cells=difference_cells,
        meaning=what_intervals_mean(len(about.config.seeds), about.config.margin),
        hardness=hardness_of(Path(about.config.dataset)),
        packages=package_versions(),
    )


def forests(config: CompareRecipe, tables: Sequence[Table]) -> list[Picture]:
    """One beside the untouched base, and one beside `none`, where it is an arm: what do hard negatives add?"""
    found = []
    for against in (BASE, CONTROL):
        if any(verdict.second == against for table in tables for verdict in table.verdicts):
            name = f"the {against}" if against == BASE else against
            caption = f"Each arm's nDCG@10 less that of {name}. Within the grey band arms count as equivalent."
            drawn = forest(tables, against, config.margin)
            file = f"forest-{'base' if against == BASE else against}"
            found.append(Picture(drawn, file, describe_forest(tables, against), caption))
    return found


def pareto_of(costs: Sequence[Cost], table: Table) -> Picture | None:
    """Quality against money, or against seconds of the build where no prices are known; None where neither is."""
    scores = {row.arm: row.metrics[MAIN_METRIC] for row in table.rows}
    money = {cost.arm: cost.per_thousand_rows(cost.money) for cost in costs}
    seconds = {cost.arm: cost.per_thousand_rows(cost.build_seconds) for cost in costs}
    currency = next((cost.currency for cost in costs if cost.currency), None)
    amounts, unit = (money, currency) if currency and any(money.values()) else (seconds, "seconds")
    points = {arm: (amount, scores[arm]) for arm, amount in amounts.items() if amount is not None}
    if not any(amount for amount, _ in points.values()):
        return None
    label = f"{unit} for the negatives of a thousand rows"
    told = "; ".join(f"{arm} {amount:.4g}, {score:.4f}" for arm, (amount, score) in points.items())
    caption = "The line joins the kinds that no other beats in both; differences within the intervals above are none."
    return Picture(
        pareto(points, label, scores[BASE]),
        "pareto",
        f"nDCG@10 against {label}: {told}; untouched base {scores[BASE]:.4f}.",
        caption,
    )


def curves_of(losses: Mapping[str, Sequence[tuple[int, float]]]) -> Picture | None:
    """The training losses; None where no step was logged."""
    known = {arm: points for arm, points in losses.items() if points}
    if not known:
        return None
    told = "; ".join(f"{arm} {points[0][1]:.3g} to {points[-1][1]:.3g}" for arm, points in known.items())
    caption = "Losses of different kinds are no measure of quality: harder negatives give higher ones."
    return Picture(curves(known), "losses", f"Training loss over steps: {told}.", caption)


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
