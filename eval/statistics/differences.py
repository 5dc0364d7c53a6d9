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
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, permutation_test
from statsmodels.stats.power import TTestPower

from foils.comparison import Estimate
from foils.errors import UserError
from foils.metrics import CONFIDENCE, RESAMPLES, PerQuery, mean_interval

LEVEL = 1 - CONFIDENCE
POWER = 0.8
TIE = 1e-9
_BATCH = 500  # resamples at a time, so that memory stays flat in their number
_NAMED = 3

Floats = npt.NDArray[np.float64]


class Difference(NamedTuple):
    """A mean difference over queries, with its 95 % interval.

    The interval comes from resampling queries alone, so it speaks of other queries of this kind and not of other seeds.
    """

    mean: float
    low: float
    high: float


def paired_difference(first: PerQuery, second: PerQuery, metric: str) -> Difference:
    """The mean difference by query, with a bootstrap interval (percentile, 9,999 resamples, fixed seed)."""
    found = [first[query][metric] - second[query][metric] for query in second]
    return Difference(float(np.mean(found)), *mean_interval(found))


def differences(first: Sequence[PerQuery], second: Sequence[PerQuery], metric: str, what: str = "") -> Floats:
    """Differences by training and query `(n_seeds, n_queries)`.

    Args:
        first: per-query scores of an arm, one of each training.
        second: those of another, in the same order of seeds; a single one (an untrained model) is set against all.
        metric: printed name.
        what: names the pair and the task in errors.

    Raises:
        UserError: the runs were not measured on the same queries, or on a single one.
    """
    queries = list(first[0])
    if len(queries) < 2:  # noqa: PLR2004
        raise UserError(f"{what}: one judged query says nothing of others; name a task with two or more")
    for scores in (*first, *second):
        if scores.keys() != first[0].keys():
            odd = sorted(scores.keys() ^ first[0].keys())
            named = ", ".join(odd[:_NAMED]) + (", ..." if len(odd) > _NAMED else "")
            raise UserError(
                f"{what}: runs were measured on different queries ({len(scores)} and {len(queries)}; not in both: "
                f"{named}); measure them again on one revision of the task"
            )

    def table(runs: Sequence[PerQuery]) -> Floats:
        return np.array([[scores[query][metric] for query in queries] for scores in runs], np.float64)

    return table(first) - table(second)


class Trainings(NamedTuple):
    """The variance that trainings give a score or a difference, and the degrees of freedom it is known by."""

    variance: float
    freedom: int

    def of_difference(self, *seeds: int) -> "Trainings":
        """The same for the difference of two means over seeds, or of one mean to an untrained model."""
        return self._replace(variance=self.variance * sum(1 / count for count in seeds))


def pooled(arms: Sequence[Floats]) -> Trainings | None:
    """How much one training differs from another of the same arm; None where no arm was trained twice.

    Args:
        arms: scores of the trainings of each `(n_seeds,)`.
    """
    freedom = sum(len(scores) - 1 for scores in arms)
    if freedom == 0:
        return None
    return Trainings(float(sum(((scores - scores.mean()) ** 2).sum() for scores in arms) / freedom), freedom)


def estimate(
    by_task: Sequence[Floats], margin: float, trainings: Trainings | None = None, resamples: int = RESAMPLES
) -> Estimate:
    """What the differences of two arms say; the random numbers are the same in every call.

    Args:
        by_task: of each task `(n_seeds, n_queries)`, the same seeds in all.
        margin: below which a difference is of no account.
        trainings: of the mean difference, by the whole comparison; without it, by these differences alone.
        resamples: of bootstrap and randomization.
    """
    spread = _spread(by_task, trainings)
    mean = float(np.mean([task.mean() for task in by_task]))
    noise = _noise(by_task, spread, resamples)
    low, high = mean + np.quantile(noise, [LEVEL / 2, 1 - LEVEL / 2])
    multiple = _multiple(spread.freedom)
    allowed = (margin / multiple) ** 2
    by_query = np.concatenate([task.mean(axis=0) for task in by_task])
    return Estimate(
        mean=mean,
        low=float(low),
        high=float(high),
        p=max(_share(np.abs(noise) >= abs(mean)), _sign_flips(by_task, resamples)),
        p_equivalent=max(_share(mean + noise >= margin), _share(mean + noise <= -margin)),
        smallest=multiple * spread.total**0.5,
        seed_share=None if spread.seeds is None else spread.seeds / spread.total if spread.total else 0.0,
        wins=int((by_query > TIE).sum()),
        ties=int((np.abs(by_query) <= TIE).sum()),
        losses=int((by_query < -TIE).sum()),
        queries=len(by_query),
        seeds=len(by_task[0]),
        queries_needed=_needed(spread.queries * len(by_query), allowed - (spread.seeds or 0)),
        seeds_needed=None
        if spread.seeds is None
        else _needed(spread.seeds * len(by_task[0]), allowed - spread.queries),
    )


class _Spread(NamedTuple):
    """Variance of a mean difference: from queries and from trainings (None with one); its degrees of freedom."""

    queries: float
    trainings: Trainings | None
    freedom: float

    @property
    def seeds(self) -> float | None:
        return None if self.trainings is None else self.trainings.variance

    @property
    def total(self) -> float:
        return self.queries + (self.seeds or 0.0)


@cache
def _multiple(freedom: float) -> float:
    """The multiple of a standard error with `freedom` degrees of freedom that is found with the power wanted."""
    effect = TTestPower().solve_power(nobs=freedom + 1, alpha=LEVEL, power=POWER)
    return float(np.ravel(effect)[0] * np.sqrt(freedom + 1))


def _spread(by_task: Sequence[Floats], trainings: Trainings | None) -> _Spread:
    """Adds up both variances, with Satterthwaite's degrees of freedom for a sum of separate estimates."""
    seeds = len(by_task[0])
    if trainings is None and seeds > 1:
        trainings = Trainings(float(_by_training(by_task).var(ddof=1)) / seeds, seeds - 1)
    known = [
        (float(task.mean(axis=0).var(ddof=1)) / task.shape[1] / len(by_task) ** 2, task.shape[1] - 1)
        for task in by_task
    ]
    queries = sum(part for part, _ in known)
    known += [] if trainings is None else [trainings]
    divisor = sum(part**2 / freedom for part, freedom in known)
    total = sum(part for part, _ in known)
    return _Spread(queries, trainings, total**2 / divisor if divisor else float(sum(count for _, count in known)))


def _by_training(by_task: Sequence[Floats]) -> Floats:
    """The mean over tasks of each training `(n_seeds,)`."""
    return np.asarray(np.mean([task.mean(axis=1) for task in by_task], axis=0))


def _noise(by_task: Sequence[Floats], spread: _Spread, resamples: int) -> Floats:
    """Draws `(resamples,)` of the error of the mean difference."""
    choice = np.random.default_rng(0)
    noise = np.zeros(resamples)
    for task in by_task:
        means = task.mean(axis=0)
        if np.ptp(means) > 0:  # else there is nothing to resample
            centred = (means - means.mean()) * np.sqrt(len(means) / (len(means) - 1))
            noise += bootstrap(
                (centred,), np.mean, n_resamples=resamples, batch=_BATCH, method="percentile", rng=choice
            ).bootstrap_distribution / len(by_task)
    if spread.trainings is not None:
        noise += choice.standard_t(spread.trainings.freedom, resamples) * spread.trainings.variance**0.5
    return noise


def _sign_flips(by_task: Sequence[Floats], resamples: int) -> float:
    """The p of no difference by a randomization test over queries, each counted as it counts in the mean over tasks."""
    weighted = np.concatenate([task.mean(axis=0) / task.shape[1] / len(by_task) for task in by_task])
    if not np.any(weighted):
        return 1.0
    found = permutation_test(
        (weighted,), np.sum, permutation_type="samples", n_resamples=resamples, batch=_BATCH, rng=0, vectorized=True
    )
    return float(found.pvalue)


def _share(hits: npt.NDArray[np.bool_]) -> float:
    """A p from draws, never 0."""
    return float((hits.sum() + 1) / (len(hits) + 1))


def _needed(variance_of_one: float, allowed: float) -> int | None:
    """The number that gives no more than the variance that is allowed; None if no number does."""
    return int(np.ceil(variance_of_one / allowed)) if allowed > 0 else None
