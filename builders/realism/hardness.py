"""How hard the negatives of each kind are: the positive's score minus the negative's, by one scorer for all kinds.

Below zero, the scorer would rank the negative above the positive. Such a negative is very hard, or it answers the query
after all. A scorer is neutral only to kinds that it had no part in choosing. The picture has one violin per kind.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ENOUGH = 0.95
"""A scorer has scored a kind if it scored at least this share of the kind's negatives, with their positives."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

TEXT = "#7d7d7d"  # as legible on white as on black
FILL = "#3b8bc4"
_MOST = 5000  # values that a curve is made of: evenly spaced quantiles of all
_SHOWN = (0.25, 99.75)  # percentiles of all kinds within the picture

Floats = npt.NDArray[np.float64]


def margins(negatives: pa.Table, qrels: pa.Table, scores: pa.Table) -> dict[str, Floats]:
    """Kind -> the positive's score minus each negative's, in order of size; NaN, last, where a score is missing.

    Args:
        negatives: `kind`, `query-id`, `corpus-id`.
        qrels: `schema.QRELS`; of several positives the one with the highest score counts.
        scores: `schema.SCORES` of one scorer.
    """
    pair = ["query-id", "corpus-id"]
    scores = scores.group_by(pair).aggregate([("score", "max")])
    positives = qrels.filter(pc.greater(qrels["score"], 0)).select(pair).join(scores, pair, join_type="inner")
    best = positives.group_by("query-id").aggregate([("score_max", "max")]).rename_columns(["query-id", "best"])
    together = negatives.join(scores, pair).join(best, "query-id")
    differences = pc.subtract(together["best"], together["score_max"])
    found = {}
    for kind in sorted(pc.unique(negatives["kind"]).to_pylist()):
        own = differences.filter(pc.equal(together["kind"], kind))
        found[kind] = np.sort(pc.fill_null(own, float("nan")).to_numpy())
    return found


def is_scored(found: Mapping[str, Floats]) -> bool:
    """Whether a scorer has scored enough of every kind.

    >>> is_scored({"bm25": np.array([0.5, np.nan])}), is_scored({})
    (False, False)
    """
    return bool(found) and all(np.isfinite(values).mean() >= ENOUGH for values in found.values())


def figures(values: Floats) -> dict[str, Any]:
    """Counts and quantiles of one kind's margins, and the share of negatives that score higher than the positive.

    >>> figures(np.array([-1.0, 1.0, 1.0, 3.0]))["harder"]
    0.25
    """
    known = values[np.isfinite(values)]
    return {
        "negatives": len(values),
        "scored": len(known),
        "quantiles": {f"{share:g}": round(float(np.quantile(known, share)), 4) for share in QUANTILES},
        "harder": round(float((known < 0).mean()), 4),
    }


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
