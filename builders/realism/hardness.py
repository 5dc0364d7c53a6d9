"""How hard the negatives of each kind are: the positive's score less the negative's, by one scorer for all kinds.

A difference below zero: the scorer would rank the negative above the positive. Such a negative is very hard, or it
answers the query and is none. A scorer is neutral only to kinds that it had no part in choosing.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foils.errors import UserError

PREFERRED = ("cross-encoder", "dense", "bm25")
ENOUGH = 0.95
"""A scorer has scored a kind if it scored so large a share of the kind's negatives, with their positives."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Floats = npt.NDArray[np.float64]


def negatives_of(fates: pa.Table) -> pa.Table:
    """The rows of `schema.FATES` that became negatives: `kind`, `query-id`, `corpus-id`."""
    chosen = fates.filter(pc.starts_with(fates["fate"], "negative_"))
    return chosen.select(["kind", "query-id", "corpus-id"])


def margins(negatives: pa.Table, qrels: pa.Table, scores: pa.Table) -> dict[str, Floats]:
    """Kind -> the positive's score less each negative's, in order of size; NaN, last, where a score is missing.

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


def choose_scorer(
    scorers: list[str], named: str | None, margins_of: Callable[[str], Mapping[str, Floats]]
) -> tuple[str, Mapping[str, Floats]] | None:
    """The scorer that measures hardness, with its margins: the named one, or the first that scored all kinds.

    Args:
        scorers: those that the data set has scores of.
        named: by the user.
        margins_of: a scorer's.

    Returns:
        None where none was named and none has scored all kinds.

    Raises:
        UserError: the data set has no scores by the named one.
    """
    if named is not None:
        if named not in scorers:
            allowed = ", ".join(scorers) or "none"
            raise UserError(
                f"--scorer {named}: the data set has no configuration scores-{named}; it has scores by: {allowed}"
            )
        return named, margins_of(named)
    for scorer in sorted(scorers, key=lambda name: (name not in PREFERRED, [*PREFERRED, name].index(name), name)):
        found = margins_of(scorer)
        if found and all(scored_share(values) >= ENOUGH for values in found.values()):
            return scorer, found
    return None


def scored_share(values: Floats) -> float:
    """The share of margins that are known.

    >>> scored_share(np.array([0.5, np.nan]))
    0.5
    """
    return float(np.isfinite(values).mean()) if len(values) else 0.0


def figures(values: Floats) -> dict[str, Any]:
    """What one kind's margins say: how many, quantiles, and the share of negatives harder than the positive.

    >>> figures(np.array([-1.0, 1.0, 1.0, 3.0]))["harder"]
    0.25
    """
    known = values[np.isfinite(values)]
    result: dict[str, Any] = {"negatives": len(values), "scored": len(known)}
    if len(known):
        points = np.quantile(known, QUANTILES)
        result["quantiles"] = {
            f"{share:g}": round(float(point), 4) for share, point in zip(QUANTILES, points, strict=True)
        }
        result["harder"] = round(float((known < 0).mean()), 4)
    return result
