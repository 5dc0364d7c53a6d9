"""Texts as numbers: two 64-bit hashes of each, read straight from the data set's buffers, so that a million rows fit.

Two different texts of a million share a hash with a probability of about 1e-7 (the birthday bound, n^2 / 2^65).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from foils.texts import normalised
from training.preflight.kernels import hash_texts

ROWS = 20_000
Hashes = npt.NDArray[np.uint64]

_WITHOUT_WEIGHT = b".,;:!?"  # what `normalised` may leave out, besides what is not printable
_PRINTABLE = range(0x21, 0x7F)
_BEYOND_ASCII = range(0x80, 0x100)


class Column(NamedTuple):
    """Of each text of a column.

    Attributes:
        exact: equal for equal texts, `(n_rows,)`.
        folded: equal for texts that are the same once they are normalised; sometimes for others too.
        sizes: bytes, `(n_rows,)`.
        blank: whether there is nothing to read in it, `(n_rows,)`.
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
    """What each byte adds to a folded hash, `(256,)`; nothing where two texts that are the same may differ in it."""
    weights = np.zeros(256, np.uint64)
    chance = np.random.default_rng(1)
    for byte in (*_PRINTABLE, *_BEYOND_ASCII):
        if byte not in _WITHOUT_WEIGHT:
            # An upper-case letter comes before its lower-case one, which then copies it.
            weights[byte] = weights[ord(chr(byte).upper())] if chr(byte) in ascii_lowercase else _drawn(chance)
    return weights


def _drawn(chance: np.random.Generator) -> np.uint64:
    return chance.integers(1, 1 << 64, dtype=np.uint64)


def _texts(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array of 64-bit offsets, whatever the column is."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # more than 2 GB of text
        column = pa.concat_arrays(column.cast(pa.large_string()).chunks)
    return column.cast(pa.large_string())


def _hashed(texts: pa.Array, weights: Hashes) -> Column:
    exact, folded, sizes = _sums(texts, weights)
    blank = pc.fill_null(pc.or_(pc.utf8_is_space(texts), pc.equal(pc.binary_length(texts), 0)), fill_value=True)
    blank = blank.to_numpy(zero_copy_only=False).copy()
    beyond = np.flatnonzero(pc.equal(pc.string_is_ascii(texts), False).to_numpy(zero_copy_only=False))
    if len(beyond):  # the kernel folds ASCII alone
        plain = pa.array(map(normalised, texts.take(pa.array(beyond)).to_pylist()), pa.large_string())
        folded[beyond] = _sums(plain, weights)[1]
        blank[beyond] = pc.equal(plain, "").to_numpy(zero_copy_only=False)
    return Column(exact, folded, sizes, blank)


def _sums(texts: pa.Array, weights: Hashes) -> tuple[Hashes, Hashes, npt.NDArray[np.int64]]:
    """Both hashes of each text, by its bytes as they are, and how many these are."""
    exact, folded = np.empty(len(texts), np.uint64), np.empty(len(texts), np.uint64)
    _, ends, data = texts.buffers()
    offsets = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    hash_texts(data, offsets, weights, exact, folded)
    return exact, folded, np.diff(offsets)
