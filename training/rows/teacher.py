"""A teacher's stored scores beside the texts that it scored: the column `label`, which distillation learns from.

    rows = with_scores(load_rows(source, kind), source, kind, "cross-encoder")

Rows hold texts and scores hold ids. They meet by text: equal texts have equal scores, whatever their ids, and rows may
come in any order, be a part of a kind, or mix several. Nothing here makes Python objects of rows.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets

from foils.errors import UserError
from training.losses.similarity import DEFAULT_SCALE
from training.losses.table import build_scores
from training.rows.source import Source

LABEL = "label"
PREFIX = "scores-"
EMBEDDINGS = "dense"
"""The scorer whose scores are cosines."""
SATURATED = 1e-6
"""Scores have six digits: a probability nearer to 0 or 1 than this is stored as 0 or 1, whose logits are infinite."""
BLOCK = 10_000

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def scorers_of(source: Source) -> tuple[str, ...]:
    """The scorers whose scores a data set has stored, such as `cross-encoder`."""
    return tuple(name.removeprefix(PREFIX) for name in source.configs() if name.startswith(PREFIX))


def with_scores(rows: Dataset, source: Source, kind: str, scorer: str) -> Dataset:
    """Adds `label`: the logits of the teacher, `scorer`, for each row's passages, in the order of the rows' columns.

    Raises:
        UserError: some of these texts have no score, or an earlier version built the data set.
    """
    if "train-queries" not in source.configs():
        raise UserError(
            f"dataset {source.name}: it has no train-queries, as an earlier version built it; build it again with "
            "builders.build (LLM answers are kept)"
        )
    columns = [name for name in rows.column_names if name != "query"]
    stored = source.table(f"{PREFIX}{scorer}").load().data.table
    queries = source.table("train-queries").load().data.table
    query, asked = _codes(stored["query-id"], queries["_id"], queries["text"], _column(rows, ["query"]))
    passages, texts = _passages(source)
    passage, answering = _codes(stored["corpus-id"], passages, texts, _column(rows, columns))
    usable = np.flatnonzero((query >= 0) & (passage >= 0) & stored["score"].is_valid().to_numpy())
    pairs = (query * len(texts) + passage)[usable]
    asked = np.tile(asked, len(columns))
    wanted = np.where((asked >= 0) & (answering >= 0), asked * len(texts) + answering, -1)
    places = pc.fill_null(pc.index_in(pa.array(wanted), value_set=pa.array(pairs)), -1).to_numpy()
    scores = np.append(_logits(stored["score"], scorer)[usable], np.nan)[places]  # NaN at place -1
    labels = scores.reshape(len(columns), len(rows)).T
    missing = np.isnan(labels)
    if missing.any():
        raise UserError(
            f"kind {kind!r}: {int(missing.sum()):,} of {missing.size:,} ({missing.mean():.1%}) of its pairs of query "
            f"and passage have no score of {scorer!r} in {source.name}; distil from rows as they were built, or "
            f"{build_scores(scorer)}"
        )
    values = pa.array(np.ascontiguousarray(labels, np.float32).ravel())
    starts = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * len(columns))
    column = Dataset(pa.table({LABEL: pa.ListArray.from_arrays(starts, values)}))
    return concatenate_datasets([rows, column], axis=1)


def _codes(
    wanted: pa.ChunkedArray, ids: pa.ChunkedArray, texts: pa.ChunkedArray, asked: pa.ChunkedArray
) -> tuple[Codes, Codes]:
    """Numbers of the texts behind wanted ids, and of texts that are asked for; equal texts share one, -1 has none.

    `texts` are those of a data set's `ids`. Together they may be longer than 2 GB, which takes 64-bit offsets.
    """
    texts = texts.cast(pa.large_string())
    first = pc.index_in(texts, value_set=texts)  # of the texts that are equal
    found = (first.take(pc.index_in(wanted, value_set=ids)), pc.index_in(asked, value_set=texts))
    by_id, by_text = (np.asarray(pc.fill_null(each, -1).to_numpy(), np.int64) for each in found)
    return by_id, by_text


def _column(rows: Dataset, columns: Sequence[str]) -> pa.ChunkedArray:
    """Columns one below the other, in the rows' own order, which may not be that of their table."""
    batches = list(rows.select_columns(list(columns)).with_format("arrow").iter(BLOCK))
    chunks = [chunk.cast(pa.large_string()) for name in columns for batch in batches for chunk in batch[name].chunks]
    return pa.chunked_array(chunks, pa.large_string())


def _passages(source: Source) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Ids and texts of corpus and LLM-written negatives, joined with their titles as rows have them."""
    corpus = source.table("corpus", "corpus").load().data.table.select(["_id", "title", "text"])
    ids, texts = [], []
    for batch in corpus.to_batches(max_chunksize=BLOCK):
        ids.append(batch["_id"])
        texts.append(pc.binary_join_element_wise(batch["title"], batch["text"], " "))
    if "generated" in source.configs():
        written = source.table("generated").load().data.table
        ids, texts = ids + written["_id"].chunks, texts + written["text"].chunks
    trimmed = [pc.utf8_trim_whitespace(chunk).cast(pa.large_string()) for chunk in texts]
    return pa.chunked_array(ids, pa.string()), pa.chunked_array(trimmed, pa.large_string())


def _logits(scores: pa.ChunkedArray, scorer: str) -> Floats:
    """Scores as logits: probabilities by the inverse of the sigmoid, cosines times 20, all others as they are.

    Most cross-encoders of one label give probabilities, some (ms-marco's) logits: where no score of a whole data set is
    below 0 or above 1, they are probabilities. A softmax over probabilities would be all but uniform whatever they say.
    """
    values = np.asarray(scores.to_numpy(), np.float64)
    if scorer == EMBEDDINGS:
        return values * DEFAULT_SCALE
    if np.nanmin(values, initial=0) < 0 or np.nanmax(values, initial=1) > 1:
        return values
    values = np.clip(values, SATURATED, 1 - SATURATED)
    return np.asarray(np.log(values) - np.log1p(-values))
