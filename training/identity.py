"""The identity of a run. Rows, base and recipe decide; all else is recorded, and reported where it differs.

So an upgrade of a package, an edit of the code or another machine never costs trained hours.
"""

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import torch

from foils.errors import UserError
from foils.models import ModelReference, resolve_model
from foils.provenance import code_version, package_versions, sha256_file, sha256_json
from foils.recipe import Recipe, without_removed
from foils.words import duration, listed
from training.losses.table import LOSSES
from training.publish import finished_record
from training.recipe import TrainRecipe
from training.rows.source import Source
from training.rows.table import Table

logger = logging.getLogger(__name__)

REMEDY = "name another output folder, or pass --fresh to train from the start and replace it"
FOREIGN = "it is not replaced: name another output folder, or move that away"
# Keys of [trainer] that do not shape the model; with [dev], saving decides what is chosen.
_LOOKS_ON = (
    *("logging_", "log_level", "report_to", "project", "trackio_"),
    *("dataloader_num", "dataloader_pin", "dataloader_pref", "dataloader_pers"),
)
_ROOM = (
    *("save_total_limit", "disable_tqdm", "run_name", "per_device_eval_batch_size", "ddp_timeout"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "torch_empty_cache_steps", "skip_memory_metrics"),
)
_SAVING = ("save_strategy", "save_steps")
_SHOWN_LETTERS = 24


@dataclass(frozen=True)
class Run:
    """One model to train: the recipe with the configuration of this run's seed, and what it names, pinned."""

    recipe: Recipe[TrainRecipe]
    source: Source
    also: Sequence[Source | Table]
    base: ModelReference
    processes: int

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What shapes the model: the content of data, base and guide, hashed once, and not where they lie."""
        config = self.recipe.config
        recipe, guide = shaping(config), config.loss_options.guide
        if guide is not None:
            recipe["loss_options"]["guide"] = resolve_model(guide).identity
        kinds = [config.kind, *(more.kind for more in config.also)]
        teacher = config.loss_options.teacher if LOSSES[config.loss].needs == "scores" else None
        return {
            "recipe": recipe,
            "rows": [
                each.revision if isinstance(each, Table) else _rows_revision(each, str(kind), teacher)
                for kind, each in zip(kinds, [self.source, *self.also], strict=True)
            ],
            "base": self.base.revision,
            # Twice the processes with half the accumulation train on the same rows in each step.
            "batches_a_step": int(config.trainer.get("gradient_accumulation_steps", 1)) * self.processes,
        }

    def surroundings(self) -> dict[str, Any]:
        """Returns what is recorded beside, since it may shift the last bits of the weights."""
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
        hardware = {"device": str(device), "name": name, "processes": self.processes}
        return {
            "hardware": {**hardware, "threads": torch.get_num_threads()},
            "code": dict(code_version("training", "cards", "foils")),
            "packages": dict(package_versions()),
        }

    def differing(self, earlier: Mapping[str, Any], processes: int | None = None) -> list[str]:
        """Lists where inputs of a run, maybe of an earlier version, differ from this one's in a number of processes."""
        if not isinstance(earlier.get("recipe"), dict):
            return ["its record, which an earlier version wrote"]
        if earlier["recipe"].get("length_buckets"):
            return ["length_buckets True, a removed key, which led to another order of rows"]
        recipe = without_removed(dict(earlier["recipe"]), TrainRecipe)
        try:
            recipe = shaping(msgspec.convert(recipe, TrainRecipe))  # with the defaults of keys that came later
        except msgspec.ValidationError:
            logger.debug("the earlier recipe is shown as it is")
        batches = self.inputs["batches_a_step"] * (processes or self.processes) // self.processes
        return differences({**earlier, "recipe": recipe}, {**self.inputs, "batches_a_step": batches})

    def is_done(self, out: Path) -> bool:
        """Whether `out` holds this very run.

        Raises:
            UserError: it holds something else.
        """
        if not out.exists():
            return False
        record = finished_record(out, FOREIGN)
        differing = self.differing(record["inputs"], record["hardware"]["processes"])
        if differing:
            raise UserError(
                f"output folder {out}: it holds a finished run of {record['training']['steps']} steps "
                f"({duration(record['seconds'])}) that differs: {listed(differing)}; {REMEDY}"
            )
        others = differences({key: record[key] for key in ("hardware", "code", "packages")}, self.surroundings())
        logger.info(
            "%s is trained and nothing that shapes it has changed: nothing to do%s",
            *(out, f" (it was made with others: {listed(others)})" if others else ""),
        )
        return True


def shaping(config: TrainRecipe) -> dict[str, Any]:
    """The part of a recipe that shapes the model, as plain values, without the places of data and base."""
    also = tuple(msgspec.structs.replace(more, dataset="", revision=None) for more in config.also)
    placeless = msgspec.structs.replace(
        config, checkpoint_minutes=0, allow=(), dataset="", base="", revision=None, also=also
    )
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(placeless))
    beside = {*_ROOM, "gradient_accumulation_steps", *(() if config.dev.queries else _SAVING)}
    values["trainer"] = {
        key: value for key, value in values["trainer"].items() if key not in beside and not key.startswith(_LOOKS_ON)
    }
    return values


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lists what differs, each as `key before -> now`, nested keys joined by dots.

    >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
    ['a.b 1 -> 3']
    """
    old, new = _flat(before), _flat(now)
    return [
        f"{key.removeprefix('recipe.')} {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and key != "code.commit"
    ]


def _rows_revision(source: Source, kind: str, teacher: str | None = None) -> str:
    """A hash of the rows of a kind, and of a teacher's scores of them, wherever they lie.

    Other configurations of a folder may come and go, and what is published has the rows of its folder.
    """
    names = {name for draw in source.draws(kind) for name in draw.parts}
    names |= set() if teacher is None else {f"scores-{teacher}"}
    if source.tag is None:
        hashes = {name: [sha256_file(Path(file)) for file in source.table(name).paths] for name in names}
    else:
        configs = source.manifest().get("configs", {})
        if not names <= configs.keys():  # no build of ours made it
            return source.revision
        hashes = {name: [digest for _, digest in sorted(configs[name]["files"].items())] for name in names}
    return "sha256:" + sha256_json(hashes)


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, list):
        value = {str(place): inner for place, inner in enumerate(value, start=1)} or None
    if not isinstance(value, Mapping) or not value:
        return {key: value}
    parts = (_flat(inner, f"{key}.{name}" if key else name) for name, inner in value.items())
    return {name: inner for part in parts for name, inner in part.items()}


def _shown(value: Any) -> str:
    text = "none" if value in (None, {}) else str(value).removeprefix("sha256:")
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."
