"""Tables and verdicts of whole comparisons, on simulated scores whose truth is known."""

import numpy as np
import pytest

from eval.statistics.tables import OVERALL, Measured, tables
from foils.errors import UserError
from foils.metrics import REPORTED
from foils.verdicts import BASE

ARMS = ("none", "random", "bm25", "llm")
MARGIN = 0.01


def experiment(choice, tasks=("t",), seeds=3, queries=80, by_seed=0.004, **lift):
    """A base and four arms; every training has an effect of its own on all tasks alike."""
    found = []
    shifts = {arm: choice.normal(lift.get(arm, 0), by_seed, seeds) for arm in ARMS}
    for task in tasks:
        base = choice.uniform(0.2, 0.8, queries)

        def scored(values):
            return {f"q{n}": dict.fromkeys(REPORTED, v) for n, v in enumerate(values)}

        runs = {BASE: {0: scored(base)}}
        for arm, own in shifts.items():
            tastes = choice.normal(0, 0.05, queries)
            tastes -= tastes.mean() if lift else 0
            noise = choice.normal(0, 0.02, (seeds, queries))
            runs[arm] = {seed: scored(base + tastes + own[seed] + noise[seed]) for seed in range(seeds)}
        found.append(Measured(task, "r", runs))
    return found


def words(table, *pair):
    return next(verdict.word for verdict in table.verdicts if (verdict.first, verdict.second) == pair)


@pytest.mark.parametrize("by_seed", [0.0, 0.01])
def test_a_whole_comparison_of_equal_arms_raises_one_false_alarm_in_twenty_at_most(by_seed):
    choice = np.random.default_rng(8)
    alarms = 0
    for _ in range(30):
        (table,) = tables(experiment(choice, by_seed=by_seed), MARGIN, resamples=999)
        alarms += any(verdict.word in {"better", "worse"} for verdict in table.verdicts)
    assert alarms <= 4  # more would be seen once in some sixty times if the level is just held


def test_what_is_there_is_found():
    (table,) = tables(experiment(np.random.default_rng(2), queries=300, bm25=0.05, llm=-0.05), MARGIN)
    assert words(table, "bm25", BASE) == "better"
    assert words(table, "llm", BASE) == "worse"
    assert words(table, "llm", "bm25") == "worse"
    assert len(table.verdicts) == 10
    rows = {row.arm: row for row in table.rows}
    assert rows[BASE].difference is None
    assert rows["bm25"].difference.mean == pytest.approx(
        rows["bm25"].metrics["nDCG@10"] - rows[BASE].metrics["nDCG@10"]
    )
    assert np.mean(list(rows["bm25"].by_seed.values())) == pytest.approx(rows["bm25"].metrics["nDCG@10"])


def test_over_tasks_and_without_each():
    choice = np.random.default_rng(2)
    several = [*experiment(choice, ("a", "b"), llm=0.02, bm25=0.01), *experiment(choice, ("c",), llm=-0.09, bm25=0.01)]
    *each, whole = tables(several, MARGIN)
    assert [table.task for table in [*each, whole]] == ["a", "b", "c", OVERALL]
    assert whole.queries == 240
    means = [next(row for row in table.rows if row.arm == "llm").metrics["nDCG@10"] for table in each]
    assert next(row for row in whole.rows if row.arm == "llm").metrics["nDCG@10"] == pytest.approx(np.mean(means))
    told = [text for text in whole.turned if text.startswith("llm is behind bm25")]
    assert len(told) == 1
    assert "ahead of it without c" in told[0]
    assert all(not table.turned for table in each)


def test_one_seed_says_nothing_of_other_trainings():
    (table,) = tables(experiment(np.random.default_rng(2), seeds=1), MARGIN)
    assert all(verdict.estimate.seed_share is None and verdict.estimate.seeds == 1 for verdict in table.verdicts)


def test_the_control_is_what_others_are_set_beside_wherever_it_stands():
    (task,) = experiment(np.random.default_rng(2))
    runs = {arm: task.runs[arm] for arm in (BASE, "bm25", "llm", "none", "random")}
    (table,) = tables([task._replace(runs=runs)], MARGIN, resamples=99)
    assert [verdict.first for verdict in table.verdicts if verdict.second == "none"] == ["bm25", "llm", "random"]
    assert [row.arm for row in table.rows] == list(runs)


def test_runs_on_other_queries_are_refused():
    def measured(base, *runs):
        made = [{query: {"nDCG@10": 0.5} for query in names} for names in (base, *runs)]
        return [Measured("t", "r", {BASE: {0: made[0]}, "none": dict(enumerate(made[1:]))})]

    with pytest.raises(UserError, match="t: one judged query says nothing of others"):
        tables(measured("a", "a"), MARGIN)
    with pytest.raises(
        UserError, match=r"t: none and untouched base .*\(2 and 2; not in both: b, c\); measure them again"
    ):
        tables(measured("ab", "ba", "ac"), MARGIN)


def test_each_half_of_the_queries_is_looked_at_by_the_words_that_it_shares():
    (task,) = experiment(np.random.default_rng(2), queries=200, llm=0.05)
    overlap = {f"q{n}": n / 200 for n in range(200)}

    def with_words(run, share, less=0.0):
        more = {query: share * overlap[query] - less for query in run}
        return {query: {**found, "nDCG@10": found["nDCG@10"] + more[query]} for query, found in run.items()}

    lexical = {seed: with_words(run, 0.3, 0.1) for seed, run in task.runs["none"].items()}
    runs, bm25 = {**task.runs, "bm25": lexical}, with_words(task.runs[BASE][0], 1.0)
    exam = task._replace(runs=runs, overlap=overlap, bm25=bm25, is_generated=True)
    (table,) = tables([exam], MARGIN)
    beside = {verdict.first: verdict for verdict in table.beside(BASE)}
    assert (beside["bm25"].word, beside["bm25"].turned) == ("undecided", True)
    assert (beside["llm"].word, beside["llm"].turned) == ("better", False)
    (of_people,) = tables([exam._replace(is_generated=False)], MARGIN)
    shown = {verdict.first: verdict for verdict in of_people.beside(BASE)}["bm25"]
    assert (shown.word, shown.turned, shown.fewest) == ("better", False, beside["bm25"].fewest)
    assert of_people.halves == table.halves
    assert beside["bm25"].fewest.mean < -0.02 < 0.1 < beside["bm25"].most.mean
    least, most = table.halves
    assert (least.overlap, least.queries, most.queries) == (pytest.approx(0.2475), 100, 100)
    assert most.bm25 - most.base == pytest.approx(most.overlap)
    (without,) = tables([task], MARGIN, resamples=99)
    assert (without.halves, without.verdicts[0].fewest) == ([], None)


def test_a_given_model_has_no_trainings_that_vary():
    (task,) = experiment(np.random.default_rng(2), by_seed=0.02)
    runs = {**task.runs, "mine": {0: task.runs["llm"][0]}}
    (table,) = tables([task._replace(runs=runs, given=["mine"])], MARGIN, resamples=999)
    of_pair = {(verdict.first, verdict.second): verdict.estimate for verdict in table.verdicts}
    assert (of_pair["mine", BASE].seeds, of_pair["mine", BASE].seed_share) == (0, None)
    assert (of_pair["llm", BASE].seeds, of_pair["mine", "none"].seeds) == (3, 3)
    assert next(row for row in table.rows if row.arm == "mine").by_seed == {}
