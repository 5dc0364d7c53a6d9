"""`dense`: the passages whose embeddings are nearest to the query's."""

from typing import Annotated

import numpy as np
import pyarrow as pa
from msgspec import Meta

from builders import schema
from builders.context import Context
from builders.negatives import Mined
from builders.passages import Passages
from builders.retrieval.embeddings import Embedder
from builders.retrieval.encoding import Reading, as_texts
from builders.retrieval.hits import Hits
from builders.retrieval.nearest import cosines
from builders.scores.pairs import locate


class DenseConfig(Reading, frozen=True, forbid_unknown_fields=True):
    """Which model finds candidates, how it reads texts, and `depth`: how many a query keeps, counted from the best."""

    depth: Annotated[int, Meta(ge=1)] = 50


def mine(queries: pa.Table, context: Context, config: DenseConfig) -> Mined:
    """Ranks the corpus for each query (`queries.TABLE`) by cosine similarity.

    Scores are rounded to 6 digits; ties are broken by id. `scores` also holds each query's positive, if the corpus
    has it.

    Raises:
        UserError: the model cannot be loaded.
    """
    hits = search(queries, context, config, config.depth)
    candidates, missing = hits.tables(queries, context.corpus, context.corpus.positions(queries["corpus-id"]))
    return Mined(candidates, scores=pa.concat_tables([candidates.select(schema.SCORES.names), missing]))


def search(queries: pa.Table, context: Context, config: DenseConfig, k: int) -> Hits:
    """Returns the `k` nearest passages of each query (`queries.TABLE`), and what its positive scores."""
    embedder = Embedder(config, context.cache, context.engine)
    asking = embedder.embed(as_texts(queries["_id"], queries["text"]), "query")
    answering = embedder.embed(context.corpus, "document")
    positives = context.corpus.positions(queries["corpus-id"])
    given, known = np.full(len(positives), np.nan), np.flatnonzero(positives >= 0)
    given[known] = cosines(asking, answering, known, positives[known])
    return embedder.search(asking, context.corpus, answering, k)._replace(given=given)


def score(pairs: pa.Table, queries: pa.Table, passages: Passages, context: Context, config: DenseConfig) -> pa.Table:
    """Scores pairs by cosine similarity, within -1 and 1, rounded to 6 digits: a scorer of `builders.mining.SCORERS`.

    Raises:
        UserError: the model cannot be loaded, or a pair names what is not there.
    """
    located = locate(pairs, queries, passages)
    embedder = Embedder(config, context.cache, context.engine)
    needed, query_numbers = np.unique(located.query_positions, return_inverse=True)
    asking = embedder.embed(as_texts(queries["_id"], queries["text"]), "query", needed)
    needed, passage_numbers = np.unique(located.passage_positions, return_inverse=True)
    answering = embedder.embed(passages, "document", needed)
    found = cosines(asking, answering, query_numbers, passage_numbers)
    return pa.table({**{name: pairs[name] for name in schema.SCORES.names[:2]}, "score": found}, schema.SCORES)
