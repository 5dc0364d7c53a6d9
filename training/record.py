"""A finished run's record, `run.json`: what was trained, from what, by what code, and what it took.

It holds everything that the model's card tells and that `cards.verify` follows back; its `inputs` decide whether a run
is done already.
"""

import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from cards.errors import UserError
from cards.model import write_model_card
from cards.models import ModelReference, weights_hash
from cards.provenance import code_version, file_hashes, package_versions
from cards.recipe import Recipe, config_hash
from training.data import Source
from training.mixture import Training
from training.publish import RUN_RECORD
from training.recipe import TrainRecipe
from training.seen import Seen
from training.sources import Plain

# What does not shape the model.
_BESIDE: dict[str, Any] = {"watch": "none", "checkpoint_minutes": 0, "allow": ()}


class Run(NamedTuple):
    """One model to train.

    Attributes:
        recipe: the text with its overrides, and the configuration of this run's seed.
        source: the data set.
        also: further data.
        base: the model to start from.
        processes: that train together.
    """

    recipe: Recipe[TrainRecipe]
    source: Source
    also: Sequence[Source | Plain]
    base: ModelReference
    processes: int

    def inputs(self) -> dict[str, Any]:
        """All that a run depends on; where the data lies does not count, its content does."""
        config = self.recipe.config
        also = tuple(msgspec.structs.replace(more, dataset="", revision=None) for more in config.also)
        return {
            "recipe": config_hash(
                msgspec.structs.replace(config, **_BESIDE, dataset="", base="", revision=None, also=also)
            ),
            "dataset": self.source.revision,
            **({"also": [each.revision for each in self.also]} if also else {}),
            "base": self.base.revision,
            "processes": self.processes,
            "code": code_version("training")["sha256"],
            "packages": dict(package_versions()),
        }

    def is_done(self, out: Path) -> bool:
        """Whether `out` holds this very run; a run of the same recipe on other data or code will be replaced.

        Raises:
            UserError: it holds something else, or the data set's tag has moved since.
        """
        if not out.exists():
            return False
        try:
            record = msgspec.json.decode((out / RUN_RECORD).read_bytes())
            earlier, dataset = record["inputs"], record["dataset"]
            trained_on = {
                (each["name"], each.get("tag")): each["revision"] for each in (dataset, *dataset.get("also", []))
            }
        except (OSError, msgspec.DecodeError, KeyError):
            raise UserError(
                f"output folder {out}: it exists and holds no finished run ({RUN_RECORD} is missing or unreadable); "
                "name another with --out"
            ) from None
        for source in (self.source, *self.also):
            before = trained_on.get((source.name, source.tag), source.revision)
            if source.tag is not None and source.revision != before:
                raise UserError(
                    f"dataset {source.name}@{source.tag}: the tag has moved: {out} was trained on {before} and it is "
                    f"{source.revision} now; a version must never move. Name the commit that you mean as the revision"
                )
        inputs = self.inputs()
        if earlier["recipe"] != inputs["recipe"]:
            raise UserError(
                f"output folder {out}: it holds a run of another recipe; name another with --out, or delete it"
            )
        return bool(earlier == inputs)


class Finished(NamedTuple):
    """What came of a run.

    Attributes:
        training: the rows that it was trained on.
        seen: of evaluation sets, by data and base.
        outcome: as the trainers return it.
        exports: further formats of the model, as `training.export` returns them.
        energy_kwh: that this attempt has drawn; None where that is not known.
    """

    training: Training
    seen: Seen
    outcome: dict[str, Any]
    exports: list[dict[str, Any]]
    energy_kwh: float | None


def write_record(run: Run, folder: Path, finished: Finished) -> None:
    """Writes a finished model's record and card into its folder."""
    config, base, outcome = run.recipe.config, run.base, finished.outcome
    record = {
        "inputs": run.inputs(),
        "recipe": {"text": run.recipe.text, "overrides": _telling(run.recipe.overrides, run.source)},
        "dataset": finished.training.record(),
        "base": {
            "name": base.name,
            "revision": base.revision,
            "weights": base.weights,
            "reference": config.base,
        },
        "training_datasets": msgspec.to_builtins(finished.seen),
        "model": {"revision": f"sha256:{weights_hash(folder)}"},
        "task": config.task,
        "seed": config.seed,
        "training": outcome,
        "seconds": outcome["seconds"],
        # A run that was stopped in between has drawn more, by an amount that nobody measured.
        "energy_kwh": None if outcome["resumed_from"] else finished.energy_kwh,
        "peak_memory_mb": _peak_memory_mb(),
        "hardware": _hardware(run.processes),
        "code": code_version("training", "cards"),
        "packages": package_versions(),
        **({"exports": finished.exports} if finished.exports else {}),
        "files": file_hashes(folder),
    }
    write_model_card(folder, record)
    (folder / RUN_RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def _telling(overrides: Sequence[str], source: Source) -> list[str]:
    """The overrides that say what was trained; in which folder the data lay is not told, its revision is."""
    return [override for override in overrides if source.tag is not None or not override.startswith("dataset=")]


def _peak_memory_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def _hardware(processes: int) -> dict[str, Any]:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"device": str(device), "name": name, "processes": processes, "threads": torch.get_num_threads()}
