"""The recipe's `[trainer]` table as a trainer's arguments, over the defaults of this project.

It is looked at before anything is loaded: each mistake is one line that names its key.
"""

import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import torch
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments
from transformers import Trainer, get_scheduler

from foils.errors import UserError
from foils.hardware import has_native_bf16
from training.loop import dev
from training.recipe import TrainRecipe
from training.rows.mixture import DEFAULT_BATCH

TENSORBOARD_LOGGING_DIR = os.environ.get("TENSORBOARD_LOGGING_DIR")
"""The folder that the user wants TensorBoard's files in."""
_ONE_MODEL_EACH = "leave it out: each process holds the whole model, see training/accelerate/gpus.yaml"
_PUSH = "give --push OWNER/NAME: the finished model is published once, as a version, and not in the background"
INSTEAD = {
    "output_dir": "give --out",
    **dict.fromkeys(("seed", "data_seed"), "set seed at the recipe's top level"),
    **dict.fromkeys(
        (
            *("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"),
            "hub_token",
        ),
        _PUSH,
    ),
    "prompts": "set query_prompt and passage_prompt at the recipe's top level",
    "resume_from_checkpoint": "leave it out: a run that was stopped goes on by itself",
    "overwrite_output_dir": "leave it out: a finished run of another recipe is only replaced with --fresh",
    **dict.fromkeys(("bf16", "fp16"), "set precision at the recipe's top level"),
    "logging_nan_inf_filter": "leave it out: a loss that is not a number stops training",
    "save_only_model": "leave it out: a run that was stopped needs the optimizer's state to go on",
    "ignore_data_skip": "leave it out: a run that was stopped goes on with the rows that come next",
    "auto_find_batch_size": "set per_device_train_batch_size: the record would not say which size was found",
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config"), _ONE_MODEL_EACH),
    "neftune_noise_alpha": "leave it out: sentence-transformers' models have no place for it",
}
"""Arguments that are set elsewhere or would break a promise, and what to do instead."""
BY_DEV = {
    **dict.fromkeys(("eval_strategy", "eval_steps", "eval_delay"), "set dev.every"),
    **dict.fromkeys(
        ("metric_for_best_model", "greater_is_better", "load_best_model_at_end"),
        f"the best checkpoint by {dev.METRIC} of the held-out queries is kept",
    ),
}
"""Arguments that held-out queries decide, and what to do instead."""
_WITHOUT_DEV = ("eval_strategy", "eval_on_start", "do_eval", "load_best_model_at_end", "metric_for_best_model")
_AT_LEAST: dict[str, float] = {
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"), 1),
    **dict.fromkeys(("save_total_limit", "dataloader_prefetch_factor", "torch_empty_cache_steps"), 1),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "dataloader_num_workers"), 0),
    **dict.fromkeys(("num_train_epochs", "save_steps", "logging_steps", "eval_steps"), math.ulp(0)),
}
TRACKERS = ("trackio", "tensorboard", "wandb")


def training_arguments(config: TrainRecipe, folder: Path, out: Path, more: Mapping[str, Any] | None = None) -> Any:
    """Builds the trainer's arguments: the `trainer` table as it is, over quiet defaults; `more` goes before all.

    Checkpoints go to `folder`, TensorBoard's files beside the model's folder, `out`.

    Raises:
        UserError: the table does not fit what the recipe adds, or the library refuses a value.
    """
    accelerator, table = torch.accelerator.is_available(), config.trainer
    given: dict[str, Any] = {
        "save_strategy": "no",  # by time instead, see training.loop.checkpoints
        "save_total_limit": 2,
        "logging_steps": 10,
        "use_cpu": not accelerator,
        "dataloader_pin_memory": accelerator,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "run_name": out.name,
        "disable_tqdm": not sys.stderr.isatty(),  # a log gets lines and not a bar
        "bf16": config.precision == "bf16" or (config.precision == "auto" and has_native_bf16()),  # by autocast
        "fp16": config.precision == "fp16",
        **dev.trainer_defaults(config.dev, table.get("per_device_train_batch_size", DEFAULT_BATCH)),
        **table,
        **(more or {}),
    }
    # By itself, TensorBoard's callback would write into the folder of checkpoints, which does not stay.
    beside = out.resolve().parent / "tensorboard" / out.name
    os.environ["TENSORBOARD_LOGGING_DIR"] = TENSORBOARD_LOGGING_DIR or str(beside)
    kind = _kind(config)
    try:
        return kind(output_dir=str(folder), seed=config.seed, **given)
    except (TypeError, ValueError, ImportError, OSError) as error:
        why = f"{_first_line(error)} (the table is passed to {kind.__name__})"
        named = [name for name, value in table.items() if isinstance(value, str) and value in why]
        raise (_wrong(table, named[0], why) if named else UserError(f"recipe: trainer: {why}")) from None


def check_trainer(config: TrainRecipe) -> None:
    """Refuses a table that training would trip over.

    Raises:
        UserError: names the first key that is wrong, what it holds, and what is wanted.
    """
    table = config.trainer
    for name, instead in {**INSTEAD, **(BY_DEV if config.dev.queries else {})}.items():
        if name in table:
            raise UserError(f"recipe: trainer.{name} is not for the trainer table; {instead}")
    if config.precision == "fp16" and not torch.cuda.is_available():  # its gradients need a scaler
        raise UserError("recipe: precision fp16: needs a GPU; allowed here: auto, bf16, fp32")
    for name, why in chain(_wrong_values(config), _unmet_needs(config)):
        raise _wrong(table, name, why)
    with tempfile.TemporaryDirectory() as scratch:
        _check_optimizer(table, training_arguments(config, Path(scratch), Path(scratch)))


def _wrong_values(config: TrainRecipe) -> Iterator[tuple[str, str]]:
    """Yields keys with what is wrong: types, where the class says them in a way that can be checked, and ranges."""
    table, hints = config.trainer, get_type_hints(_kind(config))
    for name in [field.name for field in fields(_kind(config)) if field.name in table]:
        hint = hints[name]
        parts = {get_origin(part) or part for part in get_args(hint) or (hint,)}
        if parts <= {int, float, bool, str, NoneType} or get_origin(hint) in (dict, list):
            try:
                msgspec.convert(table[name], hint)
            except msgspec.ValidationError as error:
                yield name, str(error)[:1].lower() + str(error)[1:]
    for name, least in _AT_LEAST.items():
        if table.get(name) is not None and table[name] < least:
            yield name, f"wanted {least:g} or more" if least in (0, 1) else "wanted more than 0"
    if table.get("max_steps") == 0 or table.get("max_steps", -1) < -1:
        yield "max_steps", "wanted 1 or more, or -1 for num_train_epochs"


def _unmet_needs(config: TrainRecipe) -> Iterator[tuple[str, str]]:
    """Yields keys with what they need: held-out queries, class labels, packages that are missed only in training."""
    table = config.trainer
    if not config.dev.queries:
        asked = [name for name in _WITHOUT_DEV if table.get(name) not in (None, False, "no")]
        asked += ["save_strategy"] if table.get("save_strategy") == "best" else []
        yield from ((name, "it needs held-out queries; set dev.queries") for name in asked)
    if table.get("batch_sampler") == "group_by_label":
        yield "batch_sampler", "rows have no class labels; wanted batch_sampler or no_duplicates"
    if table.get("use_liger_kernel") and find_spec("liger_kernel") is None:
        yield "use_liger_kernel", "not installed; run: pip install liger-kernel"
    trackers = table.get("report_to", "none")
    for name in [trackers] if isinstance(trackers, str) else trackers:
        if name in TRACKERS and find_spec(name) is None:
            yield "report_to", f"not installed; run: pip install {name}"


def _check_optimizer(table: dict[str, Any], arguments: Any) -> None:
    """Makes optimizer and schedule once, for a single weight."""
    weight, keys = torch.nn.Linear(1, 1), ("optim_args", "optim")
    try:
        make, options = Trainer.get_optimizer_cls_and_kwargs(arguments, weight)
        optimizer = make(weight.parameters(), **options)
        keys, options = ("lr_scheduler_kwargs", "lr_scheduler_type"), arguments.lr_scheduler_kwargs
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=arguments.get_warmup_steps(100),
            num_training_steps=100,
            scheduler_specific_kwargs=options if isinstance(options, dict) else None,
        )
    except (ImportError, ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        name = keys[0] if keys[0] in table else keys[1]
        raise _wrong(table, name, f"it cannot be made here: {_first_line(error)}") from None


def _kind(config: TrainRecipe) -> Any:
    """The class of the trainer's arguments."""
    return SentenceTransformerTrainingArguments if config.task == "retriever" else CrossEncoderTrainingArguments


def _wrong(table: dict[str, Any], name: str, why: str) -> UserError:
    return UserError(f"recipe: trainer.{name} = {table.get(name, 'not set')!r}: {why}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
