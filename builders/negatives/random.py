"""`random`: passages drawn by lot, the control that every mined or written negative must beat."""

import random

import pyarrow as pa
from msgspec import Struct

from builders import schema
from builders.corpus import keyed_hash
from builders.negatives.material import Material, Mined, ranked


class RandomConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing to set: `depth` passages are drawn per query, enough to lose the positive and still fill a row."""

    depth: int = 20


def mine(queries: pa.Table, material: Material, config: RandomConfig) -> Mined:
    """Draws passages for each query (`queries.TABLE`); the seed and the query's id decide, not its position."""
    size = min(config.depth, len(material.ids))
    rows = []
    for query_id in queries["_id"].to_pylist():
        lots = random.Random(keyed_hash(material.seed, "random", query_id))
        hits = [(material.ids[position], None) for position in lots.sample(range(len(material.ids)), size)]
        rows += ranked(query_id, hits)
    return Mined(pa.Table.from_pylist(rows, schema.CANDIDATES))
