"""What every trainer goes through: pre-flight, training that goes on where an attempt was stopped, saving."""

import errno
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from accelerate import PartialState
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
from training.loop import curves, dev
from training.loop.checkpoints import CHECKPOINTS, MODEL, Checkpoints, decided_by_first, last_checkpoint, seconds_before
from training.loop.making import Job, Ready
from training.model import lora, merging
from training.model.base import load_retriever
from training.preflight.examine import examine
from training.preflight.room import LESS_MEMORY
from training.rows.hold_out import pairs_hash

logger = logging.getLogger(__name__)

_NOT_NUMBERS = (
    "checkpoints, if any were made, hold numbers only and stay; lower trainer.learning_rate or give it "
    "trainer.warmup_steps, or try --set precision=fp32"
)


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
    report = examine(ready)
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
    trainer.add_callback(StopOnNaN(trainer))
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


class StopOnNaN(TrainerCallback):
    """Ends training with a `UserError` at the first loss that is NaN or infinite, with its step.

    It looks at each loss as it is computed, before gradients and weights see it, and at the weights before each
    checkpoint and at the end. So the last checkpoint is good. The trainer's own filter shows the mean of earlier losses
    in place of a NaN; set `logging_nan_inf_filter=False`.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        trainer.loss.register_forward_hook(self._look)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Looks at the weights before they are saved."""
        if control.should_save:
            self._refuse_weights(more["model"], state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Looks at the weights that training ends with."""
        self._refuse_weights(more["model"], state.global_step)

    def _look(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        """Looks at every loss of training; those of measurements have no gradient."""
        if not torch.is_grad_enabled():
            return
        parts = list(output.values()) if isinstance(output, dict) else [output]
        value = torch.stack([part.detach().float() for part in parts]).sum()
        if not torch.isfinite(value):
            raise UserError(
                f"training: the loss is {value.item()} at step {self._trainer.state.global_step + 1}; {_NOT_NUMBERS}"
            )

    def _refuse_weights(self, model: torch.nn.Module, step: int) -> None:
        bad = [name for name, weights in model.named_parameters() if not torch.isfinite(weights).all()]
        if bad:
            raise UserError(
                f"training: {len(bad)} weights hold NaN or infinity after step {step}, {bad[0]} first; {_NOT_NUMBERS}"
            )


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
