"""The pictures of a comparison, for light pages and dark ones, each with a description and a caption."""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from foils.comparison import BASE, Comparison, Table, Verdict
from foils.kinds import NO_NEGATIVES
from foils.metrics import MAIN_METRIC

TEXT, BAND = "#7d7d7d", "#9a9a9a"  # as legible on white as on black
MARKS = {  # Okabe and Ito's colours, which the colour-blind tell apart, and a shape each for prints without colour
    "better": ("#009e73", "^"),
    "worse": ("#d55e00", "v"),
    "equivalent": ("#3b8bc4", "s"),
    "undecided": ("#8f8f8f", "o"),
}

_SETTINGS = {"svg.hashsalt": "foils", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 10}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


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


def write_pictures(folder: Path, pictures: Iterable[Picture]) -> None:
    """Writes every picture in all its formats to a folder's `figures/`."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        for form, drawn in picture.drawn.items():
            (folder / "figures" / f"{picture.name}.{form}").write_bytes(drawn)


def forests(comparison: Comparison) -> list[Picture]:
    """The forest plots: one against the untouched base and, where `none` is an arm, one against `none`."""
    found = []
    for against in (BASE, NO_NEGATIVES):
        panels = [(table, [each for each in table.verdicts if each.second == against]) for table in comparison.tables]
        if any(verdicts for _, verdicts in panels):
            name = f"the {against}" if against == BASE else against
            caption = f"Each arm's nDCG@10 less that of {name}. Within the grey band arms count as equivalent."
            drawn = _forest(panels, against, comparison.margin)
            file = f"forest-{'base' if against == BASE else against}"
            found.append(Picture(drawn, file, _in_words(panels, against), caption))
    return found


def _forest(panels: Sequence[tuple[Table, Sequence[Verdict]]], against: str, margin: float) -> dict[str, bytes]:
    """Differences with their intervals, a panel each task, and the band within which arms count as equivalent.

    As `png` and `svg`, on no background; equal drawings become equal bytes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = sum(len(found) for _, found in panels)
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(8, 0.8 + 0.45 * len(panels) + 0.32 * rows), layout="constrained")
        heights = [len(found) + 0.6 for _, found in panels]
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (table, found) in zip(grid, panels, strict=True):
            _panel(axes, f"{table.task}, {table.queries:,} queries", found, margin)
        grid[-1].set_xlabel(
            f"{MAIN_METRIC} less that of {against}, 95 % interval; band: \N{PLUS-MINUS SIGN}{margin:g}", color=TEXT
        )
        present = {verdict.word for _, found in panels for verdict in found}
        handles = [
            Line2D([], [], color=colour, marker=mark, linestyle="none", label=word)
            for word, (colour, mark) in MARKS.items()
            if word in present
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False, labelcolor=TEXT, fontsize=9)
        drawn = {}
        for form, metadata in (("png", {"Software": None}), ("svg", _NO_METADATA)):
            target = BytesIO()
            figure.savefig(target, format=form, dpi=150, transparent=True, metadata=metadata)
            drawn[form] = target.getvalue()
        return drawn


def _in_words(panels: Sequence[tuple[Table, Sequence[Verdict]]], against: str) -> str:
    """Describes the picture for those who do not see it."""
    tasks = []
    for table, verdicts in panels:
        parts = []
        for verdict in verdicts:
            found = verdict.estimate
            parts.append(f"{verdict.first} {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f}, {verdict.word})")
        tasks.append(f"{table.task}: {'; '.join(parts)}")
    return f"Difference in {MAIN_METRIC} to {against} with 95 % intervals. {'. '.join(tasks)}."


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
    axes.tick_params(colors=TEXT, length=0)
    axes.grid(axis="x", color=BAND, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
