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
from cards.hardware import EnergyMeter
from cards.model import write_model_card
from cards.models import ModelReference, weights_hash
from cards.provenance import code_version, file_hashes, package_versions
from cards.recipe import Recipe, config_hash
from training.data import Source
from training.publish import RUN_RECORD
from training.recipe import TrainRecipe
from training.seen import Seen


class Run(NamedTuple):
    """One model to train.

    Attributes:
        recipe: the text with its overrides, and the configuration of this run's seed.
        source: the data set.
        base: the model to start from.
        processes: that train together.
    """

    recipe: Recipe[TrainRecipe]
    source: Source
    base: ModelReference
    processes: int

    def inputs(self) -> dict[str, Any]:
        """All that a run depends on; where the data set lies does not count, its content does."""
        return {
            "recipe": config_hash(msgspec.structs.replace(self.recipe.config, dataset="", base="", revision=None)),
            "dataset": self.source.revision,
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
            earlier, dataset = record["inputs"], {"tag": None, **record["dataset"]}
        except (OSError, msgspec.DecodeError, KeyError):
            raise UserError(
                f"output folder {out}: it exists and holds no finished run ({RUN_RECORD} is missing or unreadable); "
                "name another with --out"
            ) from None
        source, inputs = self.source, self.inputs()
        if source.tag is not None and source.tag == dataset["tag"] and source.revision != dataset["revision"]:
            raise UserError(
                f"dataset {source.name}@{source.tag}: the tag has moved: {out} was trained on {dataset['revision']} "
                f"and it is {source.revision} now; a version must never move. Name the commit that you mean as the "
                "revision"
            )
        if earlier["recipe"] != inputs["recipe"]:
            raise UserError(
                f"output folder {out}: it holds a run of another recipe; name another with --out, or delete it"
            )
        return bool(earlier == inputs)


def write_record(run: Run, folder: Path, rows: int, seen: Seen, training: dict[str, Any], energy: EnergyMeter) -> None:
    """Writes a finished model's record and card into its folder.

    Args:
        run: what was trained.
        folder: the model.
        rows: that it was trained on.
        seen: of evaluation sets.
        training: as the trainers return it.
        energy: since the start of this attempt.
    """
    config, source, base = run.recipe.config, run.source, run.base
    record = {
        "inputs": run.inputs(),
        "recipe": {"text": run.recipe.text, "overrides": _telling(run.recipe.overrides, source)},
        "dataset": {
            "name": source.name,
            "revision": source.revision,
            "tag": source.tag,
            "kind": config.kind,
            "rows": rows,
        },
        "base": {
            "name": base.name,
            "revision": base.revision,
            "weights": base.weights,
            "reference": config.base,
        },
        "training_datasets": msgspec.to_builtins(seen),
        "model": {"revision": f"sha256:{weights_hash(folder)}"},
        "task": config.task,
        "seed": config.seed,
        "training": training,
        "seconds": training["seconds"],
        # A run that was stopped in between has drawn more, by an amount that nobody measured.
        "energy_kwh": None if training["resumed_from"] else energy.kwh(),
        "peak_memory_mb": _peak_memory_mb(),
        "hardware": _hardware(run.processes),
        "code": code_version("training", "cards"),
        "packages": package_versions(),
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
