"""`bm25`: the passages that share most words with the query."""

from typing import Annotated

import numpy as np
import pyarrow as pa
from msgspec import Meta, Struct
from tqdm import tqdm

from builders import schema
from builders.negatives.material import Material, Mined

_LONG = 10_000  # queries that are worth a bar
_BATCH = 10_000


class Bm25Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings: `depth`, how many candidates a query keeps, counted from the best."""

    depth: Annotated[int, Meta(ge=1)] = 50


def mine(queries: pa.Table, material: Material, config: Bm25Config) -> Mined:
    """Ranks the corpus for each query (`queries.TABLE`) by BM25; scores are above 0 and have no upper bound.

    Among the scores is each query's positive, with 0 where it shares no word with the query, and once where it is
    a candidate too.
    """
    candidates, positives = [], []
    total = queries.num_rows
    with tqdm(total=total, desc="bm25", unit="query", disable=total <= _LONG) as bar:
        for start in range(0, total, _BATCH):
            batch = queries.slice(start, _BATCH)
            found, missing = _mined(batch, material, config.depth)
            candidates.append(found)
            positives.append(missing)
            bar.update(batch.num_rows)
    ranked = pa.concat_tables([schema.CANDIDATES.empty_table(), *candidates])
    scores = pa.concat_tables([ranked.select(schema.SCORES.names), *positives])
    return Mined(ranked, scores=scores)


def _mined(queries: pa.Table, material: Material, depth: int) -> tuple[pa.Table, pa.Table]:
    """Returns candidates of some queries, and scores of those positives that are not among them."""
    index, corpus = material.bm25, material.corpus
    at = corpus.positions(queries["corpus-id"])
    hits = index.search_arrow(queries["text"], depth, at)
    counts = np.diff(hits.offsets)
    rows = np.repeat(np.arange(queries.num_rows), counts)
    ids = queries["_id"].combine_chunks()
    candidates = {
        "query-id": ids.take(pa.array(rows)),
        "corpus-id": corpus.ids_at(hits.positions),
        "rank": (np.arange(len(rows)) - hits.offsets[rows] + 1).astype(np.int32),
        "score": hits.scores.astype(np.float64),
    }
    listed = np.zeros(queries.num_rows, np.bool_)
    listed[rows[hits.positions == at[rows]]] = True
    missing = np.flatnonzero((at >= 0) & ~listed)
    positives = {
        "query-id": ids.take(pa.array(missing)),
        "corpus-id": corpus.ids_at(at[missing]),
        "score": hits.given[missing].astype(np.float64),
    }
    return pa.table(candidates, schema.CANDIDATES), pa.table(positives, schema.SCORES)
