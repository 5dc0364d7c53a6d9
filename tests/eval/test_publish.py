"""Scores on the Hub: merged, never mixed with other weights, and of tasks that live there."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from builders.folder import write_config
from cards.publish.release import Target
from eval import run
from eval.recipe import EvalRecipe
from eval.tasks import load_task
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.conftest import ANIMALS, BASE
from tests.eval.test_run import QRELS, QUERIES
from tests.eval.test_tasks import task_folder
from tests.hub import Fault
from training import train
from training.publish import publish_model
from training.recipe import TrainRecipe

pytestmark = pytest.mark.hub


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models with other weights."""
    folder = tmp_path_factory.mktemp("models")
    texts = list(ANIMALS.values())
    rows = {"query": texts[::-1], "positive": texts, "negative_1": texts[1:] + texts[:1]}
    write_config(folder / "rows", "bm25", pa.table(rows))
    (folder / "train.toml").write_text(
        f'dataset = "{folder / "rows"}"\nkind = "bm25"\nbase = "{BASE}"\nmax_seq_length = 32\n'
        "[trainer]\nmax_steps = 2\nper_device_train_batch_size = 4\nlearning_rate = 1e-3\n"
    )
    for seed in (1, 2):
        train.main(load_recipe(folder / "train.toml", [f"seed={seed}"], TrainRecipe), folder / f"m{seed}")
    return folder


@pytest.fixture
def evaluate(tmp_path, animals):
    """Evaluates a model on the animals."""
    task = task_folder(animals, QUERIES, QRELS)

    def make(model, *overrides, **more):
        path = tmp_path / "eval.toml"
        path.write_text(f'model = "x"\nbase = "{BASE}"\ntasks = ["{task}"]\nresults = "{tmp_path / "results"}"\n')
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


def test_mteb_results_name_a_commit(models, evaluate, tmp_path):
    with pytest.raises(UserError, match="m1 is a folder, and MTEB's results name a Hub model and commit"):
        evaluate(models / "m1", mteb_results=tmp_path / "mteb")


def put_task(hub, repo_id, tmp_path, **columns):
    """A retrieval data set in the layout that mteb reads."""
    texts = {name: f"{text} Such is the life of this animal." for name, text in ANIMALS.items()}
    tables = {
        "corpus/corpus": {"_id": list(texts), "title": [""] * len(texts), "text": list(texts.values())},
        "queries/queries": {"_id": [q for q, _ in QUERIES], "text": [text for _, text in QUERIES]},
        "default/test": {
            "query-id": [line.split("\t")[0] for line in QRELS],
            "corpus-id": [line.split("\t")[1] for line in QRELS],
            "score": [int(line.split("\t")[2]) for line in QRELS],
        },
    }
    hub.create_repo("dataset", repo_id)
    content = {}
    for name, rows in tables.items():
        pq.write_table(pa.table({**rows, **columns.get(name, {})}), tmp_path / "t.parquet")
        content[f"{name}.parquet"] = (tmp_path / "t.parquet").read_bytes()
    configs = [
        {"config_name": name.split("/")[0], "data_files": [{"split": name.split("/")[1], "path": f"{name}.parquet"}]}
        for name in tables
    ]
    content["README.md"] = f"---\n{yaml.safe_dump({'configs': configs})}---\n".encode()
    return hub.commit("dataset", repo_id, content)


def test_a_task_of_mteb_by_its_name(hub, models, evaluate, tmp_path):
    """mteb's own loader, from the Hub: SciFact's place holds a small data set in SciFact's form."""
    put_task(hub, "mteb/scifact", tmp_path)
    hub.tag("dataset", "mteb/scifact", load_task("SciFact").revision, "main")
    publish_model(models / "m1", Target("alice/named"))
    evaluate("alice/named@v1.0.0", 'tasks=["SciFact"]', push="", mteb_results=tmp_path / "mteb")
    (file,) = (tmp_path / "mteb" / "results" / "alice__named").glob("*/SciFact.json")
    result = json.loads(file.read_text())
    assert result["task_name"] == "SciFact"
    scores = index(read(hub, "alice/named", "README.md"))
    assert result["scores"]["test"][0]["ndcg_at_10"] == pytest.approx(scores["SciFact", "nDCG@10"], abs=1e-4)
    entry = yaml.safe_load(read(hub, "alice/named", ".eval_results/SciFact.yaml"))[0]
    assert entry["dataset"]["id"] == "mteb/scifact"


@pytest.mark.storage
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
