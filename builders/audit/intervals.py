"""Rates with their intervals: of a sample, of a difference, and of a sample that an imperfect judge has judged.

All intervals are two-sided and hold with `LEVEL` probability.
"""

from math import sqrt

import numpy as np
from msgspec import Struct
from scipy.stats import norm
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

LEVEL = 0.95
DIGITS = 6


class Rate(Struct, frozen=True):
    """A share of judged pairs.

    Attributes:
        judged: how many pairs have a verdict.
        relevant: how many of them the rate counts.
        rate: `relevant / judged`; None where nothing was judged.
        low: lower end of the Wilson interval, `high` its upper end; 0 and 1 where nothing was judged.
    """

    judged: int
    relevant: int
    rate: float | None
    low: float
    high: float


class Estimate(Struct, frozen=True):
    """An estimated rate or difference with its interval."""

    rate: float
    low: float
    high: float


def wilson(relevant: int, judged: int) -> Rate:
    """A rate with Wilson's score interval (doi 10.1080/01621459.1927.10502953).

    >>> wilson(10, 100)
    Rate(judged=100, relevant=10, rate=0.1, low=0.055229, high=0.174366)
    """
    if not judged:
        return Rate(0, 0, None, 0.0, 1.0)
    low, high = proportion_confint(relevant, judged, 1 - LEVEL, method="wilson")
    return Rate(judged, relevant, *(round(float(x), DIGITS) for x in (relevant / judged, low, high)))


def difference(rate: Rate, reference: Rate) -> Estimate | None:
    """How much higher a rate is than another, with Newcombe's hybrid score interval (his method 10).

    The two samples are taken as independent. Newcombe 1998, Statistics in Medicine 17, pages 873 to 890.

    >>> difference(wilson(56, 70), wilson(48, 80))  # the paper's example (a)
    Estimate(rate=0.2, low=0.052431, high=0.333873)
    """
    if not rate.judged or not reference.judged:
        return None
    counts = rate.relevant, rate.judged, reference.relevant, reference.judged
    low, high = confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=1 - LEVEL)
    return _estimate(rate.relevant / rate.judged - reference.relevant / reference.judged, low, high)


def rogan_gladen(found: Rate, sensitivity: Rate | None, specificity: Rate | None) -> Estimate | None:
    """The rate that an imperfect judge's verdicts speak for, given how often it errs.

    The estimate is that of Rogan and Gladen 1978 (doi 10.1093/oxfordjournals.aje.a112510),
    `(rate + specificity - 1) / (sensitivity + specificity - 1)`. The interval is by the delta method on adjusted
    counts, as of Lang and Reiczigel 2014 (doi 10.1016/j.prevetmed.2013.09.015), which holds its level for the few dozen
    pairs that a judge's errors are known from. Both are clipped to [0, 1].

    Args:
        found: the judge's rate over the sample.
        sensitivity: of relevant pairs, how many the judge calls relevant; from other pairs than the sample's.
        specificity: of pairs that are not, how many it calls so; from other pairs too.

    Returns:
        None where one of them is not known, or the judge is no better than a coin.

    >>> rogan_gladen(wilson(30, 100), wilson(90, 100), wilson(80, 100)).rate
    0.142857
    """
    if sensitivity is None or specificity is None:
        return None
    if found.rate is None or sensitivity.rate is None or specificity.rate is None:
        return None
    gain = sensitivity.rate + specificity.rate - 1
    z = float(norm.ppf((1 + LEVEL) / 2))
    judged = found.judged + z**2
    rate = (found.relevant + z**2 / 2) / judged
    se, se_judged = (sensitivity.relevant + 1) / (sensitivity.judged + 2), sensitivity.judged + 2
    sp, sp_judged = (specificity.relevant + 1) / (specificity.judged + 2), specificity.judged + 2
    if gain <= 0 or se + sp <= 1:
        return None
    centre = (rate + sp - 1) / (se + sp - 1)
    se_noise, sp_noise = se * (1 - se) / se_judged, sp * (1 - sp) / sp_judged
    noise = rate * (1 - rate) / judged + centre**2 * se_noise + (1 - centre) ** 2 * sp_noise
    half = z * sqrt(noise) / (se + sp - 1)
    centre += 2 * z**2 * (centre * se_noise - (1 - centre) * sp_noise)
    estimate = (found.rate + specificity.rate - 1) / gain
    at, middle, low, high = np.clip([estimate, centre, centre - half, centre + half], 0, 1)
    return _estimate(at, min(low, at, middle), max(high, at, middle))


def _estimate(rate: float, low: float, high: float) -> Estimate:
    return Estimate(*(round(float(x), DIGITS) for x in (rate, low, high)))
