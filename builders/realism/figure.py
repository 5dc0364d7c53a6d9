"""The picture of hardness: one ridge a kind, split at zero, where a negative scores as high as the positive."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np

from builders.realism.hardness import Floats

TEXT = "#7d7d7d"  # as legible on white as on black
HARDER, EASIER = "#d55e00", "#3b8bc4"  # of Okabe and Ito's colours for all kinds of sight, the blue a little lighter
_POINTS = 400
_LEAST = 2  # values that make a curve
_MOST = 5000  # values that a curve is made of: evenly many quantiles of all
_FINER = 0.6  # than Scott's bandwidth, which is made for one bell
_SEEN = (0.25, 99.75)  # percentiles of all kinds within the picture


def draw(margins: Mapping[str, Floats], scorer: str) -> dict[str, bytes]:
    """The picture as `png` and `svg`, on no background, for light pages and dark ones; equal margins, equal bytes.

    Args:
        margins: kind -> the positive's score less the negative's; kinds without a known one are left out.
        scorer: by whose scores.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = {kind: values[np.isfinite(values)] for kind, values in margins.items()}
    known = {kind: values for kind, values in known.items() if len(values)}
    kinds = sorted(known, key=lambda kind: (float(np.median(known[kind])), kind))  # the hardest on top
    low, high = _range(known)
    settings = {"svg.hashsalt": "foils", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(8, 1.5 + 0.62 * len(kinds)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for row, kind in enumerate(kinds):
            _ridge(axes, len(kinds) - 1 - row, known[kind], (low, high))
        _furnish(axes, kinds, known, (low, high))
        axes.set_xlabel(f"positive's score \N{MINUS SIGN} negative's score, by {scorer}; ▲ median", color=TEXT)
        return {"png": _bytes(figure, "png"), "svg": _bytes(figure, "svg")}


def describe(told: Mapping[str, Mapping[str, Any]], scorer: str) -> str:
    """The picture in words, for those who do not see it.

    >>> describe({"bm25": {"quantiles": {"0.5": 1.5}, "harder": 0.02}, "x": {"negatives": 3}}, "dense")
    "Distribution of the positive's score less the negative's by dense, per kind: bm25: median 1.5, 2.0 % below zero."
    """
    parts = [
        f"{kind}: median {about['quantiles']['0.5']:.3g}, {about['harder']:.1%} below zero".replace("%", " %")
        for kind, about in told.items()
        if "quantiles" in about
    ]
    return f"Distribution of the positive's score less the negative's by {scorer}, per kind: {'; '.join(parts)}."


def _range(known: Mapping[str, Floats]) -> tuple[float, float]:
    ends = np.array([np.percentile(values, _SEEN) for values in known.values()])
    low, high = min(float(ends[:, 0].min()), 0.0), max(float(ends[:, 1].max()), 0.0)
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def _ridge(axes: Any, base: float, values: Floats, seen: tuple[float, float]) -> None:
    """A density of values in order of size above its base line, with a mark at the median."""
    from scipy.stats import gaussian_kde

    middle = float(np.median(values))
    if len(np.unique(values)) >= _LEAST:
        # From the least value to the greatest: a curve that ran on over zero would belie the share beside it.
        low, high = max(seen[0], values[0]), min(seen[1], values[-1])
        at = np.unique([*np.linspace(low, high, _POINTS), np.clip(0.0, low, high)])
        thinned = values[np.linspace(0, len(values) - 1, min(len(values), _MOST)).round().astype(int)]
        heights = gaussian_kde(thinned, lambda curve: _FINER * curve.scotts_factor())(at)
        heights = base + 0.78 * heights / heights.max()
        for side, colour in ((at <= 0, HARDER), (at >= 0, EASIER)):
            axes.fill_between(at[side], base, heights[side], color=colour, alpha=0.75, linewidth=0)
    axes.plot([seen[0], seen[1]], [base, base], color=TEXT, linewidth=0.6, alpha=0.6)
    axes.plot([middle], [base], marker="^", color=TEXT, markersize=6, clip_on=False, zorder=5)


def _furnish(axes: Any, kinds: list[str], known: Mapping[str, Floats], seen: tuple[float, float]) -> None:
    """Names, shares, the line at zero and its label."""
    top = len(kinds) - 0.05
    axes.plot([0, 0], [-0.12, top], color=TEXT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=4)
    note = {"color": TEXT, "va": "bottom", "fontsize": 9}
    axes.text(0, top + 0.04, "as high as the positive", ha="center", **note)
    axes.set_xlim(*seen)
    axes.set_ylim(-0.2, len(kinds) + 0.3)
    axes.set_yticks(range(len(kinds)), kinds[::-1], color=TEXT)
    axes.text(1.02, top + 0.04, "scored above\nthe positive", transform=axes.get_yaxis_transform(), **note)
    for row, kind in enumerate(reversed(kinds)):
        share = f"{round(float((known[kind] < 0).mean()), 4):.1%}".replace("%", " %")
        label = f"{share}  of {len(known[kind]):,}"
        axes.text(1.02, row + 0.12, label, transform=axes.get_yaxis_transform(), **note)
    axes.tick_params(colors=TEXT, length=0)
    axes.tick_params(axis="x", length=3)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(TEXT)


def _bytes(figure: Any, form: str) -> bytes:
    target = BytesIO()
    about = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
    figure.savefig(target, format=form, dpi=160, transparent=True, metadata=about)
    return target.getvalue()
