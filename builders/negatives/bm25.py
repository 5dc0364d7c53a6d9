"""`bm25`: the passages that share most words with the query."""

from typing import Annotated

import pyarrow as pa
from msgspec import Meta, Struct
from tqdm import tqdm

from builders import schema
from builders.context import Context
from builders.negatives import Mined

_LONG = 10_000  # queries that are worth a bar
_BATCH = 10_000


class Bm25Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings: `depth`, how many candidates a query keeps, counted from the best."""

    depth: Annotated[int, Meta(ge=1)] = 50


def mine(queries: pa.Table, context: Context, config: Bm25Config) -> Mined:
    """Ranks the corpus for each query (`queries.TABLE`) by BM25; scores are above 0 and have no upper bound.

    Among the scores is each query's positive, with 0 where it shares no word with the query, and once where it is
    a candidate too.
    """
    corpus, parts = context.corpus, [(schema.CANDIDATES.empty_table(), schema.SCORES.empty_table())]
    total = queries.num_rows
    with tqdm(total=total, desc="bm25", unit="query", disable=total <= _LONG) as bar:
        for start in range(0, total, _BATCH):
            batch = queries.slice(start, _BATCH)
            positives = corpus.positions(batch["corpus-id"])
            hits = context.bm25.search_arrow(batch["text"], config.depth, positives)
            parts.append(hits.tables(batch, corpus, positives))
            bar.update(batch.num_rows)
    candidates, missing = map(pa.concat_tables, zip(*parts, strict=True))
    return Mined(candidates, scores=pa.concat_tables([candidates.select(schema.SCORES.names), missing]))
