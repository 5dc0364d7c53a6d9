"""A cross-encoder for a corpus without labels, trained on the build's own queries.

For users who have no cross-encoder for their domain or language: queries with their own passages are the positives;
BM25's best and random passages are the negatives. It is trained by `training/train.py` in a process of its own, from
a folder in the data set's layout, as any other training is.

What it cannot know is which of BM25's hits do answer the query: it learns to rank them low. Prefer a published
cross-encoder where one fits.
"""

import logging
import subprocess
import sys
from pathlib import Path

import pyarrow as pa

from builders.folder import write_config
from builders.negatives import bm25, random
from builders.negatives.material import Material
from builders.selection import Wanted, select
from builders.selection.frame import Inputs
from builders.selection.stored import own_positives
from cards.errors import UserError
from cards.provenance import ROOT, sha256_file

logger = logging.getLogger(__name__)


def recipe_revision(recipe: str | None) -> str:
    """`sha256:...` of a training recipe.

    Raises:
        UserError: there is no such recipe.
    """
    if recipe is None or not Path(recipe).is_file():
        raise UserError(f"negatives.cross-encoder.train_with {recipe}: no such file; wanted a training recipe")
    return f"sha256:{sha256_file(Path(recipe))}"


def train(recipe: str, queries: pa.Table, material: Material, folder: Path) -> Path:
    """Trains a cross-encoder by a training recipe and returns its folder; an unchanged one is not trained again.

    Args:
        recipe: path of a training recipe with `task = "cross-encoder"`.
        queries: `queries.TABLE`.
        material: the corpus.
        folder: the model's; its training data goes beside it.

    Raises:
        UserError: training failed.
    """
    candidates = {
        "bm25": bm25.mine(queries, material, bm25.Bm25Config()).candidates,
        "random": random.mine(queries, material, random.RandomConfig()).candidates,
    }
    given = Inputs(queries, own_positives(queries), candidates, {}, material.corpus, len(material.corpus))
    selection = select(given, Wanted(tuple(candidates), 1, material.seed))
    pairs = folder.with_name(f"{folder.name}-data")
    for kind, rows in selection.rows.items():
        write_config(pairs, kind, rows)
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--quiet"),
        *(str(ROOT / "training" / "train.py"), recipe, "--set", f"dataset={pairs}", "--out", str(folder)),
    ]
    logger.info("training a cross-encoder on %d queries by %s", len(selection.queries), recipe)
    finished = subprocess.run(command, check=False)
    if finished.returncode != 0:
        raise UserError(
            f"negatives.cross-encoder.train_with {recipe}: training ended with exit code {finished.returncode}; its "
            "output stands above"
        )
    return folder
