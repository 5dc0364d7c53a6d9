"""Whether an exam ranks systems as people's judgements do."""

import numpy as np
import pytest

from eval.agreement import AgreementRecipe, agreement, doubtful, main, text
from eval.measure.variants import joined, nearest
from eval.recipe import LocalTask
from foils.recipe import Recipe
from tests.conftest import BASE
from tests.fixtures.tasks import QRELS, QUERIES, task_folder

CHOICE = np.random.default_rng(7)


def scored(*means, queries=200):
    """Scores of systems that differ by query alike and, on the whole, by their means."""
    return np.clip(np.array(means)[:, None] + CHOICE.normal(0, 0.05, (len(means), queries)), 0, 1)


def test_pairs_are_counted_by_who_decides_them():
    found = agreement(scored(0.3, 0.5, 0.7, 0.7), scored(0.5, 0.3, 0.7, 0.6))
    assert found[1:] == (4, 1, 0, 1)  # the first two are turned; the last two differ for the judgements alone
    assert found.tau < 1
    assert agreement(scored(0.3, 0.5), scored(0.3, 0.5, queries=20)) == (1, 1, 0, 0, 0)


def test_a_pair_that_the_overlap_turns_is_not_decided():
    overlaps = np.linspace(0, 1, 200)
    dense = np.full(200, 0.5)
    lexical = np.where(overlaps > 0.5, 0.9, 0.45)
    exam, judged = np.array([lexical, dense]), np.array([dense - 0.1, dense])
    assert agreement(exam, judged).contradict == 1
    assert doubtful(exam, overlaps).tolist() == [[False, True], [True, False]]
    assert agreement(exam, judged, doubtful(exam, overlaps)) == (-1, 0, 0, 0, 1)
    assert "lexical and dense: exam" not in text("t", ["lexical", "dense"], exam, judged, overlaps)


def test_hits_of_cosines_and_of_joined_ranks():
    asked, there = np.eye(2, 3, dtype=np.float32), np.eye(3, dtype=np.float32)
    found = nearest(asked, there, ["q", "r"], ["a", "b", "c"])
    assert found == {"q": {"a": 1, "b": 0, "c": 0}, "r": {"a": 0, "b": 1, "c": 0}}
    both = joined({"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 0.5}}, 0.25)
    assert both["q"] == pytest.approx({"a": 0.25 / 61, "b": 0.25 / 62 + 0.75 / 61})


def test_systems_of_one_base_on_two_sets_of_queries(animals, tmp_path, capsys):
    folder = task_folder(animals, QUERIES, QRELS)
    config = AgreementRecipe(
        name="animals",
        exam=LocalTask(name="exam", corpus=folder, questions=folder),
        judged=folder,
        base=BASE,
        dimensions=(8, 64),
        noise=(0.5,),
        hybrids=(0.5,),
        models=(BASE,),
        results=str(tmp_path),
    )
    main(Recipe(config, ""))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    base, again = (next(line[-2:] for line in lines if line and line[0] == name) for name in ("base", BASE))
    assert base == again  # by cosine as by mteb
    assert next(line for line in lines if line[:2] == ["all", "queries"])[3] == "1.00"
    assert sum(line[:1] in (["base"], ["BM25"], ["8"], ["64"], ["noise"], [BASE]) for line in lines) == 7
