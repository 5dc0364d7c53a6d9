"""What the run record says that a model has seen: data, base and what they were compared with."""

import json

import pyarrow as pa
import pytest

from builders.dataset.folder import write_config
from foils.errors import UserError
from foils.models import ModelReference, resolve_model
from foils.records import Seen
from tests.conftest import BASE
from tests.fixtures.training import recipe_for, record
from training import train
from training.recipe import MoreData
from training.rows.seen import seen_by
from training.rows.source import Source, resolve, resolve_more

TEXTS = ["owls hunt mice", "bees dance", "eels swim far", "ants grow fungus"]


@pytest.fixture
def dataset(tmp_path):
    """A folder with training rows, and a manifest if it is given a report of the guard."""

    def write(leakage, name="data"):
        folder = tmp_path / name
        write_config(folder, "bm25", pa.table({"query": TEXTS, "positive": TEXTS, "negative_1": TEXTS[::-1]}))
        write_config(folder, "leakage", pa.table({"id": ["a"]}))
        if leakage is not None:
            report = {} if leakage == {} else {"leakage": leakage}
            (folder / "manifest.json").write_text(json.dumps({"name": name, **report}))
        return folder

    return write


def test_further_data(dataset, tmp_path):
    """Only what all data was compared with is known; of data of others, nothing is."""
    first, second = (
        resolve(str(dataset(report(*seen), name)), None)
        for name, seen in (("one", (["SciFact"], "SciFact", "NFCorpus")), ("two", ([], "SciFact", "FiQA2018")))
    )
    base = resolve_model(BASE)
    assert seen_by(first, base, [second]).data == ["SciFact"]
    assert seen_by(first, base, [second]).compared_with == ["SciFact"]
    assert seen_by(second, base).data == []
    theirs = resolve_more(MoreData(str(tmp_path / "one" / "bm25")))
    assert seen_by(first, base, [theirs]).data == ["SciFact"]
    assert seen_by(second, base, [theirs]).data is None
    assert seen_by(second, base, [theirs]).compared_with == []


def report(seen, *sets):
    return {"training_datasets": list(seen), "sets": [{"name": name} for name in sets]}


def model(folder, seen=None, name="mine"):
    folder.mkdir()
    if seen is not None:
        (folder / "run.json").write_text(json.dumps({"training_datasets": seen}))
    return ModelReference(name, "sha256:0", str(folder), "sha256:0", "sha256:0")


def test_the_manifest_and_the_registry_are_told(dataset):
    found = seen_by(resolve(str(dataset(report(["SciFact"], "SciFact", "NFCorpus"))), None), resolve_model(BASE))
    assert (found.data, found.compared_with) == (["SciFact"], ["SciFact", "NFCorpus"])
    assert {"MSMARCO", "NQ"} <= set(found.base)  # all-MiniLM-L6-v2 in mteb's registry
    assert "SciFact" not in found.base


@pytest.mark.parametrize("leakage", [None, {}])
def test_what_was_compared_with_nothing_says_so(dataset, tmp_path, leakage):
    source = resolve(str(dataset(leakage)), None)
    assert seen_by(source, model(tmp_path / "m")) == Seen(None, None, [])
    assert source.kinds == ("bm25",)


def test_a_base_hands_on_what_it_has_seen(dataset, tmp_path):
    source = resolve(str(dataset(report([], "SciFact", "NFCorpus"))), None)
    first = {"data": ["NFCorpus"], "base": ["MSMARCO"], "compared_with": ["NFCorpus", "FiQA2018"]}
    found = seen_by(source, model(tmp_path / "known", first))
    assert found == Seen([], ["MSMARCO", "NFCorpus"], ["NFCorpus"])
    half = {"data": None, "base": ["MSMARCO"], "compared_with": []}
    assert seen_by(source, model(tmp_path / "half", half)) == Seen([], ["MSMARCO"], [])
    none = {"data": None, "base": None, "compared_with": []}
    assert seen_by(source, model(tmp_path / "none", none)) == Seen([], None, [])
    older = tmp_path / "older"
    base = model(older)
    (older / "run.json").write_text("{}")
    assert seen_by(source, base) == Seen([], None, [])


def test_names_that_mteb_does_not_know(dataset, tmp_path):
    source = resolve(str(dataset(report([], "SciFact"))), None)
    assert seen_by(source, model(tmp_path / "m", name="owner/unheard-of")).base is None
    (tmp_path / "m" / "run.json").write_text("no JSON")
    with pytest.raises(UserError, match=r"base .*run\.json: not JSON; build or train it again, or name another"):
        seen_by(source, ModelReference("m", "sha256:0", str(tmp_path / "m"), "sha256:0", "sha256:0"))


@pytest.mark.hub
def test_the_manifest_of_a_hub_data_set(hub, tmp_path):
    manifest = json.dumps({"name": "seen", "leakage": report(["SciFact"], "SciFact")}).encode()
    hub.create_repo("dataset", "bob/seen")
    commit = hub.commit("dataset", "bob/seen", {"manifest.json": manifest})
    source = Source("bob/seen", commit, "v1.0.0", "bob/seen", ("bm25",))
    assert seen_by(source, model(tmp_path / "m")) == Seen(["SciFact"], None, ["SciFact"])


def test_training_writes_it_down(dataset, tmp_path):
    dataset(report(["SciFact"], "SciFact"), "dataset")
    train.main(recipe_for(tmp_path, BASE, rows=None, top="max_seq_length = 16\n")(), tmp_path / "m")
    found = record(tmp_path / "m")["training_datasets"]
    assert (found["data"], found["compared_with"]) == (["SciFact"], ["SciFact"])
    assert "MSMARCO" in found["base"]
