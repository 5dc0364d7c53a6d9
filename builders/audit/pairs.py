"""Pairs of a query and a passage (`PAIRS`): each once, and in a random order that depends on their ids alone."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders.dataset.read import PAIRS
from builders.hashing import keyed_hash


def keys(pairs: pa.Table) -> pa.Array:
    """One text for each pair, which no other pair has."""
    joined = pc.binary_join_element_wise(pairs["query-id"], pairs["corpus-id"], "\0")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def ids(pairs: pa.Table) -> Iterator[tuple[str, str]]:
    """The query's and the passage's id of each pair."""
    for batch in pairs.to_batches(max_chunksize=10_000):
        yield from zip(batch["query-id"].to_pylist(), batch["corpus-id"].to_pylist(), strict=True)


def distinct(tables: Iterable[pa.Table]) -> pa.Table:
    """All pairs of some tables, each once, in the order in which they first come."""
    together = pa.concat_tables([table.select(PAIRS.names) for table in tables])
    return together.group_by(PAIRS.names, use_threads=False).aggregate([])


def without(pairs: pa.Table, others: pa.Table) -> pa.Table:
    """The pairs that are not among the others."""
    return pairs.filter(pc.invert(pc.is_in(keys(pairs), value_set=keys(others))))


def own_positives(positives: pa.Table) -> pa.Table:
    """The first of each query's known positives (`schema.QRELS`, as `DataSet.positives` orders them)."""
    first = positives.group_by("query-id", use_threads=False).aggregate([("corpus-id", "first")])
    return first.rename_columns(PAIRS.names)


def shuffled(pairs: pa.Table, kind: str, seed: int) -> pa.Table:
    """Pairs of a kind in an order that depends on seed, kind and ids, and not on the order they come in.

    Its first n are a simple random sample of n without replacement, and those of a larger n contain them.

    >>> table = pa.table({"query-id": ["a", "b", "c"], "corpus-id": ["1", "2", "3"]}, PAIRS)
    >>> shuffled(table, "bm25", 1).equals(shuffled(table.take([2, 0, 1]), "bm25", 1))
    True
    """
    hashes = (keyed_hash(seed, "audit", kind, *pair) for pair in ids(pairs))
    return pairs.take(np.argsort(np.fromiter(hashes, np.uint64, pairs.num_rows), kind="stable"))
