"""When two texts are nearly the same: one definition for the guard, selection, the checks and realism.

    jaccard(texts, others)                            # similarity of paired texts, by column
    similarity(shingles(text), shingles(other))       # the same of two texts
    containment(shingles(text), shingles(other))      # how much of the shorter one stands in the longer

A text's words are what stands between white space and punctuation once it is folded (`foils.texts.folded`), so "Owls,
mice?" and "owls mice" have the same two words. Its shingles are its runs of three words; a text of fewer words has one
shingle, all of it. Similarity is the Jaccard index of two sets of shingles, containment the share of the smaller set
that lies in the other (Broder 1997, "On the resemblance and containment of documents").

Scripts that put no spaces between words (Chinese, Japanese, Thai) give one "word" a clause: only equal clauses agree.
"""

import re
import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders.hashing import hashed
from foils.texts import folded

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]
Shingles = frozenset[tuple[str, ...]]

SHINGLE = 3
"""Words in a shingle."""
_GAPS = "".join(
    re.escape(each) for each in map(chr, range(2**16)) if each.isspace() or unicodedata.category(each)[0] == "P"
)
"""White space and punctuation, for a class of a regular expression. Symbols are not punctuation: "C++" is not "C"."""
_WORD = re.compile(f"[^{_GAPS}]+")
_PLAIN = r"^[\x09-\x0d\x20-\x7e]*$"  # Arrow folds these itself
_ROWS = 4096
_ROW_BITS = np.uint64(12)
_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)


def words(text: str) -> list[str]:
    """The words of a text.

    >>> words("Owls, C++ mice?")
    ['owls', 'c++', 'mice']
    """
    return _WORD.findall(folded(text))


def shingles(text: str) -> Shingles:
    """The shingles of a text.

    >>> sorted(shingles("Owls hunt mice. At night!"))
    [('hunt', 'mice', 'at'), ('mice', 'at', 'night'), ('owls', 'hunt', 'mice')]
    """
    found = words(text)
    runs = range(max(min(len(found), 1), len(found) - SHINGLE + 1))
    return frozenset(tuple(found[start : start + SHINGLE]) for start in runs)


def similarity(one: Shingles, other: Shingles) -> float:
    """The Jaccard index of two sets, within 0 and 1; 1 for two empty ones.

    >>> similarity(shingles("a b c d"), shingles("a b c e"))
    0.3333333333333333
    """
    return len(one & other) / len(one | other) if one or other else 1.0


def containment(one: Shingles, other: Shingles) -> float:
    """The share of the smaller set that lies in the other, within 0 and 1; 0 where one is empty.

    >>> containment(shingles("a b c d"), shingles("x y z a b c d"))
    1.0
    """
    return len(one & other) / min(len(one), len(other)) if one and other else 0.0


def jaccard(left: pa.Array | pa.ChunkedArray, right: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """The similarity of paired texts, `(n,)`, counted on 52-bit hashes of their shingles.

    >>> jaccard(pa.array(["a b c d", "?"]), pa.array(["a b c e", ""])).tolist()
    [0.3333333333333333, 1.0]
    """
    found = np.empty(len(left), np.float64)
    for start in range(0, len(left), _ROWS):
        part = slice(start, min(start + _ROWS, len(left)))
        ours, theirs = _row_keys(left[part]), _row_keys(right[part])
        both = np.sort(np.concatenate([ours, theirs]))
        twice = both[1:][both[1:] == both[:-1]]
        own, other, shared = (_per_row(keys, part.stop - start) for keys in (ours, theirs, twice))
        union = own + other - shared
        found[part] = np.where(union, shared / np.maximum(union, 1), 1.0)
    return found


def word_hashes(texts: pa.Array | pa.ChunkedArray) -> tuple[Hashes, Offsets]:
    """A 64-bit hash of each word of each text, and where a text's words begin, `(n_texts + 1,)`; null has no words.

    >>> found, offsets = word_hashes(pa.array(["Owls hunt.", "hunt!"]))
    >>> offsets.tolist(), bool(found[1] == found[2])
    ([0, 2, 3], True)
    """
    column = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    column = pc.fill_null(column.cast(pa.string()), "")
    special = pc.invert(pc.match_substring_regex(column, _PLAIN))
    own = pa.array(map(folded, column.filter(special).to_pylist()), pa.string())
    column = pc.replace_with_mask(pc.ascii_lower(column), special, own)
    lists = pc.split_pattern_regex(column, f"[{_GAPS}]+")
    pieces = lists.flatten()
    is_word = pc.not_equal(pieces, "")
    ends = np.concatenate([[0], np.cumsum(is_word.to_numpy(zero_copy_only=False))])
    encoded = pieces.filter(is_word).dictionary_encode()
    return hashed(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()], ends[lists.offsets.to_numpy()]


def runs(found: Hashes, offsets: Offsets, length: int) -> tuple[Hashes, Offsets]:
    """Hashes of all runs of `length` words in their order, and where each text's begin, `(n_texts + 1,)`.

    A text of fewer words has none.

    Args:
        found: of words, as of `word_hashes`.
        offsets: where each text's words begin.
        length: words in a run.

    >>> found, offsets = runs(*word_hashes(pa.array(["a b c", "b c", "a"])), 2)
    >>> offsets.tolist(), bool(found[1] == found[2])
    ([0, 2, 3, 3], True)
    """
    counts = np.diff(offsets)
    value = np.full(max(len(found) - length + 1, 0), length, np.uint64)
    for place in range(length):
        value = _mixed(value * _ODD + found[place : place + len(value)])
    within = np.arange(len(value)) + length <= np.repeat(offsets[1:], counts)[: len(value)]
    return value[within], np.concatenate([[0], np.cumsum(np.maximum(counts - length + 1, 0))])


def whole(found: Hashes, offsets: Offsets) -> Hashes:
    """One hash for all words of each text, `(n_texts,)`; arguments as of `runs`.

    >>> one, same, other = whole(*word_hashes(pa.array(["Owls hunt.", "owls  hunt", "hunt owls"])))
    >>> bool(one == same), bool(one == other)
    (True, False)
    """
    place = np.arange(len(found)) - np.repeat(offsets[:-1], np.diff(offsets))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(found + place.astype(np.uint64) * _ODD))])
    return _mixed(sums[offsets[1:]] - sums[offsets[:-1]])


def _row_keys(texts: pa.Array | pa.ChunkedArray) -> Hashes:
    """The row of each distinct shingle and 52 bits of its hash, sorted."""
    found, offsets = word_hashes(texts)
    made, starts = runs(found, offsets, SHINGLE)
    counts = np.diff(offsets)
    short = np.flatnonzero((counts > 0) & (counts < SHINGLE))
    rows = np.concatenate([np.repeat(np.arange(len(texts)), np.diff(starts)), short]).astype(np.uint64)
    hashes = np.concatenate([made, whole(found, offsets)[short]])
    keys = np.sort(rows << (np.uint64(64) - _ROW_BITS) | hashes >> _ROW_BITS)
    is_new: npt.NDArray[np.bool_] = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    return keys[is_new]  # np.unique hashes and takes ten times as long


def _per_row(keys: Hashes, rows: int) -> npt.NDArray[np.int64]:
    return np.bincount((keys >> (np.uint64(64) - _ROW_BITS)).astype(np.int64), minlength=rows)


def _mixed(number: Hashes) -> Hashes:
    """All bits depend on all bits (the finisher of splitmix64: Steele, Lea, Flood 2014)."""
    number = (number ^ (number >> _S30)) * _MIX_1
    number = (number ^ (number >> _S27)) * _MIX_2
    mixed: Hashes = number ^ (number >> _S31)
    return mixed
