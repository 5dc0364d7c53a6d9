"""The round trip: a query that does not retrieve its own passage is dropped (Promptagator, arXiv 2209.11755)."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from builders import schema
from builders.context import Context
from builders.queries import Queries
from builders.queries.config import QueriesConfig
from builders.retrieval.embeddings import retriever
from builders.spool import Spool

Retrieve = Callable[[Sequence[str], int], list[list[str]]]
BATCH = 50_000
"""Queries whose hits are in memory at once."""


def retrieval_of(config: QueriesConfig, context: Context) -> Retrieve:
    """What retrieves for the filter: the recipe's embedding model, otherwise BM25."""
    if config.round_trip_model is not None:
        return retriever(config.round_trip_model, context.corpus, context.cache, context.engine)
    return lambda texts, k: [[passage_id for passage_id, _ in hits] for hits in context.bm25.search(texts, k)]


def round_trip(queries: pa.Table, retrieve: Retrieve, k: int) -> Queries:
    """Keeps the queries that have their own passage among their top `k`.

    Args:
        queries: `queries.TABLE`.
        retrieve: `(query texts, k)` to ranked passage ids, one list per query.
        k: 0 keeps all.
    """
    if k == 0:
        return Queries(queries, schema.DROPS.empty_table())
    kept, drops = [], Spool(schema.DROPS)
    for start in range(0, queries.num_rows, BATCH):
        rows = queries.slice(start, BATCH).to_pylist()
        for row, found in zip(rows, retrieve([row["text"] for row in rows], k), strict=True):
            kept.append(row["corpus-id"] in found)
            if not kept[-1]:
                drops.row("round-trip", row["_id"], "own-passage-not-found", f"not in the top {k}: {row['text']}")
    return Queries(queries.filter(pa.array(kept, pa.bool_())), drops.table())
