"""From a few measured passages to the whole build: totals, and how far off they may be.

All that one passage costs, its queries and their negatives, is one row; a total is the mean row times the passages.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from builders.llm.config import PricesConfig
from builders.llm.ledger import HOUR_S, MILLION

Floats = npt.NDArray[np.float64]
ROWS, CALLS, TOKENS_IN, TOKENS_OUT, SECONDS = FIGURES = range(5)
"""What is measured per passage and stage: rows, calls, tokens in and out, seconds in calls."""
LEVEL = 0.9


class Estimate(NamedTuple):
    """A figure of the whole build with the half width of its 90 % interval; 0 where it is known."""

    value: float
    margin: float


class Measured(NamedTuple):
    """What a sample of a build's seed passages cost.

    Attributes:
        stages: names along the second axis of `figures`.
        figures: `(n_passages + 1, n_stages, 5)`; the last row is what is paid once, however many passages there are.
        concurrency: `(n_stages,)`, calls in flight at once on average; at least 1.
        population: seed passages of the whole build.
    """

    stages: tuple[str, ...]
    figures: Floats
    concurrency: Floats
    population: int

    @property
    def sampled(self) -> int:
        """The sampled passages."""
        return len(self.figures) - 1

    def total(self, figure: int, stage: str | None = None) -> Estimate:
        """One of `FIGURES` of a stage, or of all."""
        return self._total(self.figures[:, :, figure], stage)

    def wall(self, stage: str | None = None) -> Estimate:
        """Seconds during which calls of a stage are in flight, or of all stages, which follow each other."""
        return self._total(self._wall(), stage)

    def money(self, prices: PricesConfig, stage: str | None = None) -> Estimate:
        """What a stage costs, or all of them."""
        read, written = self.figures[:, :, TOKENS_IN], self.figures[:, :, TOKENS_OUT]
        tokens = (read * prices.input + written * prices.output) / MILLION
        return self._total(tokens + self._wall() * prices.hour / HOUR_S, stage)

    def _wall(self) -> Floats:
        seconds: Floats = self.figures[:, :, SECONDS] / self.concurrency
        return seconds

    def _total(self, by_stage: Floats, stage: str | None) -> Estimate:
        """The total of rows by stage, the last of which is paid once."""
        rows = by_stage.sum(axis=1) if stage is None else by_stage[:, self.stages.index(stage)]
        value, margin = total_of(rows[:-1], self.population)
        return Estimate(value + float(rows[-1]), margin)


def total_of(rows: Floats, population: int) -> Estimate:
    """The sum over a population of which some rows were sampled at random, with Student's t.

    The sampled rows are known. The others are estimated by the mean, with a prediction interval for their sum.

    >>> total_of(np.array([1.0, 2.0]), 2)
    Estimate(value=3.0, margin=0.0)
    >>> total_of(np.array([2.0, 2.0, 2.0]), 10)
    Estimate(value=20.0, margin=0.0)
    """
    n, left = len(rows), population - len(rows)
    value = float(rows.sum() + left * rows.mean())
    if not left:
        return Estimate(value, 0.0)
    error = float(rows.std(ddof=1)) * left * math.sqrt(1 / n + 1 / left)
    return Estimate(value, float(t.ppf((1 + LEVEL) / 2, n - 1)) * error)


def at_most(sampled: int) -> float:
    """The largest share, at 95 %, of what 0 of `sampled` rows were: the rule of three, about 3 / n, exactly.

    >>> round(at_most(24), 3), round(at_most(300), 4)
    (0.117, 0.0099)
    """
    return float(1 - ((1 - LEVEL) / 2) ** (1 / sampled))
