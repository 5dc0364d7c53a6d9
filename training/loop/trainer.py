"""The part that both trainers share: pre-flight, training that goes on where an earlier attempt was stopped, saving."""

import errno
import logging
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict, IterableDataset
from safetensors import SafetensorError
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from foils.errors import UserError
from training import preflight
from training.job import Job, Ready
from training.loop import curves, dev
from training.loop.arguments import training_arguments
from training.loop.checkpoints import CHECKPOINTS, MODEL, Checkpoints, decided_by_first, last_checkpoint, seconds_before
from training.loop.guards import StopOnNaN
from training.model import lora, merging
from training.model.base import load_retriever
from training.preflight.room import LESS_MEMORY
from training.recipe import TrainRecipe
from training.rows.hold_out import hold_out, pairs_hash

logger = logging.getLogger(__name__)


def arguments_of(job: Job, more: Mapping[str, Any] | None = None) -> Any:
    """The trainer's arguments; `more` goes before the recipe's."""
    return training_arguments(job.config, job.folder / CHECKPOINTS, job.out, more)


def parted(job: Job) -> tuple[Dataset | DatasetDict | IterableDataset, Dataset | None]:
    """The rows to train on, and those of held-out queries; None where the recipe holds out none."""
    rows, held_out = hold_out(job.training.rows, job.config.dev, job.training.groups)
    return DatasetDict(rows) if isinstance(rows, dict) else rows, held_out


def evaluator(job: Job, rows: Any, held_out: Dataset | None, arguments: TrainingArguments) -> dev.DevEvaluator | None:
    """Makes the evaluator for the held-out queries."""
    if held_out is None:
        return None
    lower = torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else None
    if arguments.world_size > 1:
        lower = None  # autocast would reach the first process only
    queries = dev.dev_set(held_out, rows, job.config.dev)
    return dev.DevEvaluator(queries, job.config.task, job.config.dev, arguments.per_device_eval_batch_size, lower)


def prepare(model: Any, config: TrainRecipe) -> None:
    """Makes a loaded base ready to be trained as the recipe says: adapters, dropout.

    Raises:
        UserError: adapters cannot be put on it, or it has no weights that `[trainer]` names.
    """
    for pattern in config.trainer.get("learning_rate_mapping") or {}:
        if not any(re.search(pattern, name) for name, _ in model.named_parameters()):
            raise UserError(
                f"recipe: trainer.learning_rate_mapping: no weight of the base has {pattern!r} in its name; one is "
                f"{next(model.named_parameters())[0]!r}"
            )
    if config.dropout is not None:
        set_dropout(model, config.dropout)  # the adapters have one of their own
    if config.lora is not None:
        lora.wrap(model, config.lora)


def set_dropout(model: torch.nn.Module, probability: float) -> None:
    """Sets every dropout of a model: its layers, and the rates that attention is called with.

    The model's saved configuration keeps its base's values.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, probability)


def train(ready: Ready) -> dict[str, Any]:
    """Trains, and saves the model in the run's folder; returns the run record's `training`.

    Raises:
        UserError: pre-flight refuses, memory or disk space runs out, or the loss is not a number.
    """
    job, trainer = ready.job, ready.trainer
    figures = decided_by_first(partial(_checked, ready))
    outcome = _fit(trainer, job)
    if job.config.dev.queries:
        outcome["dev"] = dev.summary(trainer.state, job.config.dev, Path(trainer.args.output_dir) / "eval")
        if PartialState().is_main_process:  # whose model is saved
            load_checkpoint(trainer, outcome["dev"]["best"]["step"])
    outcome["history"] = curves.history(trainer.state.log_history)
    if job.config.lora is not None:
        lora.merge(trainer.model)
    if job.config.merge and PartialState().is_main_process:
        outcome["merge"] = _merged(ready)
    _save(ready)
    if PartialState().is_main_process:
        outcome |= curves.add_curves(job.folder / MODEL, outcome["history"], job.config.seed)
    return {**outcome, "pairs": pairs_hash(trainer.train_dataset), "preflight": figures}


def _checked(ready: Ready) -> Any:
    """Reports what this training will be, and refuses it where pre-flight finds what would waste it."""
    report = preflight.examine(ready)
    logger.info("pre-flight\n%s", report.table())
    report.refuse(ready.job.config.allow)
    return msgspec.to_builtins(report.figures)


def _fit(trainer: Trainer, job: Job) -> dict[str, Any]:
    """Trains to the end, from the last whole checkpoint where there is one.

    Returns:
        For the run record: the batch size is over all processes and gradient accumulation; seconds are of all attempts;
        `resumed_from` is the step that this one went on from (0 for the start).
    """
    arguments, config = trainer.args, job.config
    start = decided_by_first(partial(last_checkpoint, job.folder))
    timed = arguments.save_strategy == "no"  # the recipe leaves it to us
    marks = Checkpoints(seconds_before(start), config.checkpoint_minutes if timed else 0)
    trainer.add_callback(marks)
    trainer.add_callback(_LogsLast())
    trainer.add_callback(StopOnNaN(trainer.loss))
    if config.dev.patience:
        trainer.add_callback(EarlyStoppingCallback(config.dev.patience))
    # The card that sentence-transformers writes into each checkpoint would ask the Hub for the base.
    trainer.model.model_card_data.local_files_only = True
    arguments.eval_on_start = arguments.eval_on_start and start is None  # the first attempt has measured the base
    try:
        outcome = trainer.train(resume_from_checkpoint=None if start is None else str(start))
    except (RuntimeError, OSError, SafetensorError) as error:
        if (remedy := _remedy(error, arguments.train_batch_size, job.folder)) is None:
            raise
        raise UserError(remedy) from None
    return {
        "steps": outcome.global_step,
        "batch_size": arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps,
        "seconds": round(marks.seconds, 1),
        "resumed_from": 0 if start is None else int(start.name.rpartition("-")[2]),
    }


def load_checkpoint(trainer: Trainer, step: int) -> None:
    """Loads the best checkpoint: where that fails, or where the run was moved, the trainer goes on with the last one.

    Raises:
        UserError: it is missing or damaged.
    """
    folder = Path(trainer.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
    try:
        trainer._load_from_checkpoint(str(folder))  # noqa: SLF001
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"training: the best checkpoint, {folder}, cannot be loaded ({str(error).splitlines()[0]}); run again with "
            "--fresh, or without [dev]"
        ) from None


def _merged(ready: Ready) -> dict[str, Any]:
    """Averages the trained retriever with its base, and returns what the run record says of it."""
    config, trainer = ready.job.config, ready.trainer
    base = load_retriever(ready.job.base.location, None, config.pooling).to("cpu").state_dict()
    held_out = trainer.evaluator
    measure = None if held_out is None else lambda model: held_out(model)[dev.METRIC]
    return merging.merge(trainer.model, base, config.merge, measure)


def _save(ready: Ready) -> None:
    """Saves the trained model as its base was saved, once for all processes, without a card."""
    model, target = ready.trainer.model, ready.job.folder / MODEL
    # A shorter length saves time in training. The saved model reads what its base reads, or they could not be compared.
    if ready.max_seq_length is not None:
        model.max_seq_length = ready.max_seq_length
    if PartialState().is_main_process:
        shutil.rmtree(target, ignore_errors=True)  # of an attempt that was killed while it saved
        model.save_pretrained(str(target), create_model_card=False)


class _LogsLast(TrainerCallback):
    """Logs the last step, so that a training shorter than `logging_steps` has a history."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True


def _remedy(error: Exception, batch_size: int, folder: Path) -> str | None:
    """Says what to do about an error that more room would cure; None for any other."""
    text = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return f"recipe: trainer.per_device_train_batch_size {batch_size}: memory ran out; set it {LESS_MEMORY}"
    # torch reports a file that it cannot write by its own source line, and safetensors by the error's number.
    if getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in text or "inline_container" in text:
        free = shutil.disk_usage(folder).free / 1e6
        return (
            f"output folder {folder / CHECKPOINTS}: a checkpoint cannot be written, with {free:,.0f} MB free; free "
            "some, or set trainer.save_total_limit = 1; run again and training goes on from the last whole checkpoint"
        )
    return None
