"""Trained work is never erased or replaced unasked: what decides, what is only recorded, and what is refused."""

import json
import resource
import shutil
import signal
import threading
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from builders.dataset.folder import write_config
from foils.errors import UserError
from tests.fixtures import tiny
from tests.fixtures.training import TWELVE as TEXTS
from tests.fixtures.training import TWELVE_ROWS as ROWS
from tests.fixtures.training import recipe_for, record
from training import train
from training.identity import shaping
from training.loop.checkpoints import CHECKPOINTS, INPUTS, MARK
from training.recipe import TrainRecipe

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.retriever("mean", tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe(tmp_path, base):
    return recipe_for(tmp_path, base, trainer="max_steps = 2\nper_device_train_batch_size = 2\nlearning_rate = 1e-3\n")


LONG = ("trainer.max_steps=60", "trainer.save_strategy=steps", "trainer.save_steps=3")


def interrupt(recipe, out, **options):
    """Trains, and presses Ctrl-C at the first whole checkpoint; returns its step."""
    partial = out.with_name(f"{out.name}.partial")
    before = set(partial.glob(f"{CHECKPOINTS}/*/{MARK}"))

    def press():
        while not set(partial.glob(f"{CHECKPOINTS}/*/{MARK}")) - before:
            time.sleep(0.002)
        signal.raise_signal(signal.SIGINT)

    watching = threading.Thread(target=press, daemon=True)
    watching.start()
    with pytest.raises(KeyboardInterrupt):
        train.main(recipe, out, 1, **options)
    watching.join()
    return partial


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(Path(folder).rglob("*"))}


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_an_upgrade_costs_no_step_of_an_interrupted_run_and_is_recorded(recipe, tmp_path, caplog):
    caplog.set_level("INFO")
    partial = interrupt(recipe(*LONG), tmp_path / "m")

    def older(content):
        content["surroundings"]["packages"]["torch"] = "2.12.0"
        content["surroundings"]["code"]["sha256"] = "0" * 64
        content["surroundings"]["hardware"]["name"] = "another"

    edit(partial / INPUTS, older)
    train.main(recipe(*LONG, "trainer.save_total_limit=1", "trainer.logging_steps=5"), tmp_path / "m", 1)
    found = record(tmp_path / "m")
    step = found["training"]["resumed_from"]
    assert step >= 3
    assert any(change.startswith("packages.torch 2.12.0 -> ") for change in found["changes"])
    assert any(change.startswith("hardware.name another -> ") for change in found["changes"])
    assert "goes on although these differ, which is recorded: " in caplog.text
    card = (tmp_path / "m" / "README.md").read_text()
    assert "| changed while it was interrupted | " in card
    assert f" GiB of the process, from step {step} on |" in card
    assert not partial.exists()


def test_a_checkpoint_is_made_by_the_clock_where_the_table_says_nothing(recipe, tmp_path):
    short = ("trainer.max_steps=60", "checkpoint_minutes=0.0001")
    interrupt(recipe(*short), tmp_path / "m")
    train.main(recipe(*short), tmp_path / "m", 1)
    assert record(tmp_path / "m")["training"]["resumed_from"] > 0


def test_another_recipe_does_not_empty_an_interrupted_run(recipe, tmp_path):
    partial = interrupt(recipe(*LONG), tmp_path / "m")
    before = files_of(partial)
    with pytest.raises(UserError) as refused:
        train.main(recipe(*LONG, "trainer.learning_rate=2e-3"), tmp_path / "m", 1)
    said = str(refused.value)
    assert "it holds " in said
    assert " steps (" in said
    assert "trainer.learning_rate 0.001 -> 0.002" in said
    assert said.endswith("name another output folder, or pass --fresh to train from the start and replace it")
    write_config(tmp_path / "dataset", "bm25", pa.table({**ROWS, "negative_1": TEXTS[::-1]}))
    with pytest.raises(UserError, match=r"that differs: rows.1 "):
        train.main(recipe(*LONG), tmp_path / "m", 1)
    assert files_of(partial) == before
    interrupt(recipe(*LONG), tmp_path / "m", fresh=True)
    train.main(recipe(*LONG), tmp_path / "m", 1)  # a fresh start that was interrupted goes on as any other
    assert record(tmp_path / "m")["training"]["resumed_from"] > 0


def test_fewer_processes_go_on_where_steps_stay_the_same(recipe, tmp_path):
    interrupt(recipe(*LONG, "trainer.gradient_accumulation_steps=2"), tmp_path / "m")
    inputs = tmp_path / "m.partial" / INPUTS

    def of_two(content):  # two processes without accumulation train on the same rows in each step
        content["surroundings"]["hardware"]["processes"] = 2

    edit(inputs, of_two)
    with pytest.raises(UserError, match=r"batches_a_step 2 -> 1"):
        train.main(recipe(*LONG), tmp_path / "m", 1)
    train.main(recipe(*LONG, "trainer.gradient_accumulation_steps=2"), tmp_path / "m", 1)
    assert "hardware.processes 2 -> 1" in record(tmp_path / "m")["changes"]


def test_an_attempt_without_a_checkpoint_stands_in_no_ones_way(recipe, tmp_path):
    with pytest.raises(UserError):
        train.main(recipe("trainer.per_device_train_batch_size=500"), tmp_path / "m", 1)
    train.main(recipe(), tmp_path / "m", 1)


def test_a_finished_model_stays_whatever_is_around_it(recipe, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "m"
    train.main(recipe(), out, 1)

    def older(content):
        content["packages"]["transformers"] = "4.0.0"
        content["code"]["sha256"] = "0" * 64
        content["hardware"]["processes"] = 2
        content["inputs"]["batches_a_step"] = 2
        content["inputs"]["recipe"].pop("pooling")  # a key that came later
        content["inputs"]["recipe"] |= {"watch": "none", "length_buckets": False}  # keys that were removed since

    edit(out / "run.json", older)
    write_config(tmp_path / "dataset", "dense", pa.table(ROWS))  # another kind of the same data set
    before = files_of(out)
    train.main(recipe("trainer.report_to=none", "trainer.save_total_limit=1"), out, 1)
    assert files_of(out) == before
    assert "nothing to do (it was made with others: hardware.processes 2 -> 1" in caplog.text
    assert "packages.transformers 4.0.0 -> " in caplog.text
    write_config(tmp_path / "dataset", "bm25", pa.table({**ROWS, "negative_1": TEXTS[::-1]}))
    with pytest.raises(UserError, match=r"holds a finished run of 2 steps \(\d+ s\) that differs: rows.1 .*--fresh"):
        train.main(recipe(), out, 1)
    assert files_of(out) == before
    train.main(recipe(), out, 1, fresh=True)
    assert files_of(out) != before


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("m", "holds no finished run .* it is not replaced: name another output folder"),
        ("m.partial", "m.partial: it holds thesis.txt, and no run; move that away"),
    ],
)
@pytest.mark.parametrize("fresh", [False, True])
def test_what_no_run_wrote_is_not_replaced(recipe, tmp_path, folder, words, fresh):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "thesis.txt").touch()
    with pytest.raises(UserError, match=words):
        train.main(recipe(), tmp_path / "m", 1, fresh=fresh)
    assert (tmp_path / folder / "thesis.txt").exists()


def test_a_guide_is_told_by_its_content_and_not_by_its_place(recipe, tmp_path, base, caplog):
    caplog.set_level("INFO")
    guide = shutil.copytree(base, tmp_path / "guide")
    train.main(recipe("loss=gist", f"loss_options.guide={guide}"), tmp_path / "m", 1)
    train.main(recipe("loss=gist", f"loss_options.guide={base}"), tmp_path / "m", 1)
    assert "nothing to do" in caplog.text
    edit(guide / "1_Pooling" / "config.json", lambda content: content.update(pooling_mode="cls"))
    with pytest.raises(UserError, match=r"that differs: loss_options.guide "):
        train.main(recipe("loss=gist", f"loss_options.guide={guide}"), tmp_path / "m", 1)
    edit(tmp_path / "m" / "run.json", lambda content: content["inputs"].update(base="sha256:other"))
    with pytest.raises(UserError, match=r"that differs: base other -> "):
        train.main(recipe("loss=gist", f"loss_options.guide={base}"), tmp_path / "m", 1)


def test_each_seed_has_a_peak_of_its_own(recipe, tmp_path):
    held = bytearray(400_000_000)  # what was held before counts only while it is held
    held[::4096] = b"x" * len(held[::4096])
    del held
    (folder,) = train.main(recipe(), tmp_path / "m", 1)
    found = record(folder)["peak_memory"]
    assert found["of"] == "process"
    assert 100 < found["mib"] < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - 100


def test_the_recipe_in_a_record_is_read_again(recipe):
    kept = shaping(recipe("lora.rank=4", "loss_options.scale=30").config)
    assert shaping(msgspec.convert(json.loads(json.dumps(kept)), TrainRecipe)) == kept


def test_adapters_on_named_layers_are_done_when_they_are_done(recipe, tmp_path):
    named, out = recipe("lora.rank=2", 'lora.target_modules=["query"]'), tmp_path / "m"
    train.main(named, out, 1)
    before = files_of(out)
    train.main(named, out, 1)
    assert files_of(out) == before


def test_a_look_before_training_stands_in_its_way_nowhere(recipe, tmp_path):
    train.main(recipe(), tmp_path / "m", 1, only_look=True)
    assert not (tmp_path / "m").exists()
    train.main(recipe(), tmp_path / "m", 1)


def test_batches_by_length_were_another_order(recipe, tmp_path):
    train.main(recipe(), tmp_path / "m", 1)
    edit(tmp_path / "m" / "run.json", lambda content: content["inputs"]["recipe"].update(length_buckets=True))
    with pytest.raises(UserError, match="differs: length_buckets True, a removed key"):
        train.main(recipe(), tmp_path / "m", 1)


EARLIER = "differs: its record, which an earlier version wrote; name another output"


def test_what_an_earlier_version_left_is_kept_and_refused_in_one_line(recipe, tmp_path):
    partial, out = interrupt(recipe(*LONG), tmp_path / "m"), tmp_path / "finished"
    (partial / INPUTS).write_text(json.dumps({"recipe": "9f86d081884c7d65", "base": "x", "packages": {}}))
    with pytest.raises(UserError, match=EARLIER):
        train.main(recipe(*LONG), tmp_path / "m", 1)
    train.main(recipe(), out, 1)
    edit(out / "run.json", lambda content: content["inputs"].update(recipe="9f86d081884c7d65"))
    before = files_of(out)
    with pytest.raises(UserError, match=EARLIER):
        train.main(recipe(), out, 1)
    assert files_of(out) == before
