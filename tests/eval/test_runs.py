"""Which runs of a comparison are done, and how they are started."""

import json
from pathlib import Path

import pytest

from eval.recipe import CompareRecipe, EvalRecipe, LocalTask
from eval.runs import Plan, Run
from foils.comparison import BASE
from foils.errors import UserError
from foils.recipe import load_recipe


def plan(folder, **more):
    return Plan(CompareRecipe("t", "d", "x.toml", ("t",), out=str(folder)), "x.toml", "base", {}, "f", **more)


def test_a_deleted_model_is_trained_again(tmp_path):
    made, run = plan(tmp_path), Run("bm25", 1)
    for each in (run, Run(BASE, 0)):
        made.stamp(each).write_text(json.dumps({"fingerprint": "f"}))
    assert made.finished(Run(BASE, 0)).fingerprint == "f"
    assert made.finished(run) is None
    record = tmp_path / "models" / "bm25-seed1" / "run.json"
    record.parent.mkdir(parents=True)
    record.touch()
    assert made.finished(run).seconds == 0  # of an earlier version
    assert made._replace(fingerprint="g").finished(run) is None
    made.stamp(run).write_text("{")
    with pytest.raises(UserError, match=r"not a Stamp .*; delete it, and the run is looked at again"):
        made.finished(run)


def test_models_are_replaced_only_where_that_was_asked_for(tmp_path):
    trainings = {fresh: next(plan(tmp_path, fresh=fresh).commands(Run("bm25", 1), 1)) for fresh in (False, True)}
    assert "--fresh" not in trainings[False]
    assert trainings[True] == [*trainings[False], "--fresh"]


def test_an_evaluation_reads_the_recipe_that_was_written_for_it(tmp_path):
    made = plan(tmp_path)
    tasks = (
        "SciFact",
        LocalTask("own", "corpus", "questions"),
        LocalTask("other", "c", "q", ignore_identical_ids=True),
    )
    made = made._replace(config=CompareRecipe("t", "d", "x.toml", tasks, out=str(tmp_path)))
    (*_, command) = made.commands(Run(BASE, 0), 1)
    written = load_recipe(Path(command[-1]), (), EvalRecipe).config
    assert written.tasks == tasks
    assert written == made.evaluation(Run(BASE, 0))
