"""`training/train.py` in a process of its own, for builds that train a model to mine with.

It talks to training as any user does, through a folder in the data set's layout and a recipe, and so a finished run
whose rows, recipe and code have not changed is found and not trained again.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from foils.errors import UserError
from foils.provenance import ROOT, sha256_file


def recipe_revision(recipe: str | None, key: str) -> str:
    """`sha256:...` of a training recipe.

    Args:
        recipe: its path.
        key: the building recipe's key that names it, for the error.

    Raises:
        UserError: there is no such recipe.
    """
    if recipe is None or not Path(recipe).is_file():
        raise UserError(f"{key} {recipe}: no such file; wanted a training recipe")
    return f"sha256:{sha256_file(Path(recipe))}"


def run_training(recipe: str, overrides: Mapping[str, str], folder: Path, key: str) -> Path:
    """Trains a model by a training recipe and returns its folder.

    Args:
        recipe: path of the training recipe.
        overrides: keys of it that the build sets, such as `dataset`; values in TOML.
        folder: the model's.
        key: the building recipe's key that names the training recipe, for the error.

    Raises:
        UserError: training failed.
    """
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--quiet"),
        *(str(ROOT / "training" / "train.py"), recipe),
        *(part for name, value in overrides.items() for part in ("--set", f"{name}={value}")),
        *("--out", str(folder)),
    ]
    finished = subprocess.run(command, check=False)
    if finished.returncode != 0:
        raise UserError(f"{key} {recipe}: training ended with exit code {finished.returncode}; its output stands above")
    return folder
