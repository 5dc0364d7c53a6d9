"""From a few measured passages to the whole build: totals, and how far off they may be.

All that one passage costs, its queries and their negatives, is one row, and rows are resampled whole: a passage whose
query was rejected has no negatives, so acceptance shares go from stage to stage in every resample.

    forecast = Forecast(measured, prices, seed)
    forecast.total(TOKENS_IN), forecast.money("queries")
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from builders.llm.config import PricesConfig
from builders.llm.ledger import HOUR_S, MILLION

Floats = npt.NDArray[np.float64]
ROWS, CALLS, TOKENS_IN, TOKENS_OUT, SECONDS = FIGURES = range(5)
"""What is measured per passage and stage: rows, calls, tokens in and out, seconds in calls."""
LEVEL = 0.9
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A figure of the whole build with the ends of its 90 % interval; all three are equal where it is known."""

    value: float
    low: float
    high: float


class Measured(NamedTuple):
    """What a sample of a build's seed passages cost.

    Attributes:
        stages: names along the second axis of `figures`.
        figures: `(n_passages, n_stages, 5)`.
        once: `(n_stages, 5)`, what is paid once, however many passages there are.
        unseen: `(n_kinds, n_stages, 5)`, kinds of passages that the sample might have held and did not, see
            `draw_totals`.
        concurrency: `(n_stages,)`, calls in flight at once on average; at least 1.
        population: seed passages of the whole build.
    """

    stages: tuple[str, ...]
    figures: Floats
    once: Floats
    unseen: Floats
    concurrency: Floats
    population: int


class Forecast:
    """The whole build's figures, each with its interval."""

    def __init__(self, measured: Measured, prices: PricesConfig, seed: int) -> None:
        self._sampled, *shape = measured.figures.shape
        rows, unseen = (part.reshape(len(part), math.prod(shape)) for part in (measured.figures, measured.unseen))
        value = rows.sum(axis=0) + (measured.population - self._sampled) * rows.mean(axis=0)
        draws = draw_totals(rows, unseen, measured.population, np.random.default_rng(seed))
        self._totals = np.vstack([value, draws]).reshape(-1, *shape) + measured.once  # the estimate, then the draws
        self._stages = measured.stages
        self._concurrency = measured.concurrency
        self._prices = prices

    def total(self, figure: int, stage: str | None = None) -> Estimate:
        """One of `FIGURES` of a stage, or of all."""
        return self._estimate(self._sum(self._totals[:, :, figure], stage))

    def wall(self, stage: str | None = None) -> Estimate:
        """Seconds during which calls of a stage are in flight, or of all stages, which follow each other."""
        return self._estimate(self._sum(self._wall(), stage))

    def money(self, stage: str | None = None) -> Estimate:
        """What a stage costs, or all of them."""
        return self._estimate(self._sum(self._money(), stage))

    def money_per(self, stage: str) -> Estimate:
        """What all stages cost for each row of this one; an end is infinite where there may be no row."""
        rows = self._sum(self._totals[:, :, ROWS], stage)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._estimate(self._sum(self._money(), None) / rows)

    def _wall(self) -> Floats:
        wall: Floats = self._totals[:, :, SECONDS] / self._concurrency
        return wall

    def _money(self) -> Floats:
        prices = self._prices
        read, written = self._totals[:, :, TOKENS_IN], self._totals[:, :, TOKENS_OUT]
        money: Floats = (read * prices.input + written * prices.output) / MILLION + self._wall() * prices.hour / HOUR_S
        return money

    def _sum(self, by_stage: Floats, stage: str | None) -> Floats:
        summed: Floats = by_stage.sum(axis=1) if stage is None else by_stage[:, self._stages.index(stage)]
        return summed

    def _estimate(self, figures: Floats) -> Estimate:
        return interval(float(figures[0]), figures[1:], self._sampled)


def draw_totals(
    rows: Floats, unseen: Floats, population: int, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Floats:
    """Totals that a population may have of which `rows` were sampled: those count as they are, the rest is drawn.

    Each resample draws the sample anew, and from that the rows that were not sampled, so its spread is that of a sum
    over a finite population. A resample never holds what no sampled row was; of each such kind, its share among the
    others is drawn with the upper 95 % limit that the binomial distribution sets after 0 of n (see `at_most`).

    Args:
        rows: `(n, n_figures)`, the sampled.
        unseen: `(n_kinds, n_figures)`, kinds of rows of which the sample holds none.
        population: how many rows there are, the sampled included.
        rng: where chance comes from.
        resamples: how often.

    Returns:
        `(resamples, n_figures)`.

    >>> draw_totals(np.array([[1.0], [2.0]]), np.empty((0, 1)), 2, np.random.default_rng(1), resamples=2).tolist()
    [[3.0], [3.0]]
    """
    n = len(rows)
    shares = rng.beta(1, n, (resamples, len(unseen)))
    shares /= np.maximum(1.0, shares.sum(axis=1, keepdims=True))
    drawn = rng.multinomial(n, np.full(n, 1 / n), resamples) / n * (1 - shares.sum(axis=1, keepdims=True))
    chances = np.hstack([drawn, shares])
    counts = rng.multinomial(population - n, chances / chances.sum(axis=1, keepdims=True))
    totals: Floats = rows.sum(axis=0) + counts @ np.vstack([rows, unseen])
    return totals


def interval(value: float, draws: Floats, sampled: int) -> Estimate:
    """The 90 % interval around an estimate: percentiles, set wider for small samples.

    The ends are those of Hesterberg's expanded percentile interval (arXiv 1411.5279, section 5.3), which has the width
    that Student's t would give where the plain one is too narrow; they keep the draws' skewness.

    Args:
        value: the estimate.
        draws: `(resamples,)`.
        sampled: how many rows the draws rest on.

    >>> interval(5.0, np.arange(11.0), 1000)
    Estimate(value=5.0, low=0.0, high=10.0)
    """
    tail = expanded_tail(sampled)
    low = float(np.quantile(draws, tail, method="lower"))
    high = float(np.quantile(draws, 1 - tail, method="higher"))
    return Estimate(value, min(low, value), max(high, value))


def expanded_tail(sampled: int) -> float:
    """The share of draws beyond each end of the interval; towards 0.05 for large samples.

    >>> [round(expanded_tail(sampled), 3) for sampled in (2, 24, 1000)]
    [0.0, 0.04, 0.05]
    """
    if sampled < 2:  # noqa: PLR2004 - one row tells nothing of the spread
        return 0.0
    return float(norm.cdf(np.sqrt(sampled / (sampled - 1)) * t.ppf((1 - LEVEL) / 2, sampled - 1)))


def at_most(sampled: int) -> float:
    """The largest share, at 95 %, of what 0 of so many sampled rows were: the rule of three, about 3 / n, exactly.

    >>> round(at_most(24), 3), round(at_most(300), 4)
    (0.117, 0.0099)
    """
    return float(1 - ((1 - LEVEL) / 2) ** (1 / sampled))
