"""Verdicts: the words, Holm's correction over the family, and what would decide what is undecided."""

import re

import numpy as np
import pytest
from msgspec.structs import replace

from eval.statistics.differences import Spread, estimate
from eval.statistics.tables import verdicts
from foils.verdicts import BASE

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


def test_pairs_among_arms_take_nothing_from_what_is_known_beside_the_base():
    beside = {("a", BASE): found(0.013, 0.1), ("b", BASE): found(0.0, 0.1)}
    among = {(f"x{n}", f"y{n}"): found(0.0, 0.1) for n in range(20)}
    alone, (first, *_) = verdicts(beside, MARGIN), verdicts(beside | among, MARGIN)
    assert (first.word, first.p) == (alone[0].word, alone[0].p) == ("better", pytest.approx(2 * beside["a", BASE].p))


@pytest.mark.parametrize(
    ("mean", "seeds", "text", "said"),
    [
        (-0.05, 1, "a is worse in this training than b (-0.05", "worse in this training"),
        (0.0, 1, "a and b are equivalent in this training within 0.01", "equivalent in this training"),
        (-0.05, 2, "a is worse than b (-0.05", "worse"),
        (-0.05, 0, "a is worse than b (-0.05", "worse"),  # of two given models
    ],
)
def test_what_one_seed_decides_holds_for_this_training_alone(mean, seeds, text, said):
    (verdict,) = verdicts({("a", "b"): replace(found(mean, 0.02), seeds=seeds)}, MARGIN)
    assert verdict.text.startswith(text)
    assert verdict.said == said


def test_an_order_that_depends_on_shared_words_is_not_decided():
    pair, whole = ("a", "b"), found(0.05, 0.1)
    halves = [{pair: found(mean, 0.1, queries=200)} for mean in (-0.01, 0.11)]
    (verdict,) = verdicts({pair: whole}, MARGIN, halves)
    assert (verdict.word, verdict.turned) == ("undecided", True)
    assert "+0.1100 on the half of the queries that shares most words with its passages, -0.0100 on" in verdict.text
    same = [{pair: found(mean, 0.1, queries=200)} for mean in (0.001, 0.11)]
    assert verdicts({pair: whole}, MARGIN, same)[0].word == "better"


def test_advice_has_numbers_of_queries_and_seeds():
    choice = np.random.default_rng(3)
    noise = choice.normal(0, 0.1, (2, 100)) + np.array([[0.05], [-0.05]])
    (verdict,) = verdicts({("a", "b"): estimate([noise], MARGIN, Spread(0.0025, 1))}, MARGIN)
    assert re.search(r"it takes about [\d,]+ queries in place of 100 and [\d,]+ seeds in place of 2\.$", verdict.text)


def test_queries_too_few_for_any_test_are_not_said_to_be_enough():
    (verdict,) = verdicts({("a", "b"): estimate([np.full((1, 4), 0.05)], MARGIN, None)}, MARGIN)
    assert verdict.word == "undecided"  # of four signs none is certain
    assert verdict.text.endswith("it takes about 5 queries in place of 4.")
