"""Pairs of a query and a passage: each once, in a random order that depends on their ids alone."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders.dataset.read import PAIRS
from builders.hashing import keyed_hash


def keys(pairs: pa.Table) -> pa.Array:
    """One text for each pair, which no other pair has."""
    joined = pc.binary_join_element_wise(pairs["query-id"], pairs["corpus-id"], "\0")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def distinct(tables: list[pa.Table]) -> pa.Table:
    """All pairs of some tables, each once, in the order in which they first come."""
    table = pa.concat_tables([table.select(PAIRS.names) for table in tables]).combine_chunks()
    encoded = keys(table).dictionary_encode()
    codes = encoded.indices.to_numpy()
    first = np.unique(codes, return_index=True)[1]
    return table.take(pa.array(np.sort(first)))


def shuffled(pairs: pa.Table, kind: str, seed: int) -> pa.Table:
    """Pairs of a kind in an order that seed, kind and ids decide, whatever the order they come in.

    Its first n are a simple random sample of n without replacement, and those of a larger n contain them.

    >>> table = pa.table({"query-id": ["a", "b", "c"], "corpus-id": ["1", "2", "3"]}, PAIRS)
    >>> shuffled(table, "bm25", 1).equals(shuffled(table.take([2, 0, 1]), "bm25", 1))
    True
    """
    random_keys = np.fromiter(_random_keys(pairs, kind, seed), np.uint64, pairs.num_rows)
    order: npt.NDArray[np.int64] = np.argsort(random_keys, kind="stable")
    return pairs.take(pa.array(order))


def _random_keys(pairs: pa.Table, kind: str, seed: int) -> Iterator[int]:
    for batch in pairs.to_batches(max_chunksize=10_000):
        for query_id, passage_id in zip(batch["query-id"].to_pylist(), batch["corpus-id"].to_pylist(), strict=True):
            yield keyed_hash(seed, "audit", kind, query_id, passage_id)
