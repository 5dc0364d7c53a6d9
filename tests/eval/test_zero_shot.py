"""mteb's own zero-shot flag for models of ours: true to what the records say, and unknown where they say nothing."""

import json

import mteb
import pytest

from eval.measure.tasks import load_task
from eval.measure.zero_shot import zero_shot
from foils.models import ModelReference, resolve_model
from tests.conftest import BASE
from tests.fixtures.tasks import task_folder

TASKS = {name: load_task(name) for name in ("SciFact", "NFCorpus", "MSMARCO")}


@pytest.fixture
def trained(tmp_path):
    """A model's folder with a run record."""

    def write(seen, dataset="data"):
        record = {
            "dataset": {"name": dataset, "revision": "sha256:1"},
            "base": {"name": "base", "revision": "sha256:2"},
        }
        if seen is not None:
            record["training_datasets"] = dict(zip(("data", "base", "compared_with"), seen, strict=True))
        (tmp_path / "run.json").write_text(json.dumps(record))
        return ModelReference("mine", "sha256:0", str(tmp_path), "sha256:0", "sha256:0")

    return write


@pytest.mark.parametrize(
    ("seen", "flags"),
    [
        ((["SciFact"], ["MSMARCO"], ["SciFact", "NFCorpus"]), {"SciFact": False, "NFCorpus": True, "MSMARCO": False}),
        (([], ["MSMARCO"], ["SciFact"]), {"SciFact": True, "NFCorpus": None, "MSMARCO": False}),
        ((None, ["MSMARCO"], []), {"SciFact": None, "NFCorpus": None, "MSMARCO": False}),
        ((["SciFact"], None, ["SciFact", "NFCorpus"]), {"SciFact": False, "NFCorpus": None, "MSMARCO": None}),
        (None, {"SciFact": None, "NFCorpus": None, "MSMARCO": None}),
    ],
)
def test_the_flag_is_known_only_where_the_records_know_it(trained, seen, flags):
    model = trained(seen)
    for name, flag in flags.items():
        assert zero_shot(model, TASKS[name]) is flag


def test_a_translation_of_a_task_counts_as_mteb_counts_it(trained):
    model = trained((["SciFact"], [], ["SciFact"]))
    assert zero_shot(model, TASKS["SciFact"]._replace(name="SciFact-PL", mteb=mteb.get_task("SciFact-PL"))) is False


def test_the_base_is_what_mtebs_registry_says():
    base = resolve_model(BASE)
    assert [zero_shot(base, TASKS[name]) for name in ("SciFact", "MSMARCO")] == [True, False]


def test_a_folder_and_an_unheard_of_model_are_unknown(tmp_path):
    for name in ("folder", "owner/unheard-of"):
        assert (
            zero_shot(ModelReference(name, "sha256:0", str(tmp_path), "sha256:0", "sha256:0"), TASKS["SciFact"]) is None
        )


def test_own_training_queries_are_never_zero_shot(trained, animals):
    task = load_task(task_folder(animals, [("q1", "who hunts mice?")], ["q1\towl\t1"]))
    model = trained(([], [], [task.name]))
    assert zero_shot(model, task) is True
    assert zero_shot(model, task._replace(queries_of="sha256:1")) is False
