"""The recipe's `[trainer]` table as a trainer's arguments, over the defaults of this project."""

import os
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from sentence_transformers.base.sampler import BatchSamplers
from transformers import TrainingArguments

from foils.errors import UserError
from foils.hardware import has_native_bf16
from training.job import Job
from training.loop import dev
from training.loop.checkpoints import CHECKPOINTS
from training.recipe import TrainRecipe
from training.rows.mixture import DEFAULT_BATCH
from training.rows.samplers import LengthBatches

TENSORBOARD_LOGGING_DIR = os.environ.get("TENSORBOARD_LOGGING_DIR")
"""The folder that the user wants TensorBoard's files in."""
ArgumentsT = TypeVar("ArgumentsT", bound=TrainingArguments)


def training_arguments(kind: type[ArgumentsT], job: Job, more: Mapping[str, Any] | None = None) -> ArgumentsT:
    """Builds the trainer's arguments.

    Args:
        kind: the class of the trainer's arguments.
        job: the `trainer` table of its recipe is passed on as it is, over quiet defaults.
        more: what only one kind of trainer knows.

    Raises:
        UserError: `[trainer]` does not fit what the recipe adds. See `training.loop.trainer_table` for what is refused
            before.
    """
    config = job.config
    accelerator = torch.accelerator.is_available()
    defaults: dict[str, Any] = {
        "save_strategy": "no",  # by time instead, see training.loop.checkpoints
        "save_total_limit": 2,
        "logging_steps": 10,
        "use_cpu": not accelerator,
        "dataloader_pin_memory": accelerator,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "run_name": job.out.name,
        "disable_tqdm": not sys.stderr.isatty(),  # a log gets lines and not a bar
        **precision_arguments(config.precision),
        **length_buckets(config),
        **dev.trainer_defaults(config.dev, config.trainer.get("per_device_train_batch_size", DEFAULT_BATCH)),
    }
    given = {**defaults, **config.trainer, **(more or {})}
    # By itself, TensorBoard's callback would write into the folder of checkpoints, which does not stay.
    beside = job.out.resolve().parent / "tensorboard" / job.out.name
    os.environ["TENSORBOARD_LOGGING_DIR"] = TENSORBOARD_LOGGING_DIR or str(beside)
    try:
        arguments: ArgumentsT = kind(output_dir=str(job.folder / CHECKPOINTS), seed=config.seed, **given)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"recipe: trainer: {str(error).splitlines()[0]} (the table is passed to {kind.__name__})"
        ) from None
    return arguments


def precision_arguments(precision: str) -> dict[str, bool]:
    """The trainer's arguments for a recipe's `precision`: autocast, with weights and optimiser in fp32.

    Raises:
        UserError: fp16 without a GPU: its gradients need a scaler that a CPU does not have.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise UserError("recipe: precision fp16: needs a GPU; allowed here: auto, bf16, fp32")
    return {"bf16": precision == "bf16" or (precision == "auto" and has_native_bf16()), "fp16": precision == "fp16"}


def length_buckets(config: TrainRecipe) -> dict[str, Any]:
    """The batch sampler where the recipe asks for batches by length.

    Raises:
        UserError: it asks for another batch sampler as well.
    """
    if not config.length_buckets:
        return {}
    if "batch_sampler" in config.trainer:
        raise UserError(
            f"recipe: length_buckets and trainer.batch_sampler {config.trainer['batch_sampler']!r}: one of them fills "
            f"the batches; leave the other out (samplers: {', '.join(each.value for each in BatchSamplers)})"
        )
    return {"batch_sampler": LengthBatches}
