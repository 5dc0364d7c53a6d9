"""Pre-flight by itself: the table and the problems of a recipe's training, without training.

    python -m training.preflight RECIPE [--set key=value ...] [--out DIR]

Ends with 0, or with 2 and the problems, as training would.
"""

import sys
from pathlib import Path

import torch
from accelerate import PartialState

from foils.errors import run_entry
from foils.models import resolve_model
from foils.recipe import load_recipe, recipe_arguments
from training import preflight
from training.job import Job
from training.loop import cross_encoder, retriever
from training.loop.trainer_table import check_trainer
from training.recipe import TrainRecipe
from training.rows.mixture import load, resolve_also
from training.rows.seen import seen_by
from training.rows.source import resolve


def main(config: TrainRecipe, out: Path) -> None:
    """Prints the table of a recipe's training.

    Raises:
        UserError: training would be refused.
    """
    PartialState(cpu=not torch.accelerator.is_available())
    check_trainer(config)
    source, also, base = resolve(config.dataset, config.revision), resolve_also(config), resolve_model(config.base)
    preflight.check_base(base, config.task)
    job = Job(config, load(config, source, also), base, seen_by(source, base, also), out, out)
    make = cross_encoder.make if config.task == "cross-encoder" else retriever.make
    report = preflight.examine(make(job))
    print(preflight.table(report))
    preflight.refuse(report, config.allow)


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("outputs"), help="where the model would go, to look at its disk"
    )
    options = parser.parse_args()
    main(load_recipe(options.recipe, options.overrides, TrainRecipe).config, options.out)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
