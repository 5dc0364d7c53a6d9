"""Differences between two models on the same queries, with their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from foils.metrics import PerQuery, mean_interval

TIE = 1e-9


class Difference(Struct, frozen=True):
    """A mean difference over queries.

    Attributes:
        mean: arm minus base.
        low: lower end of the 95 % interval, `high` its upper end; from resampling queries alone, so it speaks of other
            queries of this kind and not of other seeds.
        wins: queries on which the arm is better; `losses`: worse; the rest are ties.
    """

    mean: float
    low: float
    high: float
    wins: int
    losses: int


def mean_over_seeds(runs: Sequence[PerQuery], metric: str) -> dict[str, float]:
    """Query id -> mean of a metric over several trainings of the same arm."""
    return {query: float(np.mean([scores[query][metric] for scores in runs])) for query in runs[0]}


def paired_difference(arm: Mapping[str, float], base: Mapping[str, float]) -> Difference:
    """The mean difference by query, with a bootstrap interval (percentile, 9,999 resamples, fixed seed).

    Args:
        arm: query id -> score.
        base: the same queries -> score.
    """
    differences = np.array([arm[query] - base[query] for query in base])
    low, high = mean_interval(differences.tolist())
    return Difference(
        float(differences.mean()), low, high, int((differences > TIE).sum()), int((differences < -TIE).sum())
    )
