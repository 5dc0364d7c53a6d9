"""The recipe's `[trainer]` table as a trainer's arguments, over the defaults of this project."""

from typing import Any, TypeVar

import torch
from sentence_transformers.base.sampler import BatchSamplers
from transformers import TrainingArguments

from foils.errors import UserError
from foils.hardware import has_native_bf16
from training import dev
from training.batches import LengthBatches
from training.checkpoints import CHECKPOINTS
from training.mixture import DEFAULT_BATCH
from training.recipe import TrainRecipe
from training.trackers import tracking
from training.trainer import Job

ArgumentsT = TypeVar("ArgumentsT", bound=TrainingArguments)


def training_arguments(kind: type[ArgumentsT], job: Job, rows: int, **more: Any) -> ArgumentsT:
    """Builds the trainer's arguments.

    Args:
        kind: the class of the trainer's arguments.
        job: the `trainer` table of its recipe is handed on as it is, over quiet defaults.
        rows: that the trainer gets, to see that there is at least one batch.
        more: what only one kind of trainer knows.

    Raises:
        UserError: `[trainer]` does not fit what the recipe adds, or has a batch size above the number of rows where
            incomplete batches are dropped. See `training.trainer_table` for what is refused before.
    """
    config = job.config
    accelerator = torch.accelerator.is_available()
    defaults: dict[str, Any] = {
        "save_strategy": "no",  # by time instead, see training.checkpoints
        "save_total_limit": 2,
        "logging_steps": 10,
        "use_cpu": not accelerator,
        "dataloader_pin_memory": accelerator,
        "logging_nan_inf_filter": False,
        **tracking(config.watch, job.out),
        **precision_arguments(config.precision),
        **length_buckets(config),
        **dev.trainer_defaults(config.dev, config.trainer.get("per_device_train_batch_size", DEFAULT_BATCH)),
    }
    try:
        arguments: ArgumentsT = kind(
            output_dir=str(job.folder / CHECKPOINTS), seed=config.seed, **{**defaults, **config.trainer, **more}
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"recipe: trainer: {str(error).splitlines()[0]} (the table is handed to {kind.__name__})"
        ) from None
    batch = arguments.train_batch_size * arguments.world_size
    if rows < batch and (arguments.dataloader_drop_last or arguments.world_size > 1):
        raise UserError(
            f"recipe: trainer.per_device_train_batch_size {arguments.train_batch_size}: {arguments.world_size} "
            f"processes need {batch} rows for one batch and the data set has {rows}; set it lower"
        )
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
