"""What paired scores allow to say of two arms: intervals, tests, and what the experiment could have seen at all.

An arm's score varies with the queries that were asked and with the trainings (seeds) that were run; both are samples.
The difference of two arms is therefore taken by query and seed, and its uncertainty is put together from both:

- queries are resampled (bootstrap);
- trainings are drawn from Student's t around their mean: three values have ten different resamples, which understate
  their spread by a third, so the bootstrap of few seeds is parametric here. How much trainings vary is best estimated
  from all arms of a comparison together (`pooled`), which takes it to be alike for all.

Both parts hold the interaction of query and seed, so the interval is a little too wide rather than too narrow.
"""

from collections.abc import Sequence
from functools import cache
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, norm, permutation_test
from statsmodels.stats.power import TTestPower

from foils.metrics import CONFIDENCE, RESAMPLES
from foils.verdicts import Estimate

LEVEL = 1 - CONFIDENCE
POWER = 0.8
TIE = 1e-9
_AT_MOST = 0.8  # share of the variance that may be left: what is undecided takes more, whatever its interval says
_BATCH = 500  # resamples at a time, so that memory stays flat in their number

Floats = npt.NDArray[np.float64]


class Spread(NamedTuple):
    """A variance, and the degrees of freedom that it is known by."""

    variance: float
    freedom: int


def pooled(arms: Sequence[Floats]) -> Spread | None:
    """How much one training differs from another of the same arm; None where no arm was trained twice.

    Args:
        arms: scores of the trainings of each `(n_seeds,)`.
    """
    freedom = sum(len(scores) - 1 for scores in arms)
    if freedom == 0:
        return None
    return Spread(float(sum(((scores - scores.mean()) ** 2).sum() for scores in arms) / freedom), freedom)


def estimate(
    by_task: Sequence[Floats], margin: float, trainings: Spread | None, resamples: int = RESAMPLES
) -> Estimate:
    """What the differences of two arms say; the random numbers are the same in every call.

    Args:
        by_task: of each task `(n_seeds, n_queries)`, the same seeds in all.
        margin: below which a difference is of no account.
        trainings: what trainings add to the variance of the mean difference; None where no arm was trained twice.
        resamples: of bootstrap and randomization.
    """
    means = [task.mean(axis=0) for task in by_task]
    by_query, mean = np.concatenate(means), float(np.mean([task.mean() for task in by_task]))
    spreads = [Spread(float(each.var(ddof=1)) / len(each) / len(means) ** 2, len(each) - 1) for each in means]
    queries, seeds = sum(each.variance for each in spreads), 0.0 if trainings is None else trainings.variance
    multiple = _multiple(_freedom(spreads if trainings is None else [*spreads, trainings]))
    total = queries + seeds
    noise = _noise(means, trainings, resamples)
    low, high = mean + np.quantile(noise, [LEVEL / 2, 1 - LEVEL / 2])
    return Estimate(
        mean=mean,
        low=float(low),
        high=float(high),
        p=max(_share(np.abs(noise) >= abs(mean)), _sign_flips(means, resamples)),
        p_equivalent=max(_share(mean + noise >= margin), _share(mean + noise <= -margin)),
        smallest=multiple * total**0.5,
        seed_share=None if trainings is None else seeds / total if total else 0.0,
        wins=int((by_query > TIE).sum()),
        ties=int((np.abs(by_query) <= TIE).sum()),
        losses=int((by_query < -TIE).sum()),
        queries=len(by_query),
        seeds=len(by_task[0]),
    )


def needed(found: Estimate, margin: float, pairs: int = 1) -> tuple[list[tuple[int, int]], float]:
    """The numbers of queries and seeds, each pair of them one way, that would decide a pair with a power of 80 %.

    Decided is a pair that certainly differs or certainly does not by as much as the margin, whichever is nearer.

    Args:
        found: as it was estimated.
        margin: below which a difference is of no account.
        pairs: of the family, over which Holm's correction is made.

    Returns:
        The ways, more queries alone first, and the difference that they would find.
    """
    size = max(abs(found.mean), margin - abs(found.mean))
    stricter = (norm.isf(LEVEL / 2 / pairs) + norm.ppf(POWER)) / (norm.isf(LEVEL / 2) + norm.ppf(POWER))
    share = (size / stricter / found.smallest) ** 2 if found.smallest else 1.0  # of today's variance that is allowed
    allowed = min(share, _AT_MOST)
    by_seed = found.seed_share or 0.0
    ways = []
    if allowed > by_seed:
        ways.append((ceil(found.queries * (1 - by_seed) / (allowed - by_seed)), found.seeds))
    if by_seed and allowed > 1 - by_seed:
        ways.append((found.queries, ceil(found.seeds * by_seed / (allowed - (1 - by_seed)))))
    return ways or [(ceil(found.queries / allowed), ceil(found.seeds / allowed))], size


@cache
def _multiple(freedom: float) -> float:
    """The multiple of a standard error with `freedom` degrees of freedom that is found with the power wanted."""
    effect = TTestPower().solve_power(nobs=freedom + 1, alpha=LEVEL, power=POWER)
    return float(np.ravel(effect)[0] * np.sqrt(freedom + 1))


def _freedom(spreads: Sequence[Spread]) -> float:
    """Satterthwaite's degrees of freedom for a sum of separate estimates."""
    divisor = sum(variance**2 / freedom for variance, freedom in spreads)
    total = sum(each.variance for each in spreads)
    return total**2 / divisor if divisor else float(sum(each.freedom for each in spreads))


def _noise(means: Sequence[Floats], trainings: Spread | None, resamples: int) -> Floats:
    """Draws `(resamples,)` of the error of the mean difference; `means` are differences by query, of each task."""
    choice = np.random.default_rng(0)
    noise = np.zeros(resamples)
    for each in means:
        if np.ptp(each) > 0:  # else there is nothing to resample
            centred = (each - each.mean()) * np.sqrt(len(each) / (len(each) - 1))
            noise += bootstrap(
                (centred,), np.mean, n_resamples=resamples, batch=_BATCH, method="percentile", rng=choice
            ).bootstrap_distribution / len(means)
    if trainings is not None:
        noise += choice.standard_t(trainings.freedom, resamples) * trainings.variance**0.5
    return noise


def _sign_flips(means: Sequence[Floats], resamples: int) -> float:
    """The p of no difference by a randomization test over queries, each counted as it counts in the mean over tasks."""
    weighted = np.concatenate([each / len(each) / len(means) for each in means])
    if not np.any(weighted):
        return 1.0
    found = permutation_test(
        (weighted,), np.sum, permutation_type="samples", n_resamples=resamples, batch=_BATCH, rng=0, vectorized=True
    )
    return float(found.pvalue)


def _share(hits: npt.NDArray[np.bool_]) -> float:
    """A p from draws, never 0."""
    return float((hits.sum() + 1) / (len(hits) + 1))


def rounded(count: int) -> int:
    """Rounds up to two digits, as estimates of variances are no better.

    >>> rounded(12345), rounded(7)
    (13000, 7)
    """
    step: int = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // step) * step
