"""Verdicts: the words, Holm's correction over the family, and what would decide what is undecided."""

import re

import numpy as np
import pytest

from eval.statistics.differences import Spread, estimate
from eval.statistics.tables import verdicts

MARGIN = 0.01


def found(mean, spread, queries=400, seeds=2):
    choice = np.random.default_rng(3)
    noise = choice.normal(0, spread, (1, queries)) + choice.normal(0, spread / 10, (seeds, queries))
    trainings = Spread(noise.mean(axis=1).var(ddof=1) / seeds, seeds - 1)
    return estimate([noise - noise.mean() + mean], MARGIN, trainings)


@pytest.mark.parametrize(
    ("mean", "spread", "word", "text"),
    [
        (0.05, 0.1, "better", r"^a is better than b \(\+0\.0500, 95 % interval \+0\.0\d+ to \+0\.0\d+\)\.$"),
        (-0.05, 0.1, "worse", r"^a is worse than b \(-0\.0500"),
        (0.004, 0.01, "better", r"though by less than 0\.01\.$"),
        (0.0, 0.02, "equivalent", r"^a and b are equivalent within 0\.01 \([+-]0\.0000"),
        (0.0, 0.2, "undecided", r"to find 0\.01 with a power of 80 % it takes about 3,\d00 queries in place of 400\.$"),
    ],
)
def test_words(mean, spread, word, text):
    (verdict,) = verdicts({("a", "b"): found(mean, spread)}, MARGIN)
    assert verdict.word == word
    assert re.search(text, verdict.text), verdict.text


def test_a_family_asks_for_more_than_a_pair():
    alone = found(0.011, 0.1)
    assert 0.01 < alone.p < 0.05
    (single,) = verdicts({("a", "b"): alone}, MARGIN)
    assert single.word == "better"
    family = {("a", "b"): alone, **{("a", str(n)): found(0.0, 0.1) for n in range(9)}}
    assert verdicts(family, MARGIN)[0].word == "undecided"
    assert verdicts(family, MARGIN)[0].p == pytest.approx(10 * alone.p)
    assert "by itself it would count (p 0.0" in verdicts(family, MARGIN)[0].text


def test_no_pairs():
    assert verdicts({}, MARGIN) == []
