"""What a report's pictures show: each drawn, in words, and with what stands below it."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from eval.costs import Cost
from eval.figures import curves, describe_forest, forest, pareto
from eval.recipe import CompareRecipe
from eval.runs import BASE, CONTROL
from eval.tables import Table
from foils.metrics import MAIN_METRIC


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


def write_pictures(folder: Path, pictures: Iterable[Picture]) -> None:
    """Writes each in each of its forms to `figures/` in a folder."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        for form, drawn in picture.drawn.items():
            (folder / "figures" / f"{picture.name}.{form}").write_bytes(drawn)


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
