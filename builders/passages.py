"""Passages by id and by position, held in Arrow and not as Python objects."""

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema

Positions = npt.NDArray[np.int64]
_BLOCK = 1_000_000  # ids that are looked at at once


class Passages:
    """A corpus, or a corpus and generated passages, that texts are looked up in.

    Args:
        table: `schema.CORPUS`, in any number of chunks; may be memory-mapped.

    >>> corpus = Passages(pa.table({"_id": ["a", "b"], "title": ["T", ""], "text": ["one", "two"]}, schema.CORPUS))
    >>> corpus.texts(corpus.positions(["b", "a"])).to_pylist()
    ['two', 'T one']
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        rows: int = self.table.num_rows
        return rows

    @cached_property
    def ids(self) -> pa.ChunkedArray:
        """Ids by position."""
        return self.table["_id"]

    def positions(self, ids: pa.Array | pa.ChunkedArray | list[str]) -> Positions:
        """Positions of ids, which are unique here; -1 for those that are not. Memory grows with `ids` alone."""
        wanted = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
        distinct = pc.unique(wanted)
        places = np.full(len(distinct), -1, np.int64)
        for start in range(0, len(self), _BLOCK):
            found = pc.index_in(self.ids.slice(start, _BLOCK).combine_chunks(), value_set=distinct)
            places[found.drop_null().to_numpy()] = start + np.flatnonzero(found.is_valid())
        return np.asarray(places[pc.index_in(wanted, value_set=distinct).to_numpy()])

    def ids_at(self, positions: Positions) -> pa.Array:
        """The ids at positions, in their order."""
        return take(self.ids, positions)

    def bodies(self, positions: Positions) -> pa.Array:
        """Texts without titles at positions, in their order."""
        return take(self.table["text"], positions)

    def texts(self, positions: Positions) -> pa.Array:
        """Passages as models read them (title, a space, text, as MTEB joins them) at positions, in their order."""
        return _joined(take(self.table["title"], positions), take(self.table["text"], positions))

    def batches(self, rows: int = 10_000) -> Iterator[pa.Array]:
        """All passages as models read them, in their order, `rows` at a time."""
        for batch in self.table.select(["title", "text"]).to_batches(max_chunksize=rows):
            yield _joined(batch["title"], batch["text"])

    def and_generated(self, generated: pa.Table) -> "Passages":
        """These and `schema.GENERATED` ones, which have no titles; behind these, so that positions stay."""
        if not generated.num_rows:
            return self
        titles = pa.array([""] * generated.num_rows, pa.string())
        more = pa.table({"_id": generated["_id"], "title": titles, "text": generated["text"]}, schema.CORPUS)
        return Passages(pa.concat_tables([self.table, more]))


def _joined(titles: pa.Array, texts: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(pc.binary_join_element_wise(titles, texts, " "))


def take(column: pa.ChunkedArray, positions: Positions) -> pa.Array:
    """Values at positions, chunk by chunk: Arrow's own `take` may first copy all chunks of a column into one."""
    if column.num_chunks == 1:
        return column.chunk(0).take(pa.array(positions))
    starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)])
    chunk_of = np.searchsorted(starts, positions, side="right") - 1
    order = np.argsort(chunk_of, kind="stable")
    bounds = np.searchsorted(chunk_of[order], np.arange(column.num_chunks + 1))
    parts = [
        column.chunk(number).take(pa.array(positions[order[start:end]] - starts[number]))
        for number, (start, end) in enumerate(pairwise(bounds))
        if end > start
    ]
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return pa.concat_arrays(parts).take(pa.array(places)) if parts else pa.array([], column.type)
