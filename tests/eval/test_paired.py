"""Paired differences and their intervals."""

import random

import pytest

from eval.paired import mean_over_seeds, paired_difference


def test_mean_wins_and_interval():
    lots = random.Random(2)
    base = {f"q{n}": lots.random() for n in range(400)}
    arm = {query: score + lots.gauss(0.1, 0.2) for query, score in base.items()}
    found = paired_difference(arm, base)
    differences = [arm[query] - base[query] for query in base]
    mean = sum(differences) / 400
    half = 1.96 * (sum((d - mean) ** 2 for d in differences) / 399 / 400) ** 0.5
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), abs=0.003)
    assert found.wins == sum(d > 0 for d in differences)
    assert found.wins + found.losses == 400


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    lots = random.Random(11)
    covered = 0
    for _ in range(60):
        base = {f"q{n}": 0.0 for n in range(80)}
        found = paired_difference({query: lots.gauss(0.05, 0.2) for query in base}, base)
        covered += found.low <= 0.05 <= found.high
    assert 51 <= covered <= 60


def test_no_difference_at_all():
    found = paired_difference({"a": 0.5, "b": 0.1}, {"a": 0.5, "b": 0.1})
    assert (found.mean, found.low, found.high, found.wins, found.losses) == (0.0, 0.0, 0.0, 0, 0)


def test_seeds_are_averaged_by_query():
    runs = [{"a": {"nDCG@10": 0.2}, "b": {"nDCG@10": 1.0}}, {"a": {"nDCG@10": 0.4}, "b": {"nDCG@10": 0.0}}]
    assert mean_over_seeds(runs, "nDCG@10") == pytest.approx({"a": 0.3, "b": 0.5})
