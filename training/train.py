"""Trains a retriever (or a cross-encoder) on one kind of negatives of a data set.

    accelerate launch training/train.py training/recipes/quickstart.toml --set kind=bm25 [--out DIR]
        [--push OWNER/NAME --version v1.0.0]

Killed at any point, it goes on from its last checkpoint when it is run again. What is finished stays: other packages,
code or hardware are recorded and reported. A folder with a run of other rows, base or recipe is refused without
`--fresh`.

Several processes on one machine without a GPU: accelerate launch --config_file training/accelerate/cpu.yaml
--num_processes 2 training/train.py RECIPE (`--cpu --num_processes 2` starts one process only, which is refused).
"""

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script: `training/` would stand in for the checkout's root
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import logging
import os
from functools import partial

import msgspec
import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import set_seed

from cards.publish.release import add_push_arguments, push_target
from foils.errors import run_entry
from foils.hardware import PeakMemory
from foils.models import resolve_model
from foils.recipe import Recipe, load_recipe, recipe_arguments
from training import cross_encoder, mixture, preflight, retriever
from training.checkpoints import MODEL, changes, finish, run_folder
from training.data import resolve
from training.export import add_missing, check
from training.identity import Run
from training.mixture import Training
from training.processes import refuse_fewer_than_asked
from training.publish import publish_model
from training.recipe import TrainRecipe
from training.record import Finished, write_record
from training.seen import seen_by
from training.trainer import Job, train
from training.trainer_table import check_trainer

logger = logging.getLogger(__name__)

MAKE = {"retriever": retriever.make, "cross-encoder": cross_encoder.make}


def main(recipe: Recipe[TrainRecipe], out: Path, threads: int | None = None, *, fresh: bool = False) -> list[Path]:
    """Trains by a recipe and writes model, card and run record to `out`, or finds them there.

    Args:
        recipe: what to train.
        out: the model's folder; with several seeds, `-seedN` is put behind its name for each.
        threads: CPU threads per process; without it, the machine's cores shared between the processes.
        fresh: trains from the start and replaces what an earlier run has left at `out`.

    Returns:
        The models' folders.

    Raises:
        UserError: the recipe, the data set or the base is not as it must be, or `out` holds something else.
    """
    config = recipe.config
    state = PartialState(cpu=not torch.accelerator.is_available())
    refuse_fewer_than_asked(state.num_processes)
    # accelerate launch gives each process one thread unless told otherwise, which wastes a machine without a GPU.
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // state.num_processes))
    check(config.exports)
    check_trainer(config)
    source, also = resolve(config.dataset, config.revision), mixture.resolve_also(config)
    base = resolve_model(config.base)
    preflight.check_base(base, config.task)
    runs = {
        folder: Run(msgspec.structs.replace(recipe, config=single), source, also, base, state.num_processes)
        for folder, single in _by_seed(config, out).items()
    }
    for folder, run in runs.items():
        with run_folder(folder, run, fresh=fresh) as place:
            if place is not None:
                _train(run, mixture.load(run.recipe.config, source, also), folder, place)
    state.wait_for_everyone()
    if state.is_main_process:  # last, as a conversion that fails must not cost a training
        for folder, run in runs.items():
            add_missing(folder, config.exports, partial(_rows, run))
    return list(runs)


def _train(run: Run, training: Training, folder: Path, place: Path) -> None:
    """Trains one model in `place` and moves it to its `folder`."""
    config, memory = run.recipe.config, PeakMemory()
    seen = seen_by(run.source, run.base, run.also)
    logger.info("%s, base %s, seed %d", training.told(), run.base.name, config.seed)
    set_seed(config.seed)  # before the model is made: a cross-encoder's head starts from random weights
    job = Job(config, training, run.base, seen, place, folder)
    with memory:
        outcome = train(job, MAKE[config.task](job))
    if PartialState().is_main_process:
        write_record(run, place / MODEL, Finished(training, seen, outcome, memory.figures(), changes(place)))
        finish(place, folder)
        logger.info("%s: trained in %.1f s", folder, outcome["seconds"])


def _rows(run: Run) -> Dataset:
    return mixture.load(run.recipe.config, run.source, run.also).some()


def _by_seed(config: TrainRecipe, out: Path) -> dict[Path, TrainRecipe]:
    """Each model's folder with its configuration, the same as that of a run with this seed alone."""
    if not config.seeds:
        return {out: config}
    return {
        out.with_name(f"{out.name}-seed{seed}"): msgspec.structs.replace(config, seed=seed, seeds=())
        for seed in config.seeds
    }


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument("--out", type=Path, help="the model's folder; default: outputs/models/KIND-seedN")
    parser.add_argument("--threads", type=int, help="CPU threads per process; default: all cores, shared")
    parser.add_argument(
        "--fresh", action="store_true", help="train from the start and replace what an earlier run has left in --out"
    )
    add_push_arguments(parser, licence=True)
    arguments = parser.parse_args()
    target = push_target(arguments)
    recipe = load_recipe(arguments.recipe, arguments.overrides, TrainRecipe)
    config = recipe.config
    default = Path("outputs") / "models" / (config.kind if config.seeds else f"{config.kind}-seed{config.seed}")
    if target is not None and len(config.seeds) > 1:
        parser.error("--push takes one model; name one seed, or publish each with training.publish FOLDER --push ...")
    (*_, folder) = main(recipe, arguments.out or default, arguments.threads, fresh=arguments.fresh)
    if target is not None and PartialState().is_main_process:
        publish_model(folder, target)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
