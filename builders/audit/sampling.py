"""What of a data set is audited: its chosen pairs, a sample of them by lot, and the texts behind it.

Nothing here holds all passages: a sample needs a few hundred of what may be a million.
"""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builders import schema
from builders.corpus import keyed_hash
from builders.folder import read_manifest
from builders.passages import Passages, Positions
from foils.errors import UserError

PAIRS = pa.schema([("query-id", pa.string()), ("corpus-id", pa.string())])
BECAME_NEGATIVE = "negative_"


class DataSet:
    """A data set's folder, read as far as an audit needs it.

    Raises:
        UserError: there is none, or it does not say which candidates became negatives.
    """

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        if manifest is None:
            raise UserError(f"data set {folder}: empty or not there; build it first: python -m builders.build RECIPE")
        if "fates" not in manifest["configs"]:
            raise UserError(
                f"data set {folder}: it has no configuration fates, which says what passages the negatives are; build "
                "it again into another folder (LLM answers are kept)"
            )
        self.folder = folder
        self.manifest: dict[str, Any] = manifest

    @property
    def language(self) -> str:
        """Two-letter code."""
        return str(self.manifest.get("language", "en"))

    def chosen(self) -> dict[str, pa.Table]:
        """Kind -> its rows' negatives as `PAIRS`, kinds in the order of their names."""
        kept = [
            batch.filter(pc.starts_with(batch["fate"], BECAME_NEGATIVE)) for batch in self._batches("fates", "fate")
        ]
        table = pa.Table.from_batches(kept, schema.FATES)
        kinds = sorted(pc.unique(table["kind"]).to_pylist())
        return {kind: table.filter(pc.equal(table["kind"], kind)).select(PAIRS.names) for kind in kinds}

    def positives(self, query_ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Known positives of queries as `schema.QRELS`, by query, each one's own first, as stored."""
        kept = [
            batch.filter(pc.and_(pc.greater(batch["score"], 0), pc.is_in(batch["query-id"], value_set=query_ids)))
            for batch in self._batches("default")
        ]
        found = pa.Table.from_batches(kept, schema.QRELS)
        place = pa.array(np.arange(found.num_rows))
        ordered = found.append_column("place", place).sort_by([("query-id", "ascending"), ("place", "ascending")])
        return ordered.select(schema.QRELS.names)

    def queries(self, query_ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Texts of queries: `_id`, `text`."""
        return self._those("queries", query_ids, schema.QUERIES)

    def passages(self, ids: pa.Array | pa.ChunkedArray) -> Passages:
        """The passages of these ids, from the corpus and from what the LLM wrote."""
        found = Passages(self._those("corpus", ids, schema.CORPUS))
        if "generated" not in self.manifest["configs"]:
            return found
        return found.and_generated(self._those("generated", ids, schema.GENERATED))

    def written(self) -> pa.ChunkedArray:
        """Ids of the passages that the LLM wrote."""
        batches = self._batches("generated", "_id") if "generated" in self.manifest["configs"] else ()
        return pa.chunked_array([batch["_id"] for batch in batches], pa.string())

    def random_passages(self, size: int, seed: int) -> list[str]:
        """Ids of corpus passages drawn by lot."""
        ids = (passage_id for batch in self._batches("corpus", "_id") for passage_id in batch["_id"].to_pylist())
        return heapq.nsmallest(size, ids, key=lambda passage_id: keyed_hash(seed, "audit", "random", passage_id))

    def _those(self, config: str, ids: pa.Array | pa.ChunkedArray, columns: pa.Schema) -> pa.Table:
        kept = [batch.filter(pc.is_in(batch["_id"], value_set=ids)) for batch in self._batches(config)]
        return pa.Table.from_batches(kept, columns)

    def _batches(self, config: str, *only: str) -> Iterator[pa.RecordBatch]:
        """A configuration's rows; `fates` whole but for rows that became none, `only` of others its columns."""
        columns = None if config == "fates" else list(only) or None
        for path in sorted(self.manifest["configs"][config]["files"]):
            with pq.ParquetFile(self.folder / path) as file:
                yield from file.iter_batches(columns=columns)


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


def in_lots_order(pairs: pa.Table, kind: str, seed: int) -> pa.Table:
    """Pairs of a kind in an order that seed, kind and ids decide, whatever the order they come in.

    Its first n are a simple random sample of n without replacement, and those of a larger n contain them.

    >>> table = pa.table({"query-id": ["a", "b", "c"], "corpus-id": ["1", "2", "3"]}, PAIRS)
    >>> in_lots_order(table, "bm25", 1).equals(in_lots_order(table.take([2, 0, 1]), "bm25", 1))
    True
    """
    lots = np.fromiter(_lots(pairs, kind, seed), np.uint64, pairs.num_rows)
    order: npt.NDArray[np.int64] = np.argsort(lots, kind="stable")
    return pairs.take(pa.array(order))


def _lots(pairs: pa.Table, kind: str, seed: int) -> Iterator[int]:
    for batch in pairs.to_batches(max_chunksize=10_000):
        for query_id, passage_id in zip(batch["query-id"].to_pylist(), batch["corpus-id"].to_pylist(), strict=True):
            yield keyed_hash(seed, "audit", kind, query_id, passage_id)


def places(pairs: pa.Table, queries: pa.Table, passages: Passages) -> tuple[Positions, Positions]:
    """Where each pair's query lies among `queries` (`_id`, `text`), and its passage among `passages`.

    Raises:
        UserError: a pair names one that is not there.
    """
    found = pc.fill_null(pc.index_in(pairs["query-id"], value_set=queries["_id"]), -1)
    asked, read = np.asarray(found.to_numpy(), np.int64), passages.positions(pairs["corpus-id"])
    for what, column, at in (("query", "query-id", asked), ("passage", "corpus-id", read)):
        if (at < 0).any():
            unknown = pairs[column][int(np.argmax(at < 0))].as_py()
            raise UserError(f"a pair names {what} {unknown!r}, which the data set does not hold; build it again")
    return asked, read
