"""Training from a Hub data set and publishing the model: pins, resumption, what is refused."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from sentence_transformers import SentenceTransformer

from builders.dataset.folder import write_config
from cards.publish.files import write_files
from cards.publish.release import Target
from foils.errors import UserError
from foils.models import resolve_model
from foils.provenance import sha256_file
from foils.recipe import load_recipe
from tests.conftest import BASE, CANARY
from tests.fixtures import ROOT, commands, tiny
from tests.fixtures.comparison import CONTENT
from tests.fixtures.training import FEW_STEPS, ROWS, launch, put_dataset, recipe_for, record
from tests.hub import Fault
from training import train
from training.publish import publish_model
from training.recipe import TrainRecipe

pytestmark = pytest.mark.hub


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "hub.toml"
    path.write_text(
        f'dataset = "x"\nrevision = "v1.0.0"\nkind = "bm25"\nbase = "{BASE}"\nmax_seq_length = 32\n'
        f"[trainer]\nlearning_rate = 1e-3\n{FEW_STEPS}"
    )
    return lambda *overrides: load_recipe(path, overrides, TrainRecipe)


@pytest.fixture
def model(tmp_path):
    """Trains on a local folder, quickly, with a seed."""

    def make(name, seed=1):
        train.main(recipe_for(tmp_path, BASE, ROWS, top="max_seq_length = 32\n")(f"seed={seed}"), tmp_path / name)
        return tmp_path / name

    return make


def files(hub, repo_id, revision="main"):
    repo = hub.repo("model", repo_id)
    commit = repo.commits[repo.tags.get(revision) or repo.refs[revision]]
    return {path: repo.read(commit.oid, path) for path in commit.files if path != ".gitattributes"}


def test_the_same_rows_of_another_version_or_in_a_folder_are_the_same_run(hub, recipe, tmp_path, caplog):
    caplog.set_level("INFO")

    def publish(version, rows, readme):
        folder = tmp_path / version
        (file,) = write_config(folder, "bm25", pa.table(rows))
        path = f"bm25/{file.name}"
        about = {"name": "animals", "configs": {"bm25": {"files": {path: sha256_file(file)}}}}
        (folder / "manifest.json").write_text(json.dumps(about))
        card = f"---\nconfigs:\n- config_name: bm25\n  data_files: bm25/*.parquet\n---\n{readme}\n"
        content = {path: file.read_bytes(), "manifest.json": (folder / "manifest.json").read_bytes()}
        commit = hub.commit("dataset", "alice/animals", {"README.md": card.encode(), **content})
        hub.tag("dataset", "alice/animals", version, commit)

    hub.create_repo("dataset", "alice/animals")
    publish("v1.0.0", ROWS, "first")
    publish("v1.0.1", ROWS, "patched")
    made = [f"base={tiny.retriever('mean', tmp_path / 'tiny')}", "dataset=alice/animals"]
    train.main(recipe(*made), tmp_path / "m")
    for again in ("revision=v1.0.1", f"dataset={tmp_path / 'v1.0.0'}"):
        caplog.clear()
        train.main(recipe(*made, again), tmp_path / "m")
        assert "nothing to do" in caplog.text
    publish("v2.0.0", {**ROWS, "positive": ROWS["positive"][::-1]}, "others")
    with pytest.raises(UserError, match=r"that differs: rows.1 "):
        train.main(recipe(*made, "revision=v2.0.0"), tmp_path / "m")


def test_a_tag_is_resolved_recorded_and_refused_once_it_moves(hub, recipe, tmp_path):
    commit = put_dataset(hub, tmp_path, "bob/moving")
    train.main(recipe("dataset=bob/moving"), tmp_path / "m")
    train.main(recipe("dataset=bob/moving", "revision=main"), tmp_path / "branch")
    found = record(tmp_path / "m")
    assert (found["dataset"]["revision"], found["dataset"]["tag"]) == (commit, "v1.0.0")
    moved = put_dataset(hub, tmp_path, "bob/moving", tag=None, configs={"bm25": {**ROWS, "query": ROWS["query"][::-1]}})
    with pytest.raises(UserError, match=r"that differs: rows.1 "):
        train.main(recipe("dataset=bob/moving", "revision=main"), tmp_path / "branch")
    hub.move_tag("dataset", "bob/moving", "v1.0.0", moved)
    with pytest.raises(
        UserError, match=rf"the tag has moved: it was {commit} .* is {moved} now.*delete (\S+)"
    ) as refused:
        train.main(recipe("dataset=bob/moving"), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    Path(str(refused.value).rpartition("delete ")[2]).unlink()  # without the note of the first use
    with pytest.raises(UserError, match=r"that differs: rows.1 "):
        train.main(recipe("dataset=bob/moving"), tmp_path / "m")
    train.main(recipe("dataset=bob/moving", f"revision={commit}"), tmp_path / "by-commit")
    assert record(tmp_path / "by-commit")["model"] == found["model"]


@pytest.mark.parametrize(
    ("scene", "overrides", "words"),
    [
        ({}, ["dataset=bob/there", "revision=v9.0.0"], r"bob/there@v9\.0\.0: the repository has no such revision"),
        ({}, ["dataset=bob/there", "kind=dense"], "has no configuration 'dense'"),
        ({"gated": True}, ["dataset=bob/there"], "gated: its owner decides who may read it"),
    ],
)
def test_data_sets_that_cannot_be_read(hub, recipe, tmp_path, scene, overrides, words):
    hub.create_repo("dataset", "bob/there", **scene)
    put_dataset(hub, tmp_path, "bob/there")
    with pytest.raises(UserError, match=words):
        train.main(recipe(*overrides), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_only_parquet_is_read(hub, recipe, tmp_path):
    hub.create_repo("dataset", "bob/lines")
    card = b"---\nconfigs:\n- config_name: bm25\n  data_files: rows.jsonl\n---\n"
    hub.commit("dataset", "bob/lines", {"README.md": card, "rows.jsonl": b'{"query": "q", "positive": "p"}\n'})
    with pytest.raises(UserError, match="its files are json; only Parquet is read from the Hub"):
        train.main(recipe("dataset=bob/lines", "revision=main"), tmp_path / "m")


@pytest.mark.usefixtures("storage")
def test_bases_from_the_hub(hub, recipe, tmp_path):
    """By commit, without pickles, and never outside the cache."""
    put_dataset(hub, tmp_path, "bob/rows")
    folder = resolve_model(BASE).location
    base = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    hub.create_repo("model", "bob/base")
    commit = hub.commit(
        "model", "bob/base", {**base, "pytorch_model.bin": b"\x80\x04pickle", "modeling.py": b"raise SystemExit"}
    )
    reference = resolve_model("bob/base@main")
    assert (reference.revision, reference.weights) == (commit, resolve_model(BASE).weights)
    assert not [path for path in Path(reference.location).rglob("*") if path.suffix in {".bin", ".py"}]
    train.main(recipe("dataset=bob/rows", f"base=bob/base@{commit}"), tmp_path / "m")
    assert record(tmp_path / "m")["base"]["revision"] == commit
    hub.create_repo("model", "bob/pickled")
    hub.commit("model", "bob/pickled", {"config.json": b"{}", "pytorch_model.bin": b"\x80\x04pickle"})
    with pytest.raises(
        UserError, match=r"bob/pickled@\w{40}: has no config.json with \*.safetensors weights; other weights may"
    ):
        resolve_model("bob/pickled")
    hub.create_repo("model", "bob/climbing")
    hub.commit("model", "bob/climbing", {**base, "../../escaped.json": b"{}"})
    with pytest.raises(UserError, match=r"holds the path '../../escaped.json', which would leave the folder"):
        resolve_model("bob/climbing")


def test_a_model_is_published_with_card_record_and_tag(hub, model):
    folder = model("m")
    publish_model(folder, Target("alice/plain", "v1.0.0"))
    there = files(hub, "alice/plain", "v1.0.0")
    assert files(hub, "alice/plain") == there
    local = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path: data for path, data in there.items() if path != "README.md"} == {
        path: data for path, data in local.items() if path != "README.md"
    }
    assert b'SentenceTransformer("alice/plain", revision="v1.0.0")' in there["README.md"]
    before = len(hub.repo("model", "alice/plain").commits)
    publish_model(folder, Target("alice/plain"))
    assert len(hub.repo("model", "alice/plain").commits) == before
    SentenceTransformer("alice/plain", revision="v1.0.0").encode(["x"])


def test_a_license_that_was_chosen_stays(hub, model):
    folder = model("m")
    with pytest.raises(UserError, match=r"holds no finished run \(run.json is missing or unreadable\); name the --out"):
        publish_model(folder.parent, Target("alice/licensed"))
    assert "license: apache-2.0" in (folder / "README.md").read_text()  # the base's
    publish_model(folder, Target("alice/licensed", license="cc-by-4.0"))
    assert b"license: cc-by-4.0" in files(hub, "alice/licensed")["README.md"]
    publish_model(model("other", seed=2), Target("alice/licensed"))
    assert b"license: cc-by-4.0" in files(hub, "alice/licensed")["README.md"]


def test_new_weights_take_the_old_figures_with_them(hub, model):
    publish_model(model("one"), Target("alice/series"))
    stale = {"evaluation/scores.json": b"[]", ".eval_results/scifact.yaml": b"- value: 1\n", "photo.png": b"\x89PNG"}
    hub.commit("model", "alice/series", stale)
    write_files(model("one"), CONTENT.files((model("one") / "README.md").read_text(), this="arm `bm25`, seed 1,"))
    publish_model(model("one"), Target("alice/series"))
    there = files(hub, "alice/series")
    assert set(stale) <= set(there)
    assert there["comparison/forest.png"] == CONTENT.figure
    assert b"This model is arm `bm25`" in there["README.md"]
    publish_model(model("two", seed=2), Target("alice/series"))
    there = files(hub, "alice/series")
    assert set(stale) & set(there) == {"photo.png"}
    assert not [path for path in there if path.startswith("comparison/")]
    assert b"foils:comparison" not in there["README.md"]
    card = there["README.md"].decode()
    assert "Minor change after v1.0.0" in card
    assert "seed: 1 -> 2" in card
    assert set(hub.repo("model", "alice/series").tags) == {"v1.0.0", "v1.1.0"}


@pytest.mark.usefixtures("storage")
def test_an_interrupted_push_is_resumed(hub, model):
    folder = model("m")
    command = [sys.executable, "-m", "training.publish", str(folder), "--push", "alice/cut", "--version", "v1.0.0"]
    for path in (r"/xet-write-token|/objects/batch", r"/commit/staging", r"/tag/", r"/commit/main", r"/branch/"):
        process = commands.Popen(command, stderr=subprocess.PIPE, cwd=ROOT)
        hub.faults.add(Fault(path=path, action=partial(os.kill, process.pid, signal.SIGKILL)))
        process.communicate()
        assert process.returncode == -signal.SIGKILL, path
    finished = commands.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    assert CANARY not in finished.stderr + finished.stdout
    assert files(hub, "alice/cut") == files(hub, "alice/cut", "v1.0.0")
    assert set(hub.repo("model", "alice/cut").refs) == {"main"}
    assert len({path for path in files(hub, "alice/cut") if path.endswith(".safetensors")}) == 1


def test_two_processes_train_and_one_publishes(hub, tmp_path):
    put_dataset(hub, tmp_path, "bob/two")
    path = tmp_path / "two.toml"
    path.write_text(
        f'dataset = "bob/two"\nrevision = "v1.0.0"\nkind = "bm25"\nbase = "{BASE}"\nmax_seq_length = 32\n'
        f"[trainer]\n{FEW_STEPS}"
    )
    finished = launch(path, "--out", tmp_path / "two", "--push", "alice/two", "--private", processes=2)
    assert finished.returncode == 0, finished.stderr
    assert hub.repo("model", "alice/two").private
    assert set(hub.repo("model", "alice/two").tags) == {"v1.0.0"}
    assert sum(request.path.endswith("/tag/" + request.path.rpartition("/")[2]) for request in hub.requests) == 1


def test_a_repository_with_records_and_cards_of_another_kind(hub, model):
    folder = model("m")
    hub.create_repo("model", "alice/foreign")
    hub.commit("model", "alice/foreign", {"run.json": b'["not ours"]', "README.md": b"# Theirs\n"})
    hub.tag("model", "alice/foreign", "v1.0.0")
    publish_model(folder, Target("alice/foreign"))
    assert set(hub.repo("model", "alice/foreign").tags) == {"v1.0.0", "v2.0.0"}
    card = files(hub, "alice/foreign")["README.md"].decode()
    assert "# Theirs" in card
    assert "v1.0.0 has no run.json of this form" in card
    hub.create_repo("model", "alice/broken-card")
    hub.commit("model", "alice/broken-card", {"README.md": b"---\na: [b\n---\n# X\n"})
    with pytest.raises(UserError, match=r"alice/broken-card: README.md on the Hub: card: its YAML cannot be read"):
        publish_model(folder, Target("alice/broken-card"))
