"""What both trainers share: the recipe's `[trainer]` table as their arguments, and saving with a summary."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import TrainOutput

from cards.errors import UserError
from training.recipe import TrainRecipe

ArgumentsT = TypeVar("ArgumentsT", bound=TrainingArguments)

OURS = {
    "output_dir": "give --out",
    "seed": "set seed at the recipe's top level",
    "data_seed": "set seed at the recipe's top level",
    **dict.fromkeys(
        (
            *("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"),
            "hub_token",
        ),
        "give --push OWNER/NAME: the finished model is published once, as a version, and not in the background",
    ),
    "prompts": "set query_prompt and passage_prompt at the recipe's top level",
}


def training_arguments(kind: type[ArgumentsT], config: TrainRecipe, folder: Path, rows: int, **more: Any) -> ArgumentsT:
    """Builds the trainer's arguments.

    Args:
        kind: the class of the trainer's arguments.
        config: its `trainer` table is handed on as it is, over quiet defaults.
        folder: where the trainer may write.
        rows: of the training set, to see that there is at least one batch.
        more: what only one kind of trainer knows.

    Raises:
        UserError: `[trainer]` holds a name that the class does not know, one that the recipe sets elsewhere, or a
            batch size above the number of rows where incomplete batches are dropped.
    """
    for name, instead in OURS.items():
        if name in config.trainer:
            raise UserError(f"recipe: trainer.{name} is not for the trainer table; {instead}")
    defaults: dict[str, Any] = {
        "save_strategy": "no",
        "logging_steps": 10,
        "report_to": "none",
        "use_cpu": not torch.accelerator.is_available(),
        "dataloader_pin_memory": torch.accelerator.is_available(),
    }
    try:
        arguments: ArgumentsT = kind(output_dir=str(folder), seed=config.seed, **{**defaults, **config.trainer, **more})
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


def save(trainer: Trainer, outcome: TrainOutput, folder: Path) -> dict[str, Any]:
    """Saves the trained model, once for all processes, without a card.

    Returns:
        Steps, batch size over all processes and mean loss, for the run record.
    """
    if trainer.accelerator.is_main_process:
        trainer.model.save_pretrained(str(folder), create_model_card=False)
    return {
        "steps": outcome.global_step,
        "batch_size": trainer.args.train_batch_size * trainer.accelerator.num_processes,
        "mean_loss": round(outcome.training_loss, 6),
    }
