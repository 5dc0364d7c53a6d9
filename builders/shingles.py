"""Runs of words as 64-bit hashes, straight from Arrow's bytes.

A word is what stands between white space or punctuation in text that is `folded`, so that "Owls, mice?" and "owls mice"
are the same two words.
"""

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foils.texts import folded as one_form

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ODD = np.uint64(0x9E3779B97F4A7C15)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_TWO_BYTES, _THREE_BYTES, _FOUR_BYTES = 0x80, 0xE0, 0xF0  # the first byte of a character in UTF-8
_A, _Z = ord("A"), ord("Z")
_CODES = 2**16

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def _kernel(function: FunctionT) -> FunctionT:
    """Compiled at its first call, kept on disk, and run outside the interpreter's lock."""
    return cast("FunctionT", numba.njit(nogil=True, cache=True)(function))


@lru_cache
def gaps() -> npt.NDArray[np.bool_]:
    """Which characters stand between words, by code point, `(65536,)`: white space and punctuation.

    Symbols are not punctuation: "C++" is not "C".
    """
    every = map(chr, range(_CODES))
    return np.array([each.isspace() or unicodedata.category(each)[0] == "P" for each in every])


def folded(texts: pa.Array | pa.ChunkedArray) -> tuple[Bytes, Offsets]:
    """The UTF-8 bytes of texts as `foils.texts` folds them, and where each begins, `(n_texts + 1,)`.

    ASCII letters are left as they are: `_words` folds them as it reads.
    """
    column = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if not len(column):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    column = pc.fill_null(column, "")
    beyond = pc.invert(pc.string_is_ascii(column))
    if pc.any(beyond).as_py():
        own = list(map(one_form, column.filter(beyond).to_pylist()))
        column = pc.replace_with_mask(column, beyond, pa.array(own, column.type))
    width = np.int64 if pa.types.is_large_string(column.type) else np.int32
    _, offsets, data = column.buffers()
    places = np.frombuffer(offsets, width, len(column) + 1, column.offset * np.dtype(width).itemsize)
    return (np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)), places.astype(np.int64)


def hashes(texts: pa.Array | pa.ChunkedArray, words: int) -> tuple[Hashes, Offsets]:
    """Hashes of all runs of `words` words in their order, and where each text's begin, `(n_texts + 1,)`.

    A text of fewer words has none.

    >>> found, offsets = hashes(pa.array(["a b c", "b c", "a"]), 2)
    >>> offsets.tolist(), bool(found[1] == found[2])
    ([0, 2, 3, 3], True)
    """
    data, offsets = folded(texts)
    counts = np.zeros(len(texts) + 1, np.int64)
    _count(data, offsets, words, gaps(), counts)
    starts: Offsets = np.cumsum(counts)
    made = np.empty(starts[-1], np.uint64)
    _fill(data, offsets, words, gaps(), made)
    return made, starts


def whole(texts: pa.Array | pa.ChunkedArray) -> tuple[Hashes, Offsets]:
    """One hash for all words of each text, and how many words it has, both `(n_texts,)`.

    >>> found, counts = whole(pa.array(["Owls hunt.", "owls  hunt", "owls"]))
    >>> bool(found[0] == found[1]), bool(found[0] == found[2]), counts.tolist()
    (True, False, [2, 2, 1])
    """
    data, offsets = folded(texts)
    made, counts = np.empty(len(texts), np.uint64), np.empty(len(texts), np.int64)
    _whole(data, offsets, gaps(), made, counts)
    return made, counts


@_kernel
def _mixed(number: Any) -> Any:
    """All bits depend on all bits (the finisher of splitmix64: Steele, Lea, Flood 2014)."""
    number = (number ^ (number >> _S30)) * _MIX_1
    number = (number ^ (number >> _S27)) * _MIX_2
    return number ^ (number >> _S31)


@_kernel
def _character(data: Any, at: int) -> Any:
    """The code point at a place of UTF-8, and its bytes; code points above 16 bits, which are no gaps, as 0."""
    byte = np.int64(data[at])
    if byte < _TWO_BYTES:
        return byte, 1
    if byte < _THREE_BYTES:
        return (byte & 31) << 6 | data[at + 1] & 63, 2
    if byte < _FOUR_BYTES:
        return (byte & 15) << 12 | (data[at + 1] & 63) << 6 | data[at + 2] & 63, 3
    return 0, 4


@_kernel
def _words(data: Any, start: int, end: int, gaps: Any, out: Any) -> int:
    """Writes a hash (FNV-1a, mixed) of each word to `out`; how many there are."""
    count, at, within, value = 0, start, False, _FNV_START
    while at < end:
        code, length = _character(data, at)
        if not gaps[code]:
            within = True
            for place in range(at, at + length):
                byte = data[place]
                value = (value ^ np.uint64(byte + 32 if _A <= byte <= _Z else byte)) * _FNV_PRIME
        elif within:
            out[count] = _mixed(value)
            count, within, value = count + 1, False, _FNV_START
        at += length
    if within:
        out[count] = _mixed(value)
        count += 1
    return count


@_kernel
def _run(found: Any, start: int, words: int) -> Any:
    """The hash of a run of words."""
    value = np.uint64(words)
    for place in range(start, start + words):
        value = _mixed(value * _ODD + found[place])
    return value


@_kernel
def _buffer(offsets: Any) -> Any:
    """Room for the words of the longest text."""
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return np.empty(longest // 2 + 1, np.uint64)


@_kernel
def _count(data: Any, offsets: Any, words: int, gaps: Any, out: Any) -> None:
    room = _buffer(offsets)
    for row in range(len(offsets) - 1):
        out[row + 1] = max(0, _words(data, offsets[row], offsets[row + 1], gaps, room) - words + 1)


@_kernel
def _fill(data: Any, offsets: Any, words: int, gaps: Any, out: Any) -> None:
    room, at = _buffer(offsets), 0
    for row in range(len(offsets) - 1):
        count = _words(data, offsets[row], offsets[row + 1], gaps, room)
        for start in range(count - words + 1):
            out[at] = _run(room, start, words)
            at += 1


@_kernel
def _whole(data: Any, offsets: Any, gaps: Any, out: Any, counts: Any) -> None:
    room = _buffer(offsets)
    for row in range(len(offsets) - 1):
        counts[row] = _words(data, offsets[row], offsets[row + 1], gaps, room)
        out[row] = _run(room, 0, counts[row])


@_kernel
def sign(data: Any, offsets: Any, form: Any, multiply: Any, add: Any, out: Any) -> None:
    """Lowers each row of `out`, `(n_texts, permutations)`, to the least permuted shingle; `form` = words, gaps."""
    words, gaps = form
    room = _buffer(offsets)
    for row in range(len(offsets) - 1):
        count = _words(data, offsets[row], offsets[row + 1], gaps, room)
        if count == 0:
            continue
        length = min(words, count)
        lowest = out[row]
        for start in range(count - length + 1):
            value = np.uint32(_run(room, start, length) >> _S32)
            for place in range(len(multiply)):
                lowest[place] = min(lowest[place], np.uint32(value * multiply[place] + add[place]))


@_kernel
def _set(data: Any, start: int, end: int, words: int, gaps: Any, room: Any) -> Any:
    """A text's distinct shingles, sorted."""
    count = _words(data, start, end, gaps, room)
    if count == 0:
        return np.empty(0, np.uint64)
    length = min(words, count)
    made = np.empty(count - length + 1, np.uint64)
    for place in range(len(made)):
        made[place] = _run(room, place, length)
    made.sort()
    kept = 1
    for place in range(1, len(made)):
        if made[place] != made[place - 1]:
            made[kept] = made[place]
            kept += 1
    return made[:kept]


@_kernel
def overlap(data: Any, offsets: Any, others: Any, other_offsets: Any, words: int, gaps: Any) -> Any:
    """The Jaccard index of paired texts' sets of shingles, `(n,)`; 1 for two texts without words."""
    out = np.empty(len(offsets) - 1, np.float64)
    room, other_room = _buffer(offsets), _buffer(other_offsets)
    for row in range(len(out)):
        left = _set(data, offsets[row], offsets[row + 1], words, gaps, room)
        right = _set(others, other_offsets[row], other_offsets[row + 1], words, gaps, other_room)
        shared, at = 0, 0
        for value in left:
            while at < len(right) and right[at] < value:
                at += 1
            if at < len(right) and right[at] == value:
                shared += 1
        total = len(left) + len(right) - shared
        out[row] = shared / total if total else 1.0
    return out
