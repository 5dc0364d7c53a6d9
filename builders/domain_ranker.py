"""A cross-encoder for a corpus without labels, trained on the build's own queries.

For users who have no cross-encoder for their domain or language: queries with their own passages are the positives;
BM25's best and random passages are the negatives. It is trained by `training/train.py` in a process of its own, from
a folder in the data set's layout, as any other training is.

What it cannot know is which of BM25's hits do answer the query: it learns to rank them low. Prefer a published
cross-encoder where one fits.
"""

import logging
from pathlib import Path

import pyarrow as pa

from builders.folder import write_config
from builders.negatives import bm25, random
from builders.negatives.material import Material
from builders.selection import Wanted, select
from builders.selection.frame import Inputs
from builders.selection.stored import own_positives
from builders.training_run import run_training

logger = logging.getLogger(__name__)

TRAIN_WITH = "negatives.cross-encoder.train_with"


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
    logger.info("training a cross-encoder on %d queries by %s", len(selection.queries), recipe)
    return run_training(recipe, {"dataset": str(pairs)}, folder, TRAIN_WITH)
