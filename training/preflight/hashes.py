"""Texts as numbers: two 64-bit hashes of each, read straight from the data set's buffers, so that a million rows fit.

Two different texts of a million share a hash with a probability of about 1e-7 (the birthday bound, n^2 / 2^65).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from training.preflight.kernels import hash_texts

ROWS = 20_000
Hashes = npt.NDArray[np.uint64]

# Beyond white space, what `str.casefold` can make of a character outside ASCII: the sharp s becomes "ss", the Kelvin
# sign "k", the ligature "ffi" three letters.
_FROM_OTHERS = b"afhijklnstwy"
_PRINTABLE = range(0x21, 0x7F)


class Column(NamedTuple):
    """Of each text of a column.

    Attributes:
        exact: equal for equal texts, `(n_rows,)`.
        folded: equal for texts that are the same when case and white space are folded; often for others too.
        sizes: bytes, `(n_rows,)`.
        blank: whether it is missing, empty or only white space, `(n_rows,)`.
    """

    exact: Hashes
    folded: Hashes
    sizes: npt.NDArray[np.int64]
    blank: npt.NDArray[np.bool_]


def hashed(rows: Dataset, columns: Sequence[str]) -> dict[str, Column]:
    """Hashes of the texts of some columns."""
    weights = letter_weights()
    parts: dict[str, list[Column]] = {column: [] for column in columns}
    if not len(rows):
        empty = Column(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.bool_))
        return dict.fromkeys(columns, empty)
    with ThreadPoolExecutor() as pool:  # the kernel lets go of Python's lock
        for table in rows.select_columns(list(columns)).with_format("arrow").iter(ROWS):
            arrays = [_texts(table[column]) for column in columns]
            for column, part in zip(columns, pool.map(_hashed, arrays, [weights] * len(columns)), strict=True):
                parts[column].append(part)
    return {
        column: Column(*(np.concatenate(each) for each in zip(*of_column, strict=True)))
        for column, of_column in parts.items()
    }


def letter_weights() -> Hashes:
    """What each byte adds to a folded hash, `(256,)`.

    Only bytes that case folding maps within ASCII and that it can make of nothing else have any weight.
    """
    weights = np.zeros(256, np.uint64)
    chance = np.random.default_rng(1)
    for byte in _PRINTABLE:
        lower = bytes([byte]).lower()
        if lower not in _FROM_OTHERS:
            # An upper-case letter comes before its lower-case one, which then copies it.
            weights[byte] = weights[ord(lower.upper())] or chance.integers(1, 1 << 64, dtype=np.uint64)
    return weights


def _texts(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array of 64-bit offsets, whatever the column is."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # more than 2 GB of text
        column = pa.concat_arrays(column.cast(pa.large_string()).chunks)
    return column.cast(pa.large_string())


def _hashed(texts: pa.Array, weights: Hashes) -> Column:
    exact, folded = np.empty(len(texts), np.uint64), np.empty(len(texts), np.uint64)
    _, ends, data = texts.buffers()
    offsets = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    hash_texts(data, offsets, weights, exact, folded)
    blank = pc.or_(pc.utf8_is_space(texts), pc.equal(pc.binary_length(texts), 0))
    return Column(exact, folded, np.diff(offsets), pc.fill_null(blank, fill_value=True).to_numpy(zero_copy_only=False))
