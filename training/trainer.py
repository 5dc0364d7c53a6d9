"""What both trainers share: training that goes on where an earlier attempt was stopped, and saving with a summary."""

import errno
import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cards.errors import UserError
from training import lora
from training.checkpoints import CHECKPOINTS, Checkpoints, last_checkpoint, seconds_before
from training.recipe import TrainRecipe

logger = logging.getLogger(__name__)


def fit(trainer: Trainer, config: TrainRecipe, folder: Path) -> dict[str, Any]:
    """Trains to the end, from the last whole checkpoint where there is one.

    Returns:
        For the run record: steps, batch size over all processes and gradient accumulation, mean loss, the seconds of
        all attempts up to here, and the step that this attempt went on from (0 for the start).

    Raises:
        UserError: memory or disk space ran out; says what to set, or to free, and that training goes on.
    """
    arguments = trainer.args
    (start,) = broadcast_object_list([last_checkpoint(folder) if PartialState().is_main_process else None])
    timed = arguments.save_strategy == "no"  # the recipe leaves it to us
    marks = Checkpoints(seconds_before(start), config.checkpoint_minutes if timed else 0)
    trainer.add_callback(marks)
    trainer.add_callback(_LogsAll())
    try:
        outcome = trainer.train(resume_from_checkpoint=None if start is None else str(start))
    except (RuntimeError, OSError) as error:
        if (told := _told(error, arguments.train_batch_size, folder)) is None:
            raise
        raise UserError(told) from None
    return {
        "steps": outcome.global_step,
        "batch_size": arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps,
        "mean_loss": _mean_loss(trainer),
        "seconds": round(marks.seconds, 1),
        "resumed_from": 0 if start is None else int(start.name.rpartition("-")[2]),
    }


def prepare(model: Any, config: TrainRecipe) -> None:
    """Makes a loaded base ready to be trained as the recipe says: adapters, dropout.

    Raises:
        UserError: adapters cannot be put on it.
    """
    if config.dropout is not None:
        set_dropout(model, config.dropout)  # the adapters have one of their own
    if config.lora is not None:
        logger.info(lora.wrap(model, config.lora).told())


def save(trainer: Trainer, config: TrainRecipe, folder: Path) -> None:
    """Saves the trained model as its base was saved, once for all processes, without a card."""
    if config.lora is not None:
        lora.merge(trainer.model)
    if trainer.accelerator.is_main_process:
        trainer.model.save_pretrained(str(folder), create_model_card=False)


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


class _LogsAll(TrainerCallback):
    """No step is missing in the log of a checkpoint or of the whole run: the mean loss is taken from it."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if control.should_save or state.global_step >= state.max_steps:
            control.should_log = True


def _mean_loss(trainer: Trainer) -> float | None:
    """The mean over all steps from the log, which a checkpoint carries; transformers' own forgets earlier attempts."""
    logged: list[tuple[int, float]] = [
        (entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry
    ]
    steps = [step for step, _ in logged]
    weights = [step - before for step, before in zip(steps, [0, *steps], strict=False)]
    if not sum(weights):
        return None
    return round(sum(loss * weight for (_, loss), weight in zip(logged, weights, strict=True)) / sum(weights), 6)


def _told(error: Exception, batch_size: int, folder: Path) -> str | None:
    """What to do about an error that more room would cure; None for any other."""
    text = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return (
            f"recipe: trainer.per_device_train_batch_size {batch_size}: memory ran out; set it lower and "
            "trainer.gradient_accumulation_steps higher, or use a cached loss, gradient_checkpointing or a smaller "
            "max_seq_length"
        )
    if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in text or "file write failed" in text:
        return (
            f"output folder {folder / CHECKPOINTS}: no space left on the device; free some, or set "
            "trainer.save_total_limit = 1; run again and training goes on from the last whole checkpoint"
        )
    return None
