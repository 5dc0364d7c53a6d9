"""The report: one HTML file without outside parts, for a browser, a phone or paper."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cards.metrics import METRICS
from cards.provenance import package_versions
from eval.changed import Change, QueryLine
from eval.figures import describe_forest, forest
from eval.guarantees import Shared
from eval.recipe import CompareRecipe
from eval.report import difference_cells, what_intervals_mean
from eval.runs import BASE
from eval.summary import CONTROL, summary
from eval.tables import Table

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


class Forest(NamedTuple):
    """A forest plot: what the arms are set beside, the picture as SVG, and in words."""

    against: str
    svg: Markup
    alt: str


def render_page(
    config: CompareRecipe,
    base: str,
    precision: str,
    tables: Sequence[Table],
    tasks: Sequence[TaskQueries],
    shared: Shared,
) -> str:
    """The report as HTML.

    Args:
        config: the comparison.
        base: the model that all arms start from.
        precision: that texts were encoded in.
        tables: by task; the last speaks for all.
        tasks: the queries of each task.
        shared: what the arms' trainings have in common.
    """
    return _environment.get_template("report.html").render(
        config=config,
        base=base,
        base_arm=BASE,
        precision=precision,
        summary=summary(config, base, tables),
        forests=forests(config, tables),
        tables=tables,
        tasks=tasks,
        shared=shared,
        shown=SHOWN_QUERIES,
        metrics=list(METRICS),
        cells=difference_cells,
        meaning=what_intervals_mean(len(config.seeds), config.margin),
        hardness=hardness_of(Path(config.dataset)),
        packages=package_versions(),
    )


def forests(config: CompareRecipe, tables: Sequence[Table]) -> list[Forest]:
    """One beside the untouched base, and one beside `none`, where it is an arm: what do hard negatives add?"""
    found = []
    for against in (BASE, CONTROL):
        if any(verdict.second == against for table in tables for verdict in table.verdicts):
            svg = forest(tables, against, config.margin)["svg"].decode()
            svg = svg[svg.index("<svg") :]  # a page has no room for the prologue of a file
            found.append(Forest(against, Markup(svg), describe_forest(tables, against)))  # noqa: S704  # our own drawing
    return found


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
