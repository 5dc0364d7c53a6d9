"""`random`: passages drawn at random, the control that every mined or written negative must beat."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Meta, Struct

from builders import schema
from builders.context import Context
from builders.hashing import keyed_hash, mixed
from builders.negatives import Mined

_BATCH = 10_000
_STEP = np.uint64(0x9E3779B97F4A7C15)


class RandomConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings: `depth`, how many passages a query gets, enough to lose the positive and still fill a row."""

    depth: Annotated[int, Meta(ge=1)] = 20


def mine(queries: pa.Table, context: Context, config: RandomConfig) -> Mined:
    """Draws passages for each query (`queries.TABLE`); the seed and the query's id decide, not its position."""
    size = min(config.depth, len(context.corpus))
    tables = [schema.CANDIDATES.empty_table()]
    for start in range(0, queries.num_rows, _BATCH):
        ids = queries["_id"].slice(start, _BATCH).combine_chunks()
        seeds = [keyed_hash(context.seed, "random", query_id) for query_id in ids.to_pylist()]
        drawn = draw(np.array(seeds, np.uint64), len(context.corpus), size)
        columns = {
            "query-id": ids.take(pa.array(np.repeat(np.arange(len(ids)), size))),
            "corpus-id": context.corpus.ids_at(drawn.reshape(-1)),
            "rank": np.tile(np.arange(1, size + 1, dtype=np.int32), len(ids)),
            "score": pa.nulls(drawn.size, pa.float64()),
        }
        tables.append(pa.table(columns, schema.CANDIDATES))
    return Mined(pa.concat_tables(tables))


def draw(seeds: npt.NDArray[np.uint64], total: int, size: int) -> npt.NDArray[np.int64]:
    """Draws `size` distinct numbers below `total` for each seed, `(n_seeds, size)`, in random order.

    The numbers are Floyd's sample (Bentley and Floyd 1987); the generator is SplitMix64 (Steele et al. 2014).

    >>> draw(np.array([7, 7, 8], np.uint64), 3, 3).tolist()
    [[1, 2, 0], [1, 2, 0], [2, 0, 1]]
    """
    rows = np.arange(len(seeds))
    bits = (mixed(seeds + step) for step in np.arange(1, 2 * size + 1, dtype=np.uint64) * _STEP)
    result = np.empty((len(seeds), size), np.int64)
    for place, highest in enumerate(range(total - size, total)):
        number = (next(bits) % np.uint64(highest + 1)).astype(np.int64)
        again = (result[:, :place] == number[:, None]).any(axis=1)
        result[:, place] = np.where(again, highest, number)
    for last in reversed(range(size)):  # the sample is fair, its order is not yet: shuffled from the end
        other = (next(bits) % np.uint64(last + 1)).astype(np.int64)
        result[rows, last], result[rows, other] = result[rows, other], result[rows, last]
    return result
