"""The pictures of a comparison, for light pages and dark ones, each with a description and a caption."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from foils.comparison import Comparison
from foils.metrics import MAIN_METRIC
from foils.verdicts import BASE, Table, Verdict

TEXT, BAND = "#7d7d7d", "#9a9a9a"  # as legible on white as on black
MARKS = {  # Okabe and Ito's colours, which the colour-blind tell apart, and a shape each for prints without colour
    "better": ("#009e73", "^"),
    "worse": ("#d55e00", "v"),
    "equivalent": ("#3b8bc4", "s"),
    "undecided": ("#8f8f8f", "o"),
}

_SETTINGS = {"svg.hashsalt": "foils", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 10}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
COLOURS = ("#3b8bc4", "#d55e00", "#009e73", "#cc79a7", "#c99700", "#56b4e9")
"""Of the same set, for arms; those beyond the sixth differ by shape."""
SHAPES = ("o", "s", "^")
_WIDE = 20  # times the least cost: beyond it only a logarithmic axis shows all


class Picture(NamedTuple):
    """A picture as `png` and `svg`, its file name, its description for those who do not see it, and its caption."""

    drawn: Mapping[str, bytes]
    name: str
    alt: str
    caption: str

    @property
    def inline(self) -> Markup:
        """The SVG within a page, without the prologue of a file."""
        text = self.drawn["svg"].decode()
        return Markup(text[text.index("<svg") :])  # noqa: S704  # our own drawing


def write_pictures(folder: Path, pictures: Iterable[Picture | None]) -> None:
    """Writes every picture in all its formats to a folder's `figures/`."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for picture in filter(None, pictures):
        for form, drawn in picture.drawn.items():
            (folder / "figures" / f"{picture.name}.{form}").write_bytes(drawn)


def forest(comparison: Comparison) -> Picture:
    """The forest plot: every arm beside the untouched base, a panel each task."""
    caption = "Each arm's nDCG@10 less that of the untouched base. Within the grey band arms count as equivalent."
    return Picture(_forest(comparison), "forest-base", _in_words(comparison.tables), caption)


def pareto(comparison: Comparison) -> Picture | None:
    """Quality against money, or seconds of the build where no prices are known; None where neither is, or for one arm.

    A line joins those arms that no other beats in both, if they are more than two.
    """
    costs = comparison.costs
    scores = {row.arm: row.metrics[MAIN_METRIC] for row in comparison.tables[-1].rows}
    money = {cost.arm: cost.per_thousand_rows(cost.money) for cost in costs}
    seconds = {cost.arm: cost.per_thousand_rows(cost.build_seconds) for cost in costs}
    currency = next((cost.currency for cost in costs if cost.currency), None)
    amounts, unit = (money, currency) if currency and any(money.values()) else (seconds, "seconds")
    points = {arm: (amount, scores[arm]) for arm, amount in amounts.items() if amount is not None}
    if len(points) == 1 or not any(amount for amount, _ in points.values()):
        return None
    label = f"{unit} for the negatives of a thousand rows"
    each = "; ".join(f"{arm} {amount:.4g}, {score:.4f}" for arm, (amount, score) in points.items())
    return Picture(
        _pareto(points, label, scores[BASE]),
        "pareto",
        f"nDCG@10 against {label}: {each}; untouched base {scores[BASE]:.4f}.",
        f"No arm beats {', '.join(front(points))} in both; differences within the intervals above count for nothing.",
    )


def _forest(comparison: Comparison) -> dict[str, bytes]:
    """Differences with their intervals, a panel each task, and the band within which arms count as equivalent."""
    from matplotlib.lines import Line2D

    panels, margin = [(table, table.beside(BASE)) for table in comparison.tables], comparison.margin
    rows = sum(len(found) for _, found in panels)
    with _figure(0.8 + 0.45 * len(panels) + 0.32 * rows) as figure:
        heights = [len(found) + 0.6 for _, found in panels]
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (table, found) in zip(grid, panels, strict=True):
            _panel(axes, f"{table.task}, {table.queries:,} queries", found, margin)
        grid[-1].set_xlabel(
            f"{MAIN_METRIC} less that of the {BASE}, 95 % interval; band: \N{PLUS-MINUS SIGN}{margin:g}", color=TEXT
        )
        present = {verdict.word for _, found in panels for verdict in found}
        handles = [
            Line2D([], [], color=colour, marker=mark, linestyle="none", label=word)
            for word, (colour, mark) in MARKS.items()
            if word in present
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False, labelcolor=TEXT, fontsize=9)
        return _bytes(figure)


def _in_words(tables: Sequence[Table]) -> str:
    """Describes the picture for those who do not see it."""
    tasks = []
    for table in tables:
        each = ((verdict, verdict.estimate) for verdict in table.beside(BASE))
        parts = (
            f"{arm.first} {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f}, {arm.word})" for arm, found in each
        )
        tasks.append(f"{table.task}: {'; '.join(parts)}")
    return f"Difference in {MAIN_METRIC} to the {BASE} with 95 % intervals. {'. '.join(tasks)}."


def _pareto(points: Mapping[str, tuple[float, float]], cost: str, base: float) -> dict[str, bytes]:
    with _figure(4.2) as figure:
        axes = figure.add_subplot()
        costs = sorted(spent for spent, _ in points.values() if spent > 0)
        if costs[-1] > _WIDE * costs[0]:
            axes.set_xscale("symlog", linthresh=costs[0])
        if len(best := front(points)) > 2:  # noqa: PLR2004  # between two points any curve could lie
            axes.plot(*zip(*(points[arm] for arm in best), strict=True), color=TEXT, linewidth=1.2)
        for number, (arm, point) in enumerate(points.items()):
            colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number // len(COLOURS) % len(SHAPES)]
            axes.plot(*point, color=colour, marker=shape, markersize=7, linestyle="none", label=arm)
        axes.axhline(base, color=TEXT, linestyle=(0, (5, 2)), linewidth=1, label=BASE)
        axes.margins(0.08)
        axes.set_xlim(left=-costs[0] / 4 if axes.get_xscale() == "symlog" else -costs[-1] / 20)
        axes.set_xlabel(cost, color=TEXT)
        axes.set_ylabel(MAIN_METRIC, color=TEXT)
        figure.legend(loc="outside right upper", frameon=False, labelcolor=TEXT, fontsize=9)
        _plain(axes)
        return _bytes(figure)


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The arms that no other beats in both cost and quality, the cheapest first.

    >>> front({"a": (1, 0.5), "b": (2, 0.4), "c": (3, 0.6), "d": (1, 0.4)})
    ['a', 'c']
    """
    found: list[str] = []
    for arm, (_, score) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if not found or score > points[found[-1]][1]:
            found.append(arm)
    return found


def _panel(axes: Any, title: str, found: Sequence[Verdict], margin: float) -> None:
    axes.axvspan(-margin, margin, color=BAND, alpha=0.18, linewidth=0)
    axes.axvline(0, color=TEXT, linewidth=0.9)
    for row, verdict in enumerate(found):
        colour, mark = MARKS[verdict.word]
        estimate = verdict.estimate
        axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot([estimate.mean], [row], color=colour, marker=mark, markersize=7, linestyle="none")
    axes.set_title(title, loc="left", fontsize=10, color=TEXT)
    axes.set_yticks(range(len(found)), [verdict.first for verdict in found])
    axes.set_ylim(len(found) - 0.5, -0.5)  # the first arm on top
    _plain(axes, "x")


def _plain(axes: Any, lines: str = "both") -> None:
    """Nothing but the grid and grey words."""
    axes.tick_params(colors=TEXT, length=0)
    axes.grid(axis=lines, color=BAND, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


@contextmanager
def _figure(height: float) -> Iterator[Any]:
    """A figure of the report's width and letters; equal drawings become equal bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        yield Figure(figsize=(8, height), layout="constrained")


def _bytes(figure: Any) -> dict[str, bytes]:
    """A figure as `png` and `svg`, on no background."""
    found = {}
    for form, metadata in (("png", {"Software": None}), ("svg", _NO_METADATA)):
        target = BytesIO()
        figure.savefig(target, format=form, dpi=150, transparent=True, metadata=metadata)
        found[form] = target.getvalue()
    return found
