"""The folder of a data set, read as far as an audit needs it.

Only `table` holds a configuration whole: a sample needs a few hundred rows of what may be a million.
"""

import heapq
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builders import schema
from builders.dataset.folder import read_complete, read_config
from builders.hashing import keyed_hash
from builders.passages import Passages
from foils.errors import UserError

PAIRS = pa.schema([("query-id", pa.string()), ("corpus-id", pa.string())])
BECAME_NEGATIVE = "negative_"


class DataSet:
    """A data set's folder.

    Attributes:
        folder: where it lies.
        manifest: its manifest.

    Raises:
        UserError: there is none, or it does not say which candidates became negatives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_complete(folder)
        if "fates" not in self.manifest["configs"]:
            raise UserError(
                f"data set {folder}: it has no configuration fates, which says what passages the negatives are; build "
                "it again into another folder (LLM answers are kept)"
            )

    @property
    def language(self) -> str:
        """An ISO 639 code."""
        return str(self.manifest.get("language", "en"))

    def table(self, config: str) -> pa.Table | None:
        """A configuration's rows; None where the data set does not have it."""
        return read_config(self.folder, self.manifest, config) if config in self.manifest["configs"] else None

    def chosen(self) -> dict[str, pa.Table]:
        """Kind -> its rows' negatives as `PAIRS`, kinds in the order of their names."""
        kept = [batch.filter(pc.starts_with(batch["fate"], BECAME_NEGATIVE)) for batch in self._batches("fates")]
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
        """Ids of corpus passages, drawn at random."""
        ids = (passage_id for batch in self._batches("corpus", "_id") for passage_id in batch["_id"].to_pylist())
        return heapq.nsmallest(size, ids, key=lambda passage_id: keyed_hash(seed, "audit", "random", passage_id))

    def _those(self, config: str, ids: pa.Array | pa.ChunkedArray, columns: pa.Schema) -> pa.Table:
        kept = [batch.filter(pc.is_in(batch["_id"], value_set=ids)) for batch in self._batches(config)]
        return pa.Table.from_batches(kept, columns)

    def _batches(self, config: str, *only: str) -> Iterator[pa.RecordBatch]:
        """A configuration's rows; all columns, or some."""
        for path in sorted(self.manifest["configs"][config]["files"]):
            with pq.ParquetFile(self.folder / path) as file:
                yield from file.iter_batches(columns=list(only) or None)
