"""`bm25`: the passages that share most words with the query."""

from typing import Annotated

import pyarrow as pa
from msgspec import Meta, Struct

from builders import schema
from builders.negatives.material import Material, Mined, ranked


class Bm25Config(Struct, frozen=True, forbid_unknown_fields=True):
    """`depth`: candidates kept per query, counted from the best."""

    depth: Annotated[int, Meta(ge=1)] = 50


def mine(queries: pa.Table, material: Material, config: Bm25Config) -> Mined:
    """Ranks the corpus for each query (`queries.TABLE`) by BM25."""
    found = material.bm25.search(queries["text"].to_pylist(), config.depth)
    rows = [
        row for query_id, hits in zip(queries["_id"].to_pylist(), found, strict=True) for row in ranked(query_id, hits)
    ]
    return Mined(pa.Table.from_pylist(rows, schema.CANDIDATES))
