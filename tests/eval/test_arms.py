"""Arms that differ in anything: read, checked before the first run, run, and told apart by their records."""

import json
import re
import shutil
import sys

import msgspec
import pytest

from eval.arms import check_arms
from eval.compare import with_tasks
from eval.measure.results import read_scores
from eval.measure.tasks import exam_of, load_tasks
from eval.plan import Plan, Run, make_plan
from eval.recipe import CompareRecipe
from foils.comparison import read_comparison
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.eval.conftest import compare
from tests.fixtures import tiny
from tests.fixtures.tasks import QRELS, QUERIES, task_folder

ARMS = """
[arms.none]
kind = "none"
[arms.bm25]
kind = "bm25"
[arms.symmetric]
loss_options.symmetric = true
trainer.max_steps = 2
[arms.mine]
model = "{model}"
"""


def recipe_with(compared, folder, arms):
    """The comparison with other arms, and its outputs in another folder."""
    text = compared.recipe.read_text().replace('arms = ["none", "bm25"]\n', "")
    text = re.sub(r"training = \[(.*)\]", r"training = \1", text)
    path = folder / "arms.toml"
    path.write_text(text.replace(str(compared.folder / "out"), str(folder / "train")) + arms)
    return path


def plan_of(compared, folder, arms):
    path = recipe_with(compared, folder, arms)
    config = load_recipe(path, [], CompareRecipe).config
    return make_plan(config, config.training, [])


def test_an_added_arm_costs_only_itself(compared, tmp_path):
    model = tiny.retriever("cls", tmp_path / "mine", length=32)
    shutil.copytree(compared.out, tmp_path / "train")
    before = {log: log.stat().st_mtime_ns for log in (tmp_path / "train" / "runs").glob("*.log")}
    path = recipe_with(compared, tmp_path, ARMS.format(model=model))
    finished = compare(path)
    assert finished.returncode == 0, finished.stderr
    assert {log: log.stat().st_mtime_ns for log in before} == before
    assert sorted(file.stem for file in (tmp_path / "train" / "runs").glob("*.log") if file not in before) == [
        *("mine-seed0", "symmetric-seed1", "symmetric-seed2"),
    ]
    written = json.loads((tmp_path / "train" / "comparison.json").read_text())
    assert written["arms"] == ["none", "bm25", "symmetric", "mine"]
    assert [row["by_seed"] == {} for row in written["tables"][0]["rows"]] == [True, False, False, False, True]
    assert [cost["arm"] for cost in written["costs"]] == ["none", "bm25", "symmetric"]
    pairs = {(pair["first"], pair["second"]): pair for pair in written["pairs"]}
    assert (pairs["bm25", "none"]["differ"], pairs["bm25", "none"]["unnamed"]) == (["kind"], [])
    assert pairs["symmetric", "bm25"]["differ"] == ["loss_options.symmetric", "trainer.max_steps", "steps"]
    assert pairs["symmetric", "bm25"]["unnamed"] == []
    assert pairs["mine", "bm25"]["unnamed"] == ["training (elsewhere, not known)"]
    assert "Not controlled: mine/none, mine/bm25, mine/symmetric differ in more than" in finished.stdout
    recipe = (tmp_path / "train" / "models" / "symmetric-seed1" / "run.json").read_text()
    assert "trainer.max_steps=2" in json.loads(recipe)["recipe"]["overrides"]


def test_tables_and_the_short_form_share_their_finished_runs(compared, tmp_path):
    short = plan_of(compared, tmp_path, "").fingerprint
    made = plan_of(compared, tmp_path, ARMS.format(model="x"))
    assert made.fingerprint == short
    assert sorted(made.own) == ["mine", "symmetric"]
    assert [run.seed for run in made.runs()] == [1, 2, 1, 2, 1, 2, 0]
    assert made.without([Run("mine", 0)]).runs() == made.runs()[:-1]


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ('kind = "dense"', r"arm x: kind 'dense': .* has no configuration 'dense'; allowed: bm25"),
        ('kind = "bm25"\nlosss = "gist"', r"arm x: recipe .*train\.toml: unknown key losss; allowed here: dataset, "),
        ('loss = "distill-kl"', "arm x: .*scores"),
        ('model = "no/such/folder"', "arm x: model no/such/folder: no such folder"),
        ('model = "m"\nloss = "gist"', "arm x: loss beside model; a model that was trained elsewhere is only measured"),
        ('dataset = "gone"\nkind = "bm25"', "arm x: dataset gone: no such folder"),
        ("kind = 3", "arm x: kind: 3 is not a text"),
        ("seed = 3", "arm x: seed: is the same for all arms of a comparison"),
    ],
)
def test_an_arm_that_cannot_run_is_refused_before_the_first_run(compared, tmp_path, arm, words):
    made = plan_of(compared, tmp_path, f'[arms.bm25]\nkind = "bm25"\n[arms.x]\n{arm}\n')
    with pytest.raises(UserError, match=words):
        check_arms(made)
    assert not list(tmp_path.glob("train/runs/*.log"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"arms": ("bm25", "none", "bm25")},
            r"^arms \['bm25', 'none', 'bm25'\]: 'bm25' stands there 2 times; name each",
        ),
        ({"seeds": (3, 3)}, r"^seeds \[3, 3\]: 3 stands there 2 times; name each once$"),
    ],
)
def test_what_is_named_twice(tmp_path, more, words):
    config = CompareRecipe("t", str(tmp_path), "x.toml", out=str(tmp_path / "out"), **more)
    with pytest.raises(UserError, match=words):
        check_arms(Plan(config, "x.toml", "base", {}, "f"))


def test_a_preflight_that_dies_without_a_word_is_a_problem(tmp_path):
    class Killed(Plan):
        def training_command(self, _):
            return [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]

    config = CompareRecipe("t", str(tmp_path), "x.toml", arms={"x": {"loss": "gist"}}, out=str(tmp_path / "out"))
    with pytest.raises(UserError, match=r"^arm x: its pre-flight was ended by signal 9$"):
        check_arms(Killed(config, "x.toml", "base", {}, "f"))


def test_a_model_that_is_trained_again_under_its_name_is_measured_again(tmp_path):
    model, training = tmp_path / "mine" / "model", tmp_path / "x.toml"
    training.write_text('base = "b"')
    config = CompareRecipe("t", str(tmp_path), str(training), arms={"x": {"model": str(model)}})
    found = [make_plan(config, str(training), []).own["x"]]
    for pooling in ("cls", "mean"):
        tiny.retriever(pooling, model.parent, length=32)
        found.append(make_plan(config, str(training), []).own["x"])
    assert len({*found, make_plan(config, str(training), []).own["x"]}) == 3


def test_a_name_that_no_file_can_have(compared, tmp_path):
    with pytest.raises(UserError, match="arm a/b: its files are named after it"):
        check_arms(plan_of(compared, tmp_path, '[arms."a/b"]\n'))


def test_without_tasks_the_exam_is_the_task_and_must_be_there(compared, tmp_path):
    path = recipe_with(compared, tmp_path, "[arms.bm25]\n")
    refused = compare(path, "tasks=[]")
    assert refused.returncode == 2
    assert "tasks: none named, and dataset" in refused.stderr
    assert refused.stderr.rstrip().endswith("add [exam] to the building recipe, build again, or name tasks")


def test_the_exam_of_a_build_is_a_task_that_nothing_was_trained_on(build_animals):
    folder = str(build_animals("examined", "exam.queries=3"))
    config = with_tasks(CompareRecipe("t", folder, "x.toml"))
    assert (config.tasks, config.baselines) == ((folder,), ("bm25",))
    (task,) = load_tasks(config.tasks)
    assert (task.is_generated, task.queries_of, len(task.queries())) == (True, None, exam_of(folder).queries)
    overlap = task.overlap()
    assert overlap.keys() == task.queries().keys()
    assert all(0 <= share <= 1 for share in overlap.values())


def test_a_generated_exam_and_peoples_queries_are_measured_and_printed_apart(compared, build_animals, tmp_path):
    (tmp_path / "asked").mkdir()
    source = task_folder(tmp_path / "asked", QUERIES[:2], QRELS[:2])
    folder = build_animals("both", "exam.queries=4", f"exam.source={source}", "exam.as_negatives=false")
    path = tmp_path / "compare.toml"
    path.write_text(
        f'name = "t"\ndataset = "{folder}"\ntraining = "{compared.folder / "train.toml"}"\narms = ["bm25"]\n'
        f'seeds = [1]\nout = "{tmp_path / "out"}"\n'
    )
    finished = compare(path)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"(?m)^animals-own: 2 queries, .*(.*\n)+animals: 4 queries, ", finished.stdout)
    assert "mean over tasks" not in finished.stdout
    words = r"first hit is relevant before any training: animals-own \d+ % \(untouched base\), \d+ % \(BM25\)"
    said = re.search(rf"{words}; animals (\d+) % \(untouched base\), (\d+) % \(BM25\)\.", finished.stdout)
    no = "Passages of the exam are not negatives in training (exam.as_negatives = false)."
    favours = "One LLM wrote the exam and the training queries, so the exam favours what is trained on them"
    assert no in finished.stdout
    assert favours in finished.stdout
    card, page = (folder / "README.md").read_text(), (tmp_path / "out" / "report.html").read_text()
    assert all(said[0] in text and no in text and favours in text for text in (card, page))
    counted = read_scores(next((tmp_path / "out" / "results").glob("v*/*-none/animals-[!o]*")))
    assert int(said[2]) == round(25 * sum(each["MRR@10"] == 1 for each in counted.values()))
    assert read_comparison(tmp_path / "out").exam == "animals"


def test_an_arm_has_a_data_set_of_its_own():
    arms = {"a": {"dataset": "own/data", "revision": "v2.0.0"}, "b": {"kind": "none"}, "c": {"revision": "v3.0.0"}}
    config = CompareRecipe("t", "d", "x.toml", revision="v1.0.0", arms=arms)
    assert (config.data_of("a"), config.data_of("b")) == (("own/data", "v2.0.0"), ("d", "v1.0.0"))
    assert config.data_of("c") == ("d", "v3.0.0")
    assert msgspec.structs.replace(config, arms=("bm25",)).arm("bm25") == {"kind": "bm25"}
