"""The folder of a data set, read as far as an audit needs it.

Only `table` holds a configuration whole: a sample needs a few hundred rows of what may be a million.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from builders import schema
from builders.dataset.folder import read_complete, read_config
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
        table = self._rows("fates", pc.starts_with(pc.field("fate"), BECAME_NEGATIVE))
        kinds = sorted(pc.unique(table["kind"]).to_pylist())
        return {kind: table.filter(pc.equal(table["kind"], kind)).select(PAIRS.names) for kind in kinds}

    def positives(self, query_ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Known positives of queries as `schema.QRELS`, by query, each one's own first, as stored."""
        found = self._rows("train-qrels", (pc.field("score") > 0) & pc.field("query-id").isin(_flat(query_ids)))
        return found.sort_by("query-id").select(schema.QRELS.names)  # which is stable

    def queries(self, query_ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Texts of queries: `_id`, `text`."""
        return self._those("train-queries", query_ids)

    def passages(self, ids: pa.Array | pa.ChunkedArray) -> Passages:
        """The passages of these ids, from the corpus and from what the LLM wrote."""
        found = Passages(self._those("corpus", ids))
        if "generated" not in self.manifest["configs"]:
            return found
        return found.and_generated(self._those("generated", ids))

    def written(self) -> pa.ChunkedArray:
        """Ids of the passages that the LLM wrote."""
        has_any = "generated" in self.manifest["configs"]
        return self._rows("generated", columns=["_id"])["_id"] if has_any else pa.chunked_array([], pa.string())

    def _those(self, config: str, ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        return self._rows(config, pc.field("_id").isin(_flat(ids)))

    def _rows(self, config: str, which: pc.Expression | None = None, columns: list[str] | None = None) -> pa.Table:
        """A configuration's rows, in their order; all, or some."""
        files = [str(self.folder / path) for path in sorted(self.manifest["configs"][config]["files"])]
        return ds.dataset(files).to_table(columns=columns, filter=which)


def _flat(ids: pa.Array | pa.ChunkedArray) -> Any:
    return ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
