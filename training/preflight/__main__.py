"""Pre-flight by itself: the table and the problems of a recipe's training, without training.

    python -m training.preflight RECIPE [--set key=value ...] [--out DIR]

Ends with 0, or with 2 and the problems, as training would.
"""

import sys
from pathlib import Path

import msgspec
import torch
from accelerate import PartialState

from foils.errors import run_entry
from foils.models import resolve_model
from foils.recipe import load_recipe, recipe_arguments
from training import preflight
from training.data import resolve
from training.mixture import load, resolve_also
from training.recipe import TrainRecipe
from training.seen import seen_by
from training.train import MAKE
from training.trainer import Job
from training.trainer_table import check_trainer


def main(config: TrainRecipe, out: Path) -> None:
    """Prints the table of a recipe's training.

    Raises:
        UserError: training would be refused.
    """
    PartialState(cpu=not torch.accelerator.is_available())
    check_trainer(config)
    source, also, base = resolve(config.dataset, config.revision), resolve_also(config), resolve_model(config.base)
    preflight.check_base(base, config.task)
    config = msgspec.structs.replace(config, watch="none")
    job = Job(config, load(config, source, also), base, seen_by(source, base, also), out, out)
    report = preflight.examine(MAKE[config.task](job).asked)
    print(preflight.table(report))
    preflight.refuse(report, config.allow)


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("outputs"), help="where the model would go, for the disk's sake"
    )
    options = parser.parse_args()
    main(load_recipe(options.recipe, options.overrides, TrainRecipe).config, options.out)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
