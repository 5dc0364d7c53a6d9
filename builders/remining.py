"""Mining, training on what was mined, and mining again with the tuned model (ANCE, arXiv 2007.00808).

A model's own nearest passages are what it still confuses; once trained on them it confuses others. Each further round
trains by `training/train.py`, in a process of its own, on each query's best candidate of the round before, from the
model of the round before. What a round is trained on names its folder in the cache, so that an unchanged round is
found there.

The account of each round, for the manifest: `model` (name) and `weights` (hash) that mined, `trained_with` (hash of the
training recipe) and `trained_on` (rows), both None for the first; `overlap`, the share of the round's candidates that
were among those of the round before; `gap`, the positive's score less that of the best candidate: both are means over
queries, without the positive among the candidates.
"""

import json
import logging
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.embeddings.embedder import Embedder
from builders.folder import write_config
from builders.negatives.material import Material, Mined
from builders.passages import Passages, Positions
from builders.training_run import recipe_revision, run_training
from foils.errors import UserError
from foils.models import resolve_model
from foils.provenance import sha256_json, sha256_texts
from foils.texts import normalised

if TYPE_CHECKING:
    from builders.negatives.dense import DenseConfig

logger = logging.getLogger(__name__)

KIND = "dense"
TRAIN_WITH = "negatives.dense.train_with"
_DIGITS = 6
MineOnce = Callable[[pa.Table, Material, "DenseConfig", str], Mined]


def mine_again(queries: pa.Table, material: Material, config: "DenseConfig", mine_once: MineOnce) -> Mined:
    """Mines `config.rounds` times, each further time by the model that was trained on what the last one found.

    Returns:
        What the last round found; `record["rounds"]` has the account of all.

    Raises:
        UserError: as `mine_once`; the training recipe is missing or none for a retriever, or training failed.
    """
    model, mined, account = config.model or "", Mined(schema.CANDIDATES.empty_table()), list[dict[str, Any]]()
    trained_with, trained_on = None, None
    before: _Others | None = None
    for number in range(1, config.rounds + 1):
        if before is not None:
            trained_with, rows = recipe_of(config.train_with), rows_of(queries, before, material.corpus)
            model, trained_on = _train(rows, trained_with, model, material.cache, config), rows.num_rows
        mined = mine_once(queries, material, config, model)
        others = others_of(queries, mined, material.corpus)
        reference = resolve_model(model)
        account.append(
            {
                "model": reference.name if number == 1 else f"{KIND}-round-{number}",
                "weights": reference.weights,
                "trained_with": trained_with,
                "trained_on": trained_on,
                "overlap": None if before is None else overlap(others, before),
                "gap": mean_gap(queries, mined, others, material.corpus),
            }
        )
        logger.info("dense, round %d of %d: %s", number, config.rounds, json.dumps(account[-1]))
        before = others
    return mined._replace(record={"rounds": account})


class _Others(NamedTuple):
    """Candidates that are not their query's positive, by id; in the order of queries and ranks.

    Attributes:
        queries: `(n,)`, numbers of queries.
        passages: `(n,)`, positions in the corpus.
        scores: `(n,)`.
    """

    queries: Positions
    passages: Positions
    scores: npt.NDArray[np.float64]


def others_of(queries: pa.Table, mined: Mined, corpus: Passages) -> _Others:
    """The candidates that may serve as negatives."""
    table = mined.candidates
    numbers, positions = _numbers(queries, table["query-id"]), corpus.positions(table["corpus-id"])
    positives = corpus.positions(queries["corpus-id"])
    order = np.lexsort((table["rank"].to_numpy(), numbers))
    order = order[positions[order] != positives[numbers[order]]]
    itself = pc.equal(table["query-id"], table["corpus-id"]).to_numpy()  # see `selection.rules`
    order = order[~itself[order]]
    return _Others(numbers[order], positions[order], table["score"].to_numpy()[order])


def overlap(now: _Others, before: _Others) -> float | None:
    """The share of a query's candidates that were candidates before, mean over queries; None where there are none.

    >>> first = _Others(np.array([0, 0, 1]), np.array([4, 5, 6]), np.zeros(3))
    >>> overlap(first._replace(passages=np.array([4, 7, 6])), first)
    0.75
    """
    width = max(int(part.passages.max(initial=0)) for part in (now, before)) + 1
    again = np.isin(now.queries * width + now.passages, before.queries * width + before.passages)
    totals, hits = np.bincount(now.queries), np.bincount(now.queries, again)
    return round(float((hits[totals > 0] / totals[totals > 0]).mean()), _DIGITS) if len(again) else None


def mean_gap(queries: pa.Table, mined: Mined, others: _Others, corpus: Passages) -> float | None:
    """By how much the positive's score is above the best candidate's, mean over queries; None without candidates."""
    positives = corpus.positions(queries["corpus-id"])
    numbers = _numbers(queries, mined.scores["query-id"])
    own = corpus.positions(mined.scores["corpus-id"]) == positives[numbers]
    scores = np.full(queries.num_rows, np.nan)
    scores[numbers[own]] = mined.scores["score"].to_numpy()[own]
    asked, best = np.unique(others.queries, return_index=True)
    return round(float((scores[asked] - others.scores[best]).mean()), _DIGITS) if len(asked) else None


def rows_of(queries: pa.Table, others: _Others, corpus: Passages) -> pa.Table:
    """Training rows, `schema.training(1)`: each query's best candidate whose text is not its positive's.

    Queries without one are left out.

    Raises:
        UserError: no query has one.
    """
    positives = corpus.positions(queries["corpus-id"])
    wanted = list(map(normalised, corpus.texts(positives).to_pylist()))
    starts = np.searchsorted(others.queries, np.arange(queries.num_rows + 1))
    chosen = np.full(queries.num_rows, -1, np.int64)
    open_ = np.flatnonzero(np.diff(starts))
    depth = 0
    while len(open_):  # mostly once: a corpus has each text once
        tried = others.passages[starts[open_] + depth]
        texts = corpus.texts(tried).to_pylist()
        differ = np.array([normalised(text) != wanted[number] for text, number in zip(texts, open_, strict=True)])
        chosen[open_[differ]] = tried[differ]
        depth += 1
        open_ = open_[~differ & (starts[open_] + depth < starts[open_ + 1])]
    kept = np.flatnonzero(chosen >= 0)
    if not len(kept):
        raise UserError(
            "negatives.dense.rounds: no query has a candidate beside its positive to train on; set "
            "negatives.dense.depth higher, or rounds to 1"
        )
    columns = [queries["text"].take(pa.array(kept)), corpus.texts(positives[kept]), corpus.texts(chosen[kept])]
    return pa.table(columns, schema=schema.training(1))


def recipe_of(recipe: str | None) -> str:
    """`sha256:...` of the training recipe.

    Raises:
        UserError: it is missing, cannot be read, or trains no retriever.
    """
    revision = recipe_revision(recipe, TRAIN_WITH)
    try:
        task = tomllib.loads(Path(str(recipe)).read_text("utf-8")).get("task", "retriever")
    except ValueError as error:
        raise UserError(f"{TRAIN_WITH} {recipe}: cannot be read: {error}") from None
    if task != "retriever":
        raise UserError(f'{TRAIN_WITH} {recipe}: its task is {task!r}; wanted a recipe with task = "retriever"')
    return revision


def _train(rows: pa.Table, revision: str, base: str, cache: Path, config: "DenseConfig") -> str:
    """The folder of a model that was trained on rows; one that is there is not trained again."""
    reference, prompts = resolve_model(base), Embedder(config.reading(base), cache).prompts
    content = sha256_texts(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    folder = cache / "dense-rounds" / sha256_json([revision, reference.identity, content, [*prompts.values()]])[:16]
    write_config(folder / "rows", KIND, rows)
    overrides = {"dataset": str(folder / "rows"), "kind": KIND, "base": reference.location}
    if any(prompts.values()):  # it learns to read as it will be read
        overrides |= {"query_prompt": prompts["query"], "passage_prompt": prompts["document"]}
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in overrides.items()}
    logger.info("training the retriever of the next round on %d rows by %s", rows.num_rows, config.train_with)
    return str(run_training(str(config.train_with), quoted, folder / "model", TRAIN_WITH))


def _numbers(queries: pa.Table, ids: pa.ChunkedArray) -> Positions:
    """The row of each query id in `queries`."""
    return np.asarray(pc.index_in(ids, value_set=queries["_id"]).to_numpy(), np.int64)
