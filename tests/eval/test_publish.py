"""Scores on the Hub: merged, never mixed with other weights, and of tasks that live there."""

import json
import shutil

import pytest
import yaml

from cards.publish.release import Target
from eval import run
from eval.measure.tasks import load_task
from eval.recipe import EvalRecipe
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.fixtures.tasks import QRELS, QUERIES, put_task, task_folder
from tests.hub import Fault
from training.publish import publish_model

pytestmark = pytest.mark.hub


@pytest.fixture(scope="module")
def models(compared, tmp_path_factory):
    """Two models with other weights, and their base."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (1, 2):
        shutil.copytree(compared.out / "models" / f"bm25-seed{seed}", folder / f"m{seed}")
    shutil.copytree(compared.folder / "tiny" / "model", folder / "base")
    return folder


@pytest.fixture
def evaluate(tmp_path, animals, models):
    """Evaluates a model on the animals."""
    task = task_folder(animals, QUERIES, QRELS)

    def make(model, *overrides, **more):
        path = tmp_path / "eval.toml"
        path.write_text(
            f'model = "x"\nbase = "{models / "base"}"\ntasks = ["{task}"]\nresults = "{tmp_path / "results"}"\n'
        )
        run.main(load_recipe(path, [f"model={model}", *overrides], EvalRecipe), **more)

    return make


def read(hub, repo_id, path):
    repo = hub.repo("model", repo_id)
    return repo.read(repo.refs["main"], path).decode()


def index(card):
    return {
        (result["dataset"]["name"], metric["name"]): metric["value"]
        for model in yaml.safe_load(card.split("---")[1])["model-index"]
        for result in model["results"]
        for metric in result["metrics"]
    }


def test_scores_are_merged_with_what_others_write(hub, models, evaluate):
    publish_model(models / "m1", Target("alice/scored"))
    card = read(hub, "alice/scored", "README.md")
    foreign = (
        "model-index:\n- name: scored\n  results:\n  - task: {type: retrieval}\n"
        "    dataset: {name: NQ, type: mteb/nq}\n    metrics:\n    - {type: ndcg_at_10, name: nDCG@10, value: 0.7}\n"
    )
    hub.commit("model", "alice/scored", {"README.md": card.replace("---\n", f"---\n{foreign}", 1).encode()})

    def edit():
        now = read(hub, "alice/scored", "README.md")
        hub.commit("model", "alice/scored", {"README.md": f"{now}\nWritten meanwhile.\n".encode()})

    hub.faults.add(Fault(method="POST", path="/commit/main", action=edit))
    evaluate("alice/scored@v1.0.0", push="")
    card = read(hub, "alice/scored", "README.md")
    assert card.count("Written meanwhile.") == 1
    assert set(index(card)) == {
        ("NQ", "nDCG@10"), ("animals", "nDCG@10"), ("animals", "Precision@10"), ("animals", "Recall@100"),
    }  # fmt: skip
    scores = json.loads(read(hub, "alice/scored", "evaluation/scores.json"))
    assert {score["evaluated"] for score in scores} == {hub.repo("model", "alice/scored").tags["v1.0.0"]}
    assert all(score["low"] <= score["value"] <= score["high"] for score in scores)
    head = hub.repo("model", "alice/scored").refs["main"]
    evaluate("alice/scored@v1.0.0", push="")
    evaluate("alice/scored", push="")  # main is another commit by now, of the same weights
    assert len(index(read(hub, "alice/scored", "README.md"))) == 4
    assert hub.repo("model", "alice/scored").tags["v1.0.0"] != head


def test_a_folders_scores_go_where_its_weights_are(hub, models, evaluate):
    publish_model(models / "m1", Target("alice/weights"))
    evaluate(models / "m1", push="alice/weights")
    assert ("animals", "nDCG@10") in index(read(hub, "alice/weights", "README.md"))
    before = hub.repo("model", "alice/weights").refs["main"]
    with pytest.raises(UserError, match=r"main holds weights sha256:.* and what is evaluated \(m2@sha256:"):
        evaluate(models / "m2", push="alice/weights")
    with pytest.raises(UserError, match="m1 is a folder; say which repository has these weights"):
        evaluate(models / "m1", push="")
    with pytest.raises(UserError, match="the Hub has no such repository"):
        evaluate(models / "m1", push="alice/absent")
    assert hub.repo("model", "alice/weights").refs["main"] == before


def test_a_task_of_mteb_by_its_name(hub, models, evaluate, tmp_path):
    """mteb's own loader, from the Hub: SciFact's place holds a small data set in SciFact's form."""
    put_task(hub, "mteb/scifact", tmp_path)
    hub.tag("dataset", "mteb/scifact", load_task("SciFact").revision, "main")
    publish_model(models / "m1", Target("alice/named"))
    evaluate("alice/named@v1.0.0", 'tasks=["SciFact"]', push="")
    assert ("SciFact", "nDCG@10") in index(read(hub, "alice/named", "README.md"))
    entry = yaml.safe_load(read(hub, "alice/named", ".eval_results/SciFact.yaml"))[0]
    assert entry["dataset"]["id"] == "mteb/scifact"


@pytest.mark.usefixtures("storage")
def test_a_hub_data_set_is_a_task(hub, tmp_path):
    commit = put_task(hub, "bob/task", tmp_path)
    task = load_task("bob/task@main")
    assert (task.name, task.revision, task.dataset) == ("task", commit, "bob/task")
    assert task.qrels()["q1"] == {"owl": 1, "bat": 1}
    with pytest.raises(UserError, match=r"task bob/task: a Hub data set needs its revision, such as bob/task@v1\.0\.0"):
        load_task("bob/task")
    with pytest.raises(UserError, match="the Hub has no such repository"):
        load_task("bob/absent@main")
    put_task(hub, "bob/wrong", tmp_path, **{"default/test": {"corpus-id": ["nobody"] * len(QRELS)}})
    with pytest.raises(UserError, match="names passage 'nobody', which is not among the 12 passages"):
        load_task("bob/wrong@main")
    put_task(hub, "bob/half", tmp_path, **{"default/test": {"score": [0.5] * len(QRELS)}})
    with pytest.raises(UserError, match="row 1: wanted query-id, corpus-id and a whole score"):
        load_task("bob/half@main")
