"""Rows that come one by one and end as an Arrow table, with memory that does not grow with their number.

Texts do not stay as Python objects: batches go to a temporary file, which is mapped back.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders.passages import take
from builders.spool import Spool

BATCH = 1000


class Columns:
    """Rows of one schema.

    >>> rows = Columns(pa.schema([("_id", pa.string()), ("rank", pa.int32())]))
    >>> rows.add("p1", 1)
    >>> rows.table().to_pylist()
    [{'_id': 'p1', 'rank': 1}]
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._spool = Spool(schema)
        self._rows: list[tuple[object, ...]] = []

    def add(self, *values: object) -> None:
        """Adds a row, its values in the schema's order."""
        self._rows.append(values)
        if len(self._rows) == BATCH:
            self._pack()

    def table(self) -> pa.Table:
        """All rows; none can be added any more."""
        if self._rows:
            self._pack()
        return self._spool.table()

    def _pack(self) -> None:
        self._spool.add(*map(list, zip(*self._rows, strict=True)))
        self._rows = []


def in_places(rows: pa.Table, late: Sequence[tuple[object, ...]]) -> pa.Table:
    """Rows in the order of their `place`, the first column, which is then left out; a batch in memory at once.

    Args:
        rows: in that order already.
        late: more of them, few, in any order.
    """
    if not late:
        return rows.remove_column(0)
    added = [pa.array(column, field.type) for column, field in zip(zip(*late, strict=True), rows.schema, strict=True)]
    merged = pa.concat_tables([rows, pa.table(added, schema=rows.schema)])
    order = np.argsort(merged.column(0).to_numpy(), kind="stable")
    spool = Spool(rows.schema.remove(0))
    for start in range(0, len(order), BATCH):
        spool.add(*(take(column, order[start : start + BATCH]) for column in merged.columns[1:]))
    return spool.table()


def hash_of(text: str) -> int:
    """64 bits that stand for a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class Hashes:
    """A set of 64-bit numbers at some sixteen bytes each.

    >>> seen = Hashes()
    >>> [seen.add(number) for number in (7, 8, 7)]
    [True, True, False]
    """

    RECENT = 4096

    def __init__(self) -> None:
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._recent: set[int] = set()

    def add(self, number: int) -> bool:
        """Adds a number; whether it is new."""
        place = int(np.searchsorted(self._sorted, np.uint64(number)))
        if number in self._recent or (place < len(self._sorted) and int(self._sorted[place]) == number):
            return False
        self._recent.add(number)
        if len(self._recent) >= max(self.RECENT, len(self._sorted) // 8):  # so that merging stays linear in all
            self._merge()
        return True

    def _merge(self) -> None:
        recent = np.fromiter(self._recent, np.uint64, len(self._recent))
        self._sorted = np.sort(np.concatenate([self._sorted, recent]))
        self._recent = set()
