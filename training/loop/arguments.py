"""The recipe's `[trainer]` table as a trainer's arguments, over the defaults of this project.

It is looked at before anything is loaded: each mistake is one line that names its key.
"""

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import torch
from accelerate import PartialState
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments
from torch.utils.data import DataLoader
from transformers import Trainer, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from foils.errors import UserError
from foils.hardware import has_native_bf16
from training.loop import dev
from training.recipe import TrainRecipe
from training.rows.mixture import DEFAULT_BATCH

TENSORBOARD_LOGGING_DIR = os.environ.get("TENSORBOARD_LOGGING_DIR")
"""The folder that the user wants TensorBoard's files in."""
_KEYS = [field.name for field in fields(SentenceTransformerTrainingArguments)]
_ONE_MODEL_EACH = "leave it out: each process holds the whole model, see training/accelerate/gpus.yaml"
_PUSH = "give --push OWNER/NAME: the finished model is published once, as a version, and not in the background"
INSTEAD = {
    "output_dir": "give --out",
    **dict.fromkeys(("seed", "data_seed"), "set seed at the recipe's top level"),
    **dict.fromkeys(("push_to_hub", *(key for key in _KEYS if key.startswith("hub_"))), _PUSH),
    "prompts": "set query_prompt and passage_prompt at the recipe's top level",
    "resume_from_checkpoint": "leave it out: a run that was stopped goes on by itself",
    **dict.fromkeys(("bf16", "fp16"), "set precision at the recipe's top level"),
    "ddp_backend": "leave it out: processes communicate through nccl on GPUs and gloo on a CPU",
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
_REFUSALS = (TypeError, ValueError, ImportError, OSError, RuntimeError, KeyError, AttributeError, re.error)
"""What the libraries raise at a value."""
_NOT_ZERO = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "save_total_limit"),
    *("num_train_epochs", "max_steps", "save_steps", "logging_steps", "eval_steps"),
)


def training_arguments(config: TrainRecipe, folder: Path, out: Path, more: Mapping[str, Any] | None = None) -> Any:
    """Builds the trainer's arguments: the `trainer` table as it is, over quiet defaults; `more` goes before all.

    Checkpoints go to `folder`, TensorBoard's files beside the model's folder, `out`.

    Raises:
        _REFUSALS: the library refuses a value, which `check_trainer` finds out before anything is loaded.
    """
    accelerator, table = torch.accelerator.is_available(), config.trainer
    given: dict[str, Any] = {
        "save_strategy": "no",  # by time instead, see training.loop.checkpoints
        "save_total_limit": 2,
        "logging_steps": 10,
        "use_cpu": not accelerator,
        "dataloader_pin_memory": accelerator,
        "dataloader_drop_last": PartialState().num_processes > 1,  # which the library would set with a notice
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
    arguments = _kind(config)(output_dir=str(folder), seed=config.seed, **given)
    arguments._n_gpu = min(arguments.n_gpu, 1)  # noqa: SLF001 - else a batch would be as many times larger
    return arguments


def check_trainer(config: TrainRecipe) -> None:
    """Refuses a table that training would trip over.

    Raises:
        UserError: names the first key that is wrong, what it holds, and what is wanted.
    """
    table = config.trainer
    for name, instead in {**INSTEAD, **(BY_DEV if config.dev.queries else {})}.items():
        if name in table:
            raise UserError(f"recipe: trainer.{name} is not for the trainer table; {instead}")
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):  # by `accelerate launch`, or its default config
        if os.environ.get(name, "false").lower() in {"1", "true"}:
            raise UserError(f"{name} is set, by accelerate's options or its default config; {_ONE_MODEL_EACH}")
    if config.precision == "fp16" and not torch.cuda.is_available():  # its gradients need a scaler
        raise UserError("recipe: precision fp16: needs a GPU; allowed here: auto, bf16, fp32")
    for name, why in chain(_wrong_values(config), _unmet_needs(config)):
        raise _wrong(table, name, why)
    try:
        _try_out(config)
    except _REFUSALS as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        for name in table:  # the one without which all is well
            with suppress(*_REFUSALS):
                rest = {key: value for key, value in table.items() if key != name}
                _try_out(msgspec.structs.replace(config, trainer=rest))
                raise _wrong(table, name, why) from None
        raise UserError(f"recipe: trainer: {why}") from None


def _wrong_values(config: TrainRecipe) -> Iterator[tuple[str, str]]:
    """Yields keys with what is wrong: types and choices as the class states them, and ranges that no class looks at."""
    table, hints = config.trainer, get_type_hints(_kind(config))
    for field in [field for field in fields(_kind(config)) if field.name in table]:
        hint, value = hints[field.name], table[field.name]
        choices = field.metadata.get("choices")
        parts = {get_origin(part) or part for part in get_args(hint) or (hint,)}
        if field.name != "debug" and parts <= {int, float, bool, str, dict, list, NoneType}:
            try:
                msgspec.convert(value, hint)
            except msgspec.ValidationError as error:
                yield field.name, str(error)[:1].lower() + str(error)[1:]
            except TypeError:  # dicts of two kinds, which training itself looks at
                pass
        if choices is not None and value not in choices:
            yield field.name, f"wanted one of {', '.join(choices)}"
        elif isinstance(value, int | float) and value != field.default:  # -1 says that it is not set
            wanted = "more than 0" if field.name in _NOT_ZERO else "0 or more"
            if not 0 <= value < math.inf or (value == 0 and field.name in _NOT_ZERO):
                yield field.name, f"wanted {wanted}"


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


def _try_out(config: TrainRecipe) -> None:
    """Makes arguments, trackers, optimizer, schedule and loader once, for a single weight and row.

    Raises:
        _REFUSALS: the libraries refuse a value, or a package is missing.
    """
    unused = Path("unused")  # a name for which sentence-transformers gives no notices; training's arguments will
    arguments = training_arguments(config, unused, unused)
    for tracker in get_reporting_integration_callbacks(arguments.report_to):
        tracker()
    for pattern, rate in arguments.learning_rate_mapping.items():
        re.compile(pattern)
        if rate < 0:
            raise ValueError(f"{pattern!r} is {rate}: wanted 0 or more")
    weight = torch.nn.Linear(1, 1)
    if arguments.torch_compile:
        torch.compile(weight, backend=arguments.torch_compile_backend, mode=arguments.torch_compile_mode)
    make, given = Trainer.get_optimizer_cls_and_kwargs(arguments, weight)
    get_scheduler(
        arguments.lr_scheduler_type,
        optimizer=make(weight.parameters(), **given),
        num_warmup_steps=arguments.get_warmup_steps(100),
        num_training_steps=100,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )
    DataLoader(
        [0],  # type: ignore[arg-type]
        batch_size=arguments.train_batch_size,
        num_workers=arguments.dataloader_num_workers,
        persistent_workers=arguments.dataloader_persistent_workers,
        prefetch_factor=arguments.dataloader_prefetch_factor,
    )


def _kind(config: TrainRecipe) -> Any:
    """The class of the trainer's arguments."""
    return SentenceTransformerTrainingArguments if config.task == "retriever" else CrossEncoderTrainingArguments


def _wrong(table: dict[str, Any], name: str, why: str) -> UserError:
    if isinstance(table.get(name), str) and table[name].startswith("["):
        why += f"; in a shell: --set 'trainer.{name}=[\"a\"]', texts in double quotes"
    return UserError(f"recipe: trainer.{name} = {table.get(name, 'not set')!r}: {why}")
