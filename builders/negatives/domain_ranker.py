"""A cross-encoder for a corpus without labels, trained on the build's own queries and on the corpus's titles.

For users who have no cross-encoder for their domain or language: queries with their own passages are the positives;
passages that BM25 finds and random ones are the negatives. It is trained by `training/train.py` in a process of its
own, from a folder in the data set's layout, as any other training is. So a finished run whose rows, recipe and code
have not changed is found and not trained again.

A cross-encoder from a small base learns next to nothing from some hundred queries, and suddenly much from some
thousand: hence the titles, each a query for its passage's text without it. What training cannot know is which of
BM25's hits do answer a query: it learns to rank them low, and so BM25's very best are not used. Prefer a published
cross-encoder where one fits.
"""

import json
import logging
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders.context import Context, no_llm
from builders.dataset.folder import write_config
from builders.negatives import bm25, sampled
from builders.queries import TABLE
from builders.scores.config import CrossEncoderConfig
from builders.selection import select
from builders.selection.config import SelectionConfig, Wanted
from builders.selection.frame import Inputs
from builders.selection.stored import own_positives
from foils.errors import UserError
from foils.provenance import ROOT, sha256_file

logger = logging.getLogger(__name__)

TRAIN_WITH = "negatives.cross-encoder.train_with"
# BM25's first hits answer more often than the others; any of the next fifty or so are hard enough.
RULES = SelectionConfig(kinds={"bm25": {"rank_min": 3, "sampling": "random"}})
TITLE_WORDS = 3


def recipe_revision(recipe: str) -> str:
    """Returns `sha256:...` of the training recipe.

    Raises:
        UserError: the recipe does not exist.
    """
    if not Path(recipe).is_file():
        raise UserError(f"{TRAIN_WITH} {recipe}: no such file; wanted a training recipe")
    return f"sha256:{sha256_file(Path(recipe))}"


def base_of(recipe: str) -> str | None:
    """The base that a training recipe names; None where it cannot be read, which training will say."""
    try:
        return str(tomllib.loads(Path(recipe).read_text("utf-8"))["base"])
    except (OSError, ValueError, KeyError):
        return None


def train(config: CrossEncoderConfig, queries: pa.Table, context: Context, folder: Path) -> Path:
    """Trains a cross-encoder and returns its folder; an unchanged one is not trained again.

    Args:
        config: its `train_with` is a training recipe with `task = "cross-encoder"`; `train_titles` says how many.
        queries: `queries.TABLE`.
        context: the corpus.
        folder: the model's; its training data goes beside it.

    Raises:
        UserError: training failed.
    """
    by_query = _rows(queries, context)
    by_title = _rows(titled(context.passages, config.train_titles, context.seed), _without_titles(context))
    pairs = folder.with_name(f"{folder.name}-data")
    note = pairs / "made-from.json"
    before = note.read_text("utf-8") if note.is_file() else None
    for kind, rows in by_query.items():
        write_config(pairs, kind, pa.concat_tables([rows, by_title[kind]]))
    now = json.dumps([recipe_revision(str(config.train_with)), *map(sha256_file, sorted(pairs.rglob("*.parquet")))])
    note.write_text(now, "utf-8")
    numbers = by_query["bm25"].num_rows, by_title["bm25"].num_rows
    logger.info("training a cross-encoder on %d queries and %d titles by %s", *numbers, config.train_with)
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--quiet"),
        *(str(ROOT / "training" / "train.py"), str(config.train_with)),
        *("--set", f"dataset={pairs}", "--out", str(folder)),
        *(["--fresh"] if before not in {None, now} else []),
    ]
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        raise UserError(
            f"{TRAIN_WITH} {config.train_with}: training ended with exit code {code}; see its output above, and delete "
            f"{folder} if it asks for --fresh"
        )
    return folder


def titled(passages: pa.Table, wanted: int, seed: int) -> pa.Table:
    """Samples up to `wanted` unique titles (`schema.CORPUS`) as queries for their passages (`queries.TABLE`).

    A title of one or two words names a topic, and one that two passages have does not say which is meant.
    """
    counts = passages["title"].value_counts()
    once = counts.filter(pc.equal(counts.field("counts"), 1)).field("values")
    telling = pc.greater_equal(pc.count_substring(pc.utf8_trim_whitespace(passages["title"]), " "), TITLE_WORDS - 1)
    places = np.flatnonzero(pc.and_(telling, pc.is_in(passages["title"], value_set=once)).to_numpy())
    drawn = np.random.default_rng(seed).permutation(places)[:wanted]
    chosen = passages.take(pa.array(np.sort(drawn)))
    names = pc.binary_join_element_wise("title of ", chosen["_id"], "")
    return pa.table([names, chosen["title"], chosen["_id"]], schema=TABLE)


def _without_titles(context: Context) -> Context:
    """The same passages by their texts alone: with its title in it, a passage would be found by matching words."""
    empty = pa.array([""] * context.passages.num_rows, pa.string())
    at = context.passages.schema.get_field_index("title")
    passages = context.passages.set_column(at, "title", empty)
    return Context(passages, context.language, context.seed, no_llm, context.cache)


def _rows(queries: pa.Table, context: Context) -> Mapping[str, pa.Table]:
    """Returns training rows with one negative from BM25 and with a random one, for the queries that have both."""
    candidates = {
        "bm25": bm25.mine(queries, context, bm25.Bm25Config()).candidates,
        "random": sampled.mine(queries, context, sampled.RandomConfig()).candidates,
    }
    given = Inputs(queries, own_positives(queries), candidates, {}, context.corpus, len(context.corpus))
    return select(given, Wanted(tuple(candidates), 1, context.seed, RULES)).rows
