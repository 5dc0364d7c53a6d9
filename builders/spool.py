"""Rows that go to a temporary file and come back as one memory-mapped table; few of them are in memory at once."""

import mmap
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

BATCH = 1000


class Spool:
    """Rows of one schema, a batch at a time or one by one.

    Attributes:
        folder: where the files of this process's spools lie; the system's temporary folder by default.

    >>> spool = Spool(pa.schema([("_id", pa.string())]))
    >>> spool.add(["p1", "p2"])
    >>> spool.row("p3")
    >>> spool.table().to_pylist()
    [{'_id': 'p1'}, {'_id': 'p2'}, {'_id': 'p3'}]
    """

    folder: ClassVar[Path | None] = None

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = tempfile.TemporaryFile(prefix="foils-rows-", dir=self.folder)  # noqa: SIM115 - closed once it is mapped
        self._writer = pa.ipc.new_stream(self._file, schema)
        self._rows: list[tuple[object, ...]] = []

    def add(self, *columns: object) -> None:
        """Adds rows, given by column: lists or Arrow arrays, in the schema's order."""
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        if len(arrays[0]):
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def row(self, *values: object) -> None:
        """Adds a row, its values in the schema's order."""
        self._rows.append(values)
        if len(self._rows) == BATCH:
            self._pack()

    def _pack(self) -> None:
        self.add(*map(list, zip(*self._rows, strict=True)))
        self._rows = []

    def table(self) -> pa.Table:
        """All rows; none can be added any more."""
        if self._rows:
            self._pack()
        self._writer.close()
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()


def spooled(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Batches as one table on disk."""
    spool = Spool(schema)
    for batch in batches:
        spool.add(*batch.columns)
    return spool.table()


def in_places(rows: pa.Table, late: Sequence[tuple[object, ...]]) -> pa.Table:
    """Rows in the order of their `place`, the first column, which is then left out.

    Args:
        rows: in that order already.
        late: more of them, in any order.
    """
    if late:
        columns = zip(zip(*late, strict=True), rows.schema, strict=True)
        added = [pa.array(column, field.type) for column, field in columns]
        rows = pa.concat_tables([rows, pa.table(added, schema=rows.schema)]).sort_by("place")
    return rows.remove_column(0)


def spool_beside(out: Path) -> None:
    """Puts the files of this process's spools beside an output folder, unless `TMPDIR` names another place.

    The system's temporary folder is memory on many machines, which would then hold the whole corpus.
    """
    if "TMPDIR" not in os.environ:
        out.parent.mkdir(parents=True, exist_ok=True)
        Spool.folder = out.parent
