"""The picture of hardness: one violin per kind; at the line at zero a negative scores as high as the positive."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np

from builders.realism.hardness import Floats

TEXT = "#7d7d7d"  # as legible on white as on black
FILL = "#3b8bc4"
_MOST = 5000  # values that a curve is made of: evenly spaced quantiles of all
_SHOWN = (0.25, 99.75)  # percentiles of all kinds within the picture


def draw(margins: Mapping[str, Floats], scorer: str) -> bytes:
    """The picture as PNG, without a background, for light pages and dark ones; equal margins give equal bytes.

    Args:
        margins: kind -> the positive's score minus the negative's; one is known of each kind at least.
        scorer: by whose scores.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    known = {kind: values[np.isfinite(values)] for kind, values in margins.items()}
    kinds = sorted(known, key=lambda kind: (-float(np.median(known[kind])), kind))  # the hardest on top
    curves = [np.quantile(known[kind], np.linspace(0, 1, min(len(known[kind]), _MOST))) for kind in kinds]
    ends = np.array([np.percentile(known[kind], _SHOWN) for kind in kinds])
    low, high = min(float(ends.min()), 0.0), max(float(ends.max()), 0.0)
    room = 0.05 * (high - low) or 1.0
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 10}):
        figure = Figure(figsize=(8, 1.5 + 0.62 * len(kinds)), layout="constrained")
        axes = figure.add_subplot()
        drawn: Any = axes.violinplot(curves, orientation="horizontal", widths=0.8, showmedians=True, showextrema=False)
        for body in drawn["bodies"]:
            body.set(facecolor=FILL, alpha=0.75)
        drawn["cmedians"].set_color(TEXT)
        axes.axvline(0, color=TEXT, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_xlim(low - room, high + room)
        labels = [f"{kind}\n{100 * (known[kind] < 0).mean():.1f} % below zero" for kind in kinds]
        axes.set_yticks(range(1, len(kinds) + 1), labels, color=TEXT)
        axes.set_xlabel(f"positive's score \N{MINUS SIGN} negative's score, by {scorer}; | median", color=TEXT)
        axes.tick_params(colors=TEXT)
        axes.spines[:].set_color(TEXT)
        target = BytesIO()
        figure.savefig(target, format="png", dpi=160, transparent=True, metadata={"Software": None})
    return target.getvalue()


def describe(kinds: Mapping[str, Mapping[str, Any]], scorer: str) -> str:
    """The picture in words, for those who do not see it.

    >>> describe({"bm25": {"quantiles": {"0.5": 1.5}, "harder": 0.02}}, "dense")
    "Distribution of the positive's score minus the negative's by dense, per kind: bm25: median 1.5, 2.0 % below zero."
    """
    parts = [
        f"{kind}: median {about['quantiles']['0.5']:.3g}, {100 * about['harder']:.1f} % below zero"
        for kind, about in kinds.items()
    ]
    return f"Distribution of the positive's score minus the negative's by {scorer}, per kind: {'; '.join(parts)}."
