"""Trains a retriever (or a cross-encoder) on one kind of negatives of a data set.

    accelerate launch training/train.py training/recipes/quickstart.toml --set kind=bm25 [--out DIR]
        [--push OWNER/NAME --version v1.0.0]

On two CPU processes: accelerate launch --multi_gpu --num_processes 2 training/train.py RECIPE (the flag's name
notwithstanding: `--cpu --num_processes 2` starts one process only).
"""

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script: `training/` would stand in for the checkout's root
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import logging
import os
import platform
import resource
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import msgspec
import torch
from accelerate import PartialState
from transformers import set_seed

from cards.errors import UserError, run_entry
from cards.folders import partial_folder, put_in_place
from cards.hardware import EnergyMeter
from cards.model import write_model_card
from cards.models import ModelReference, resolve_model, weights_hash
from cards.provenance import code_version, file_hashes, package_versions
from cards.recipe import Recipe, config_hash, load_recipe, recipe_arguments
from cards.release import add_push_arguments, push_target
from training import cross_encoder, mixture, retriever
from training.data import Source, resolve
from training.publish import RUN_RECORD, publish_model
from training.recipe import TrainRecipe
from training.seen import seen_by
from training.sources import Plain

logger = logging.getLogger(__name__)

TRAIN = {"retriever": retriever.train, "cross-encoder": cross_encoder.train}


def main(recipe: Recipe[TrainRecipe], out: Path, threads: int | None = None) -> None:
    """Trains by a recipe and writes model, card and run record to `out`, or finds them there.

    Args:
        recipe: what to train.
        out: the model's folder.
        threads: CPU threads per process; without it, the machine's cores shared between the processes.

    Raises:
        UserError: the recipe, the data set or the base is not as it must be, or `out` holds something else.
    """
    config = recipe.config
    state = PartialState(cpu=not torch.accelerator.is_available())
    # accelerate launch gives each process one thread unless told otherwise, which wastes a machine without a GPU.
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // state.num_processes))
    source, also = resolve(config.dataset, config.revision), mixture.resolve_also(config)
    base = resolve_model(config.base)
    inputs = _inputs(config, [source, *also], base, state.num_processes)
    if _is_done(out, inputs, [source, *also]):
        logger.info("%s is trained and nothing that shapes it has changed: nothing to do", out)
        return
    training, seen = mixture.load(config, source, also), seen_by(source, base, also)
    logger.info("%s, base %s", training.told(), base.name)
    started, energy = perf_counter(), EnergyMeter()
    partial = out.with_name(f"{out.name}.partial")
    if state.is_main_process:
        partial = partial_folder(out)
    state.wait_for_everyone()
    set_seed(config.seed)  # before the model is made: a cross-encoder's head starts from random weights
    outcome = TRAIN[config.task](training, base, config, partial)
    if not state.is_main_process:
        return
    record = {
        "inputs": inputs,
        "recipe": {"text": recipe.text, "overrides": _telling(recipe.overrides, source)},
        "dataset": training.record(),
        "base": {**_identity(base), "reference": config.base},
        "training_datasets": msgspec.to_builtins(seen),
        "model": {"revision": f"sha256:{weights_hash(partial)}"},
        "task": config.task,
        "seed": config.seed,
        "training": outcome,
        "seconds": round(perf_counter() - started, 1),
        "energy_kwh": energy.kwh(),
        "peak_memory_mb": _peak_memory_mb(),
        "hardware": _hardware(state.num_processes),
        "code": code_version("training", "cards"),
        "packages": package_versions(),
        "files": file_hashes(partial),
    }
    write_model_card(partial, record)
    (partial / RUN_RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    put_in_place(partial, out)
    logger.info("%s: trained in %.1f s", out, record["seconds"])


def _inputs(
    config: TrainRecipe, sources: Sequence[Source | Plain], base: ModelReference, processes: int
) -> dict[str, Any]:
    """All that a run depends on; where the data lies does not count, its content does."""
    also = tuple(msgspec.structs.replace(more, dataset="", revision=None) for more in config.also)
    return {
        "recipe": config_hash(msgspec.structs.replace(config, dataset="", base="", revision=None, also=also)),
        "dataset": sources[0].revision,
        **({"also": [each.revision for each in sources[1:]]} if also else {}),
        "base": base.revision,
        "processes": processes,
        "code": code_version("training")["sha256"],
        "packages": dict(package_versions()),
    }


def _is_done(out: Path, inputs: dict[str, Any], sources: Sequence[Source | Plain]) -> bool:
    """Whether `out` holds this very run; a run of the same recipe on other data or code will be replaced."""
    if not out.exists():
        return False
    try:
        record = msgspec.json.decode((out / RUN_RECORD).read_bytes())
        earlier, dataset = record["inputs"], record["dataset"]
        trained_on = {(each["name"], each.get("tag")): each["revision"] for each in (dataset, *dataset.get("also", []))}
    except (OSError, msgspec.DecodeError, KeyError):
        raise UserError(
            f"output folder {out}: it exists and holds no finished run ({RUN_RECORD} is missing or unreadable); name "
            "another with --out"
        ) from None
    for source in sources:
        before = trained_on.get((source.name, source.tag), source.revision)
        if source.tag is not None and source.revision != before:
            raise UserError(
                f"dataset {source.name}@{source.tag}: the tag has moved: {out} was trained on {before} and it is "
                f"{source.revision} now; a version must never move. Name the commit that you mean as the revision"
            )
    if earlier["recipe"] != inputs["recipe"]:
        raise UserError(f"output folder {out}: it holds a run of another recipe; name another with --out, or delete it")
    return bool(earlier == inputs)


def _telling(overrides: Sequence[str], source: Source) -> list[str]:
    """The overrides that say what was trained; in which folder the data lay is not told, its revision is."""
    return [override for override in overrides if source.tag is not None or not override.startswith("dataset=")]


def _identity(model: ModelReference) -> dict[str, str]:
    return {"name": model.name, "revision": model.revision, "weights": model.weights}


def _peak_memory_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def _hardware(processes: int) -> dict[str, Any]:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"device": str(device), "name": name, "processes": processes, "threads": torch.get_num_threads()}


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument("--out", type=Path, help="the model's folder; default: outputs/models/KIND-seedN")
    parser.add_argument("--threads", type=int, help="CPU threads per process; default: all cores, shared")
    add_push_arguments(parser)
    arguments = parser.parse_args()
    target = push_target(arguments)
    recipe = load_recipe(arguments.recipe, arguments.overrides, TrainRecipe)
    default = Path("outputs") / "models" / f"{recipe.config.kind}-seed{recipe.config.seed}"
    out = arguments.out or default
    main(recipe, out, arguments.threads)
    if target is not None and PartialState().is_main_process:
        publish_model(out, target)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
