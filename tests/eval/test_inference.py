"""Are the intervals and tests as sure as they say? Asked of simulated experiments, whose truth is known."""

import numpy as np
import pytest

from eval.statistics.differences import Spread, estimate, needed

MARGIN = 0.01
EXPERIMENTS = 125


def simulated(choice, *, mean=0.0, seeds=3, queries=60, by_seed=0.0, by_query=0.1, rest=0.03):
    """Differences with a part of each training, one of each query, and one of both together."""
    return (
        mean
        + choice.normal(0, by_seed, (seeds, 1))
        + choice.normal(0, by_query, (1, queries))
        + choice.normal(0, rest, (seeds, queries))
    )


def estimated(by_task, **how):
    """What the differences say if nothing but them says how much trainings vary."""
    by_training, seeds = np.mean([task.mean(axis=1) for task in by_task], axis=0), len(by_task[0])
    trainings = Spread(by_training.var(ddof=1) / seeds, seeds - 1) if seeds > 1 else None
    return estimate(by_task, MARGIN, trainings, **how)


def many(tasks=1, count=EXPERIMENTS, **how):
    choice = np.random.default_rng(5)
    return [estimated([simulated(choice, **how) for _ in range(tasks)], resamples=999) for _ in range(count)]


def at_most(level, count=EXPERIMENTS):
    """More than this would be seen once in some two hundred times if the level holds."""
    return level * count + 2.6 * (level * (1 - level) * count) ** 0.5


def about(share, count=EXPERIMENTS):
    """Further away it would be once in a hundred times if the share is true."""
    return pytest.approx(share, abs=2.6 * (share * (1 - share) / count) ** 0.5)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"by_seed": 0.01},
        {"by_seed": 0.05},
        {"by_seed": 0.05, "seeds": 2},
        {"seeds": 1},
        {"tasks": 3},
    ],
    ids=str,
)
def test_no_more_false_alarms_than_the_level_says(how):
    found = many(**how)
    assert sum(each.p <= 0.05 for each in found) <= at_most(0.05)
    assert sum(not each.low <= 0 <= each.high for each in found) <= at_most(0.05)


def test_queries_alone_would_raise_false_alarms_where_trainings_differ():
    choice = np.random.default_rng(5)
    runs = [simulated(choice, by_seed=0.05) for _ in range(100)]
    blind = [estimated([run.mean(axis=0, keepdims=True)], resamples=999) for run in runs]
    assert sum(each.p <= 0.05 for each in blind) > 30


def test_equal_arms_are_found_equivalent_as_often_as_the_test_is_strong():
    found = many(queries=200, seeds=1, by_query=0.05, rest=0.0)
    share = sum(each.p_equivalent <= 0.05 for each in found) / EXPERIMENTS
    assert share == about(0.762)  # 2 * Phi(margin / standard error - 1.645) - 1


def test_a_difference_of_the_margin_is_seldom_called_none():
    for mean in (MARGIN, -MARGIN):
        found = many(mean=mean, queries=200, by_query=0.03, by_seed=0.003)
        assert sum(each.p_equivalent <= 0.05 for each in found) <= at_most(0.05)


def test_the_smallest_difference_is_found_four_times_in_five():
    size = float(np.median([each.smallest for each in many(queries=150, seeds=1)]))
    found = many(queries=150, seeds=1, mean=size)
    assert sum(each.p <= 0.05 for each in found) / EXPERIMENTS == about(0.8)


def test_what_is_needed_is_enough():
    enough = [
        needed(each, MARGIN)[0][0][0] for each in many(queries=100, seeds=1, by_query=0.05, rest=0.0, mean=MARGIN)
    ]
    wanted = int(np.median(enough))
    found = many(queries=wanted, seeds=1, by_query=0.05, rest=0.0, mean=MARGIN)
    assert sum(each.p <= 0.05 for each in found) / EXPERIMENTS == about(0.8)


def test_the_share_of_seeds():
    assert np.median([each.seed_share for each in many(by_seed=0.05)]) > 0.6
    assert np.median([each.seed_share for each in many(by_seed=0.0)]) < 0.1
    assert many(seeds=1, count=1)[0].seed_share is None


def test_the_interval_of_one_training_is_that_of_its_queries():
    task = simulated(np.random.default_rng(1), mean=0.02, seeds=1, queries=900)
    found = estimated([task])
    half = 1.96 * task.std(ddof=1) / 30
    assert (found.low, found.high) == pytest.approx((task.mean() - half, task.mean() + half), abs=0.0005)
    assert (found.wins, found.ties, found.losses) == (int((task > 0).sum()), 0, int((task < 0).sum()))


def test_tasks_count_alike_whatever_their_number_of_queries():
    choice = np.random.default_rng(1)
    small, large = simulated(choice, mean=0.3, queries=20), simulated(choice, mean=-0.1, queries=500)
    found = estimated([small, large])
    assert found.mean == pytest.approx((small.mean() + large.mean()) / 2)
    assert found.queries == 520


def test_no_difference_at_all():
    found = estimated([np.zeros((2, 5))])
    assert (found.mean, found.low, found.high, found.p, found.ties) == (0, 0, 0, 1, 5)
    assert found.p_equivalent < 0.001


def test_a_shift_of_every_query_alike_is_certain():
    found = estimated([np.full((2, 50), 0.02)])
    assert found.low == pytest.approx(found.high)
    assert found.p < 0.001
