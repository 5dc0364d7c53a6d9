"""The whole circle through the Hub: build, push, train from the tag, push the model, evaluate, card, verify."""

import json
import os
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard
from sentence_transformers import SentenceTransformer

from tests.conftest import BASE, CANARY
from tests.fixtures import commands
from tests.fixtures.tasks import put_task

pytestmark = pytest.mark.hub


def run(*arguments, code=0, **environment):
    finished = commands.module(*arguments, **environment)
    assert finished.returncode == code, finished.stderr[-3000:]
    assert CANARY not in finished.stdout + finished.stderr
    return finished


def launch(*arguments, **more):
    return run("accelerate.commands.launch", "--quiet", "--num_processes", "1", "training/train.py", *arguments, **more)


@pytest.fixture
def recipes(tmp_path, write_recipe):
    (tmp_path / "train.toml").write_text(
        f'dataset = "alice/animals"\nrevision = "v1.0.0"\nkind = "bm25"\nbase = "{BASE}"\nmax_seq_length = 32\n'
        "[trainer]\nmax_steps = 2\nper_device_train_batch_size = 4\nlearning_rate = 1e-4\n"
    )
    (tmp_path / "eval.toml").write_text(
        'model = "alice/animal-search@v1.0.0"\ntasks = ["alice/animals@v1.0.0", "bob/questions@main"]\n'
        f'results = "{tmp_path / "results"}"\n'
    )
    return tmp_path, write_recipe(extra="[exam]\nqueries = 4\n")


def test_the_circle(hub, recipes):
    folder, recipe = recipes
    run(
        *("builders.build", recipe, "--out", folder / "dataset", "--store", folder / "calls.sqlite"),
        *("--push", "alice/animals", "--version", "v1.0.0"),
    )
    data_commit = hub.repo("dataset", "alice/animals").tags["v1.0.0"]

    trained = launch(folder / "train.toml", "--out", folder / "model", "--push", "alice/animal-search")
    assert "v1.0.0: the first version" in trained.stderr
    record = json.loads((folder / "model" / "run.json").read_text())
    assert record["dataset"] == {
        "name": "alice/animals", "revision": data_commit, "tag": "v1.0.0", "kind": "bm25", "rows": 8,
    }  # fmt: skip
    commit = hub.repo("model", "alice/animal-search").tags["v1.0.0"]
    card = ModelCard.load("alice/animal-search")
    assert card.data.datasets == ["alice/animals"]
    for words in (data_commit, record["model"]["revision"], record["base"]["revision"], "seed 1", "Not evaluated yet"):
        assert words in card.text
    SentenceTransformer("alice/animal-search", revision="v1.0.0").encode(["loads for strangers"])

    put_task(hub, "bob/questions", folder)
    measured = run("eval.run", folder / "eval.toml", "--push")
    assert "untouched base" in measured.stdout
    head = hub.repo("model", "alice/animal-search").refs["main"]
    scored = ModelCard.load("alice/animal-search")
    results = yaml.safe_load(scored.content.split("---")[1])["model-index"][0]["results"]
    result = next(result for result in results if result["dataset"]["name"] == "animals")
    assert result["dataset"]["revision"] == data_commit
    assert result["metrics"][0]["args"]["evaluated"] == commit
    entries = HfApi().list_repo_files("alice/animal-search")
    assert ".eval_results/questions.yaml" in entries
    assert "its queries are those that the model was trained on" not in measured.stderr  # they are its exam
    assert "| animals (test) | nDCG@10 |" in scored.text
    assert "| questions (test) | nDCG@10 |" in scored.text
    again = run("eval.run", folder / "eval.toml", "--push")
    assert "has scores like these already" in again.stderr
    assert hub.repo("model", "alice/animal-search").refs["main"] == head

    for reference in ("alice/animal-search", "datasets/alice/animals", folder / "dataset", folder / "model"):
        table = run("cards.verify", reference)
        assert "0 broken" in table.stdout, table.stdout
    found = run("cards.verify", "alice/animal-search").stdout
    for name in ("model: weights", "model: card", "model: base", "scores: animals ", "scores: animals, task data",
                 "model: data set", "data set: files", "data set: corpus content", "data set: references"):  # fmt: skip
        assert any(line.startswith("verified") and name in line for line in found.splitlines()), name

    # The token was on every request to the Hub and nowhere else: not in a file, not on another origin.
    assert any(request.authorized for request in hub.requests)
    assert not [request for request in hub.requests if request.authorized and "localhost" in request.host]
    for place in (folder, Path(os.environ["HF_HOME"])):
        for file in place.rglob("*"):
            assert not (file.is_file() and CANARY.encode() in file.read_bytes()), file
    for kind, repo_id in hub.repos():
        repo = hub.repo(kind, repo_id)
        for commit in repo.commits.values():
            assert not [path for path in commit.files if CANARY.encode() in repo.read(commit.oid, path)]
