"""How hard the negatives of each kind are: the positive's score minus the negative's, by one scorer for all kinds.

Below zero, the scorer would rank the negative above the positive. Such a negative is very hard, or it answers the query
after all. A scorer is neutral only to kinds that it had no part in choosing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ENOUGH = 0.95
"""A scorer has scored a kind if it scored at least this share of the kind's negatives, with their positives."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

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
