"""Intervals of the audit: against published values, and by how often they hold the truth."""

import numpy as np
import pytest

from builders.audit.intervals import difference, rogan_gladen, wilson

SIMULATIONS = 1500


@pytest.mark.parametrize(
    ("relevant", "judged", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 857 to 872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_values(relevant, judged, low, high):
    rate = wilson(relevant, judged)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 873 to 890, table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_newcombe_gives_the_published_values(first, second, low, high):
    found = difference(wilson(*first), wilson(*second))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_a_perfect_judge_needs_no_correction():
    corrected = rogan_gladen(wilson(12, 100), wilson(1000, 1000), wilson(1000, 1000))
    assert corrected.rate == 0.12
    assert (corrected.low, corrected.high) == pytest.approx((wilson(12, 100).low, wilson(12, 100).high), abs=0.02)


@pytest.mark.parametrize(("share", "sensitivity", "specificity"), [(0.05, 0.8, 0.9), (0.2, 0.6, 0.95), (0.5, 0.9, 0.7)])
def test_the_corrected_rate_is_right_on_average_and_its_interval_holds_the_truth(share, sensitivity, specificity):
    dice, judged = np.random.default_rng(11), 100
    called = share * sensitivity + (1 - share) * (1 - specificity)
    counts = zip(
        dice.binomial(judged, called, SIMULATIONS),
        dice.binomial(judged, sensitivity, SIMULATIONS),
        dice.binomial(judged, specificity, SIMULATIONS),
        strict=True,
    )
    estimates = [rogan_gladen(*(wilson(int(count), judged) for count in row)) for row in counts]
    assert np.mean([one.low <= share <= one.high for one in estimates]) >= 0.94
    assert np.median([one.rate for one in estimates]) == pytest.approx(share, abs=0.02)
    assert all(0 <= one.low <= one.rate <= one.high <= 1 for one in estimates)


def test_without_verdicts_and_by_a_judge_like_a_coin_nothing_is_claimed():
    nothing, known, coin = wilson(0, 0), wilson(9, 10), wilson(50, 100)
    assert (nothing.rate, nothing.low, nothing.high) == (None, 0.0, 1.0)
    assert rogan_gladen(nothing, known, known) is None
    assert rogan_gladen(known, None, known) is None
    assert rogan_gladen(known, nothing, known) is None
    assert difference(known, nothing) is None
    assert rogan_gladen(coin, coin, coin) is None
    assert rogan_gladen(coin, wilson(20, 100), wilson(60, 100)) is None
