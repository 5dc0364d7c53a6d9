"""The recipe's `[trainer]` table, looked at before anything is loaded: each mistake is one line that names its key."""

import math
import tempfile
from dataclasses import fields
from importlib.util import find_spec
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import torch
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments
from transformers import Trainer, TrainingArguments, get_scheduler

from foils.errors import UserError
from training.loop.dev import METRIC
from training.recipe import TrainRecipe

_ONE_MODEL_EACH = "leave it out: each process holds the whole model, see training/accelerate/gpus.yaml"
INSTEAD = {
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
        f"the best checkpoint by {METRIC} of the held-out queries is kept",
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


def check_trainer(config: TrainRecipe) -> None:
    """Refuses a table that training would trip over.

    Raises:
        UserError: names the first key that is wrong, what it holds, and what is wanted.
    """
    kind = SentenceTransformerTrainingArguments if config.task == "retriever" else CrossEncoderTrainingArguments
    for name, instead in {**INSTEAD, **(BY_DEV if config.dev.queries else {})}.items():
        if name in config.trainer:
            raise UserError(f"recipe: trainer.{name} is not for the trainer table; {instead}")
    _check_values(config.trainer, kind)
    if not config.dev.queries:
        asked = [name for name in _WITHOUT_DEV if config.trainer.get(name) not in (None, False, "no")]
        if config.trainer.get("save_strategy") == "best":
            asked.append("save_strategy")
        if asked:
            raise _wrong(config.trainer, asked[0], "it needs held-out queries; set dev.queries")
    if config.trainer.get("batch_sampler") == "group_by_label":
        raise _wrong(
            config.trainer, "batch_sampler", "rows have no class labels; wanted batch_sampler or no_duplicates"
        )
    _check_packages(config.trainer)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            given = {"use_cpu": not torch.accelerator.is_available(), "report_to": "none", **config.trainer}
            arguments = kind(output_dir=scratch, **given)
        except (TypeError, ValueError, ImportError, OSError) as error:
            why = f"{_first_line(error)} (the table is passed to {kind.__name__})"
            named = [name for name, value in config.trainer.items() if isinstance(value, str) and value in why]
            raise (_wrong(config.trainer, named[0], why) if named else UserError(f"recipe: trainer: {why}")) from None
    _check_optimizer(config.trainer, arguments)


def _check_packages(table: dict[str, Any]) -> None:
    """Packages that the table needs and transformers would miss only when training starts."""
    if table.get("use_liger_kernel") and find_spec("liger_kernel") is None:
        raise _wrong(table, "use_liger_kernel", "not installed; run: pip install liger-kernel")
    trackers = table.get("report_to", "none")
    for name in [trackers] if isinstance(trackers, str) else trackers:
        if name in TRACKERS and find_spec(name) is None:
            raise _wrong(table, "report_to", f"not installed; run: pip install {name}")


def _check_values(table: dict[str, Any], kind: type[TrainingArguments]) -> None:
    """Types, where the class says them in a way that can be checked, and ranges."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        if field.name not in table or not _is_plain(hint):
            continue
        try:
            msgspec.convert(table[field.name], hint)
        except msgspec.ValidationError as error:
            raise _wrong(table, field.name, str(error)[:1].lower() + str(error)[1:]) from None
    for name, least in _AT_LEAST.items():
        if table.get(name) is not None and table[name] < least:
            raise _wrong(table, name, f"wanted {least:g} or more" if least in (0, 1) else "wanted more than 0")
    if table.get("max_steps") == 0 or table.get("max_steps", -1) < -1:
        raise _wrong(table, "max_steps", "wanted 1 or more, or -1 for num_train_epochs")


def _is_plain(hint: Any) -> bool:
    parts = {get_origin(part) or part for part in get_args(hint) or (hint,)}
    return parts <= {int, float, bool, str, NoneType} or get_origin(hint) in (dict, list)


def _check_optimizer(table: dict[str, Any], arguments: TrainingArguments) -> None:
    """Makes optimizer and schedule once, for a single weight."""
    weight = torch.nn.Linear(1, 1)
    try:
        make, options = Trainer.get_optimizer_cls_and_kwargs(arguments, weight)
        optimizer = make(weight.parameters(), **options)
    except (ImportError, ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        raise _wrong(
            table, "optim_args" if "optim_args" in table else "optim", f"it cannot be made here: {_first_line(error)}"
        ) from None
    options = arguments.lr_scheduler_kwargs
    try:
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=arguments.get_warmup_steps(100),
            num_training_steps=100,
            scheduler_specific_kwargs=options if isinstance(options, dict) else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        name = "lr_scheduler_kwargs" if "lr_scheduler_kwargs" in table else "lr_scheduler_type"
        raise _wrong(table, name, f"it cannot be made: {_first_line(error)}") from None


def _wrong(table: dict[str, Any], name: str, why: str) -> UserError:
    return UserError(f"recipe: trainer.{name} = {table.get(name, 'not set')!r}: {why}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
