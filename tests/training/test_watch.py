"""What is seen of a training: trackers that stay on this machine, a line in the log, and an end at the first NaN."""

import json
import os
import sqlite3
import sys

import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers import SentenceTransformerTrainer as Trainer
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from foils.errors import UserError
from foils.models import resolve_model
from tests.conftest import BASE, SHARED
from tests.fixtures import commands
from tests.test_architecture import ROOT
from tests.training.scifact_rows import scifact_rows
from training import guards, trackers, watch
from training.cross_encoder import labelled_pairs

FEW = {"per_device_train_batch_size": 2, "logging_steps": 1, "use_cpu": True, "disable_tqdm": True, "seed": 1}


pytestmark = pytest.mark.usefixtures("one_thread")

TRACKED = """
import sys
from pathlib import Path
from tests.training.test_watch import *  # the Hub of the tests starts, on this machine
torch.set_num_threads(1)
def told(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print("NETWORK", event, arguments[-1:], flush=True)
sys.addaudithook(told)
out = Path(sys.argv[1]) / "model"
model = small()
arguments = Arguments(str(out), max_steps=3, **FEW, **trackers.tracking(tuple(sys.argv[2:]), out))
trainer = Trainer(
    model,
    arguments,
    train_dataset=scifact_rows(6),
    loss=MultipleNegativesRankingLoss(model),
    callbacks=trackers.tracker_callbacks(tuple(sys.argv[2:])),
)
watch.quiet(trainer)
trainer.train()
"""


def small():
    model = SentenceTransformer(resolve_model(BASE).location)
    model.max_seq_length = 8
    return model


def tracked(tmp_path, *names):
    """Trains three steps in a process of its own, which tells whatever goes to the network."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("TRACKIO", "WANDB", "TENSORBOARD"))}
    command = [sys.executable, "-c", TRACKED, str(tmp_path), *names]
    done = commands.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=keep)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("NETWORK")] == []
    assert "Uploading" not in done.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "watch"}


def test_trackers_have_the_loss_and_nothing_leaves_the_machine(tmp_path):
    tracked(tmp_path, "trackio", "tensorboard")
    events = EventAccumulator(str(tmp_path / "watch" / "tensorboard" / "model"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert list(losses) == [1, 2, 3]
    with sqlite3.connect(tmp_path / "watch" / "trackio" / "foils.db") as database:
        logged = database.execute("SELECT run_name, metrics FROM metrics ORDER BY id").fetchall()
    assert {name for name, _ in logged} == {"model"}
    values = [json.loads(metrics).get("train/loss") for _, metrics in logged]
    assert [value for value in values if value is not None] == pytest.approx(list(losses.values()))


def test_a_tracker_that_is_missing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    for name in ("trackio", "tensorboard", "wandb"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert trackers.tracking("auto", tmp_path / "m") == {"report_to": "none"}
    assert trackers.tracking("none", tmp_path / "m") == {"report_to": "none"}
    for name in ("trackio", "tensorboard", "wandb"):
        with pytest.raises(
            UserError, match=rf"watch '{name}': not installed; run: pip install {name}.* watch = 'none'"
        ):
            trackers.tracking(name, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def train(folder, callbacks=lambda _loss, _model: [], **more):
    model = small()
    loss = MultipleNegativesRankingLoss(model)
    arguments = Arguments(str(folder), **FEW, report_to="none", logging_nan_inf_filter=False, **more)
    trainer = Trainer(
        model=model, args=arguments, train_dataset=scifact_rows(12), loss=loss, callbacks=callbacks(loss, model)
    )
    watch.quiet(trainer)
    trainer.train()
    return trainer


def test_a_log_gets_lines_and_no_bar(tmp_path, caplog, capfd):
    caplog.set_level("INFO")
    trainer = train(tmp_path, lambda *_: [watch.ProgressBar(log_s=0.0)], max_steps=3)
    lines = [record.message for record in caplog.records if record.message.startswith("training: ")]
    assert len(lines) == 4
    assert lines[-1].startswith("training: step 3 of 3, loss ")
    for part in (", lr ", " samples/s, ", "0 s left"):
        assert part in lines[-1]
    assert "it/s" not in capfd.readouterr().err.replace("Loading weights", "").partition("dev")[2]
    losses = [row["loss"] for row in watch.history(trainer.state.log_history)]
    smooth = losses[0]
    for loss in losses[1:]:
        smooth = 0.7 * smooth + 0.3 * loss
    assert f"loss {smooth:.4f}" in lines[-1]


def test_long_histories_are_thinned_but_measurements_stay():
    log = [{"step": step, "epoch": step / 1e4, "loss": float(step)} for step in range(1, 10_001)]
    log += [{"step": step, "epoch": step / 1e4, "eval_nDCG@10": 0.5} for step in range(1000, 10_001, 1000)]
    rows = watch.history(log)
    assert len(rows) == 200
    assert rows[0] == {"step": 50, "epoch": 0.005, "loss": 25.5}
    assert sum("dev_ndcg" in row for row in rows) == 10
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def stop(loss, model):
    return [guards.StopOnNaN(loss, model.tokenizer)]


def test_a_loss_that_is_no_number_ends_training_with_step_and_rows(tmp_path):
    # So large a step that the sums of the next one overflow.
    with pytest.raises(UserError, match="the loss is nan at step 2; the batch begins with the rows '") as told:
        train(tmp_path, stop, max_steps=4, learning_rate=1e30, lr_scheduler_type="constant", save_steps=1)
    assert "The checkpoint of step 1 holds numbers only and stays" in str(told.value)
    assert "lower trainer.learning_rate" in str(told.value)
    assert str(told.value).count(" | ") == 6  # two rows of four texts
    assert [folder.name for folder in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize("saved", [{"save_steps": 1}, {"save_strategy": "no"}])
def test_weights_that_are_no_numbers_are_not_saved(tmp_path, saved):
    with pytest.raises(UserError, match=r"weights hold NaN or infinity after step 1, .* No checkpoint was made yet"):
        train(tmp_path, stop, max_steps=1, learning_rate=1e39, lr_scheduler_type="constant", **saved)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_cross_encoders_rows_are_told_too(tmp_path):
    model = CrossEncoder(str(SHARED / "models" / "cross-encoder-mini"), max_length=16)
    rows = labelled_pairs(scifact_rows(3))
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("inf"))
    loss = BinaryCrossEntropyLoss(model)
    arguments = CrossEncoderTrainingArguments(str(tmp_path), **FEW, report_to="none", max_steps=1)
    trainer = CrossEncoderTrainer(
        model=model, args=arguments, train_dataset=rows, loss=loss, callbacks=[guards.StopOnNaN(loss)]
    )
    with pytest.raises(
        UserError, match=r"the loss is nan at step 1; the batch begins with the rows '.* No checkpoint"
    ) as e:
        trainer.train()
    assert any(text[:50] in str(e.value) for text in rows["query"])
