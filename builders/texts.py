"""When two texts are nearly the same: one definition for the guard, selection, the checks and realism.

    jaccard(texts, others)                            # similarity of paired texts, by column
    similarity(shingles(text), shingles(other))       # the same of two texts
    containment(shingles(text), shingles(other))      # how much of the shorter one stands in the longer

A text's words are what stands between white space and punctuation once it is folded (`foils.texts.folded`), so "Owls,
mice?" and "owls mice" have the same two words. Its shingles are its runs of three words; a text of fewer words has one
shingle, all of it. Similarity is the Jaccard index of two sets of shingles, containment the share of the smaller set
that lies in the other (Broder 1997, "On the resemblance and containment of documents").

In scripts that put no spaces between words (Chinese, Japanese, Thai) each character is one.
"""

import re
import string
import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders.hashing import mixed
from builders.retrieval.bm25.kernels import compiled
from foils.languages import UNSPACED
from foils.texts import folded

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]
Shingles = frozenset[tuple[str, ...]]

SHINGLE = 3
"""Words in a shingle."""
_GAPS = [each for each in map(chr, range(2**16)) if each.isspace() or unicodedata.category(each)[0] == "P"]
"""White space and punctuation. Symbols are not punctuation: "C++" is not "C"."""
_WORD = re.compile(f"[{UNSPACED}]|[^{''.join(map(re.escape, _GAPS))}{UNSPACED}]+")
_GAPS_BEYOND_ASCII = f"[{''.join(each for each in _GAPS if not each.isascii())}]+"
_ASCII_GAPS = np.isin(np.arange(256), [ord(each) for each in _GAPS if each.isascii()])
# Letters of Latin, Greek and Cyrillic, punctuation, kana, ideographs and Hangul.
_MOSTLY_PLAIN = ((0x80, 0x530), (0x1E00, 0x2060), (0x3000, 0x3100), (0x4E00, 0xA000), (0xAC00, 0xD7A4))
_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_ROWS = 4096
# A key of `jaccard`: 12 bits for the row, 51 for the hash, one for the side.
_ROW_SHIFT, _HASH_SHIFT, _SIDE = np.uint64(52), np.uint64(13), np.uint64(1)
_ODD = np.uint64(0x9E3779B97F4A7C15)


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
    """The similarity of paired texts, `(n,)`, counted on 51-bit hashes of their shingles.

    >>> jaccard(pa.array(["a b c d", "?"]), pa.array(["a b c e", ""])).tolist()
    [0.3333333333333333, 1.0]
    """
    found = np.empty(len(left), np.float64)
    for start in range(0, len(left), _ROWS):
        part = slice(start, min(start + _ROWS, len(left)))
        # The row, the hash and the side: a shingle of both texts stands there twice, one behind the other.
        keys = np.sort(np.concatenate([_row_keys(left[part]), _row_keys(right[part]) | _SIDE]))
        keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]  # np.unique takes ten times as long
        is_first = np.append(True, (keys[1:] | _SIDE) != (keys[:-1] | _SIDE))[: len(keys)]
        total, union = (_per_row(each, part.stop - start) for each in (keys, keys[is_first]))
        found[part] = np.where(union, (total - union) / np.maximum(union, 1), 1.0)
    return found


def word_hashes(texts: pa.Array | pa.ChunkedArray) -> tuple[Hashes, Offsets]:
    """A 64-bit hash of each word of each text, and where a text's words begin, `(n_texts + 1,)`; null has no words.

    >>> found, offsets = word_hashes(pa.array(["Owls hunt.", "hunt!"]))
    >>> offsets.tolist(), bool(found[1] == found[2])
    ([0, 2, 3], True)
    """
    spaced = pc.replace_substring_regex(_lowered(texts), f"([{UNSPACED}])", r" \1 ")
    data, edges = _bytes_of(pc.replace_substring_regex(spaced, _GAPS_BEYOND_ASCII, " "))
    offsets = np.zeros(len(edges), np.int64)
    made = np.empty(int(edges[-1] - edges[0]) // 2 + len(edges), np.uint64)
    total = _hash_words(data, edges, _ASCII_GAPS, made, offsets)
    return mixed(made[:total]), offsets


def letters(texts: pa.Array | pa.ChunkedArray) -> Hashes:
    """A 64-bit number for the ASCII letters and digits of each text, `(n_texts,)`, in whatever order.

    It is equal for all texts that are the same once they are normalised (`foils.texts`). That of two texts one behind
    the other, with white space between them, is the sum of theirs.

    >>> one, same, part = letters(pa.array(["The \u201cOwl\u201d.", "the 'OWL'", "owl"]))
    >>> bool(one == same), bool(one == part)
    (True, False)
    """
    data, edges = _bytes_of(_lowered(texts))
    counted = np.frombuffer((string.ascii_lowercase + string.digits).encode(), np.uint8)
    weights, sums = np.zeros(256, np.uint64), np.zeros(len(edges) - 1, np.uint64)
    weights[counted] = mixed(counted * _ODD)
    _add_up(data, edges, weights, sums)
    return sums


@compiled
def _add_up(data: npt.NDArray[np.uint8], edges: npt.NDArray[np.int32], weights: Hashes, sums: Hashes) -> None:
    """Adds the weights of each text's bytes to its sum."""
    for row in range(len(sums)):
        for at in range(edges[row], edges[row + 1]):
            sums[row] += weights[data[at]]


def _lowered(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Texts with the words that they have once folded. Arrow lowers most of them, Python folds the rest."""
    column = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    column = pc.replace_substring(pc.fill_null(column.cast(pa.string()), ""), "\u00df", "ss")
    special = pc.match_substring_regex(column, _special())
    own = pa.array(map(folded, column.filter(special).to_pylist()), pa.string())
    return pc.replace_with_mask(pc.utf8_lower(column), special, own)


@cache
def _special() -> str:
    """The pattern of a character that folding may do more to than lower it."""
    points = [point for start, end in _MOSTLY_PLAIN for point in range(start, end) if _is_plain(chr(point))]
    starts = [at for at, point in enumerate(points) if point - 1 != points[at - 1]]
    ends = [*starts[1:], len(points)]
    plain = (f"\\x{{{points[at]:x}}}-\\x{{{points[end - 1]:x}}}" for at, end in zip(starts, ends, strict=True))
    return f"[^\\x09-\\x0d\\x20-\\x7e{''.join(plain)}]"


def _is_plain(letter: str) -> bool:
    """Whether a character gives the same words lowered as folded, whatever stands beside it."""
    return not unicodedata.combining(letter) and _WORD.findall(folded(letter)) == _WORD.findall(letter.lower())


def _bytes_of(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The bytes of texts without nulls, and where each begins in them, `(n_texts + 1,)`."""
    if not len(texts):
        return np.empty(0, np.uint8), np.zeros(1, np.int32)
    _, offsets, data = texts.buffers()
    edges = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset)
    return np.frombuffer(data or b"", np.uint8), edges


@compiled
def _hash_words(
    data: npt.NDArray[np.uint8],
    edges: npt.NDArray[np.int32],
    gaps: npt.NDArray[np.bool_],
    made: Hashes,
    offsets: Offsets,
) -> int:
    """Writes a hash (FNV-1a) of each word to `made`, and where each text's words end; returns how many there are."""
    total = 0
    for row in range(len(edges) - 1):
        value = np.uint64(0)  # between words
        for at in range(edges[row], edges[row + 1]):
            if not gaps[data[at]]:
                value = ((_FNV_START if value == 0 else value) ^ np.uint64(data[at])) * _FNV_PRIME
            elif value != 0:
                made[total] = value
                total, value = total + 1, np.uint64(0)
        if value != 0:
            made[total] = value
            total += 1
        offsets[row + 1] = total
    return total


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
        value = mixed(value * _ODD + found[place : place + len(value)])
    within = np.arange(len(value)) + length <= np.repeat(offsets[1:], counts)[: len(value)]
    return value[within], np.concatenate([[0], np.cumsum(np.maximum(counts - length + 1, 0))])


def whole(found: Hashes, offsets: Offsets) -> Hashes:
    """One hash for all words of each text, `(n_texts,)`; arguments as of `runs`.

    >>> one, same, other = whole(*word_hashes(pa.array(["Owls hunt.", "owls  hunt", "hunt owls"])))
    >>> bool(one == same), bool(one == other)
    (True, False)
    """
    place = np.arange(len(found)) - np.repeat(offsets[:-1], np.diff(offsets))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(found + place.astype(np.uint64) * _ODD))])
    return mixed(sums[offsets[1:]] - sums[offsets[:-1]])


def shingle_hashes(texts: pa.Array | pa.ChunkedArray) -> tuple[Hashes, Offsets]:
    """A 64-bit hash of each shingle of each text, repeated ones too, and the row of the text that it is of.

    >>> _, rows = shingle_hashes(pa.array(["a b c d", "", "a b"]))
    >>> rows.tolist()
    [0, 0, 2]
    """
    found, offsets = word_hashes(texts)
    made, starts = runs(found, offsets, SHINGLE)
    counts = np.diff(offsets)
    short = np.flatnonzero((counts > 0) & (counts < SHINGLE))
    rows = np.concatenate([np.repeat(np.arange(len(texts)), np.diff(starts)), short])
    return np.concatenate([made, whole(found, offsets)[short]]), rows


def _row_keys(texts: pa.Array | pa.ChunkedArray) -> Hashes:
    """The row of each shingle, 51 bits of its hash, and a zero."""
    hashes, rows = shingle_hashes(texts)
    keys: Hashes = rows.astype(np.uint64) << _ROW_SHIFT | hashes >> _HASH_SHIFT << _SIDE
    return keys


def _per_row(keys: Hashes, rows: int) -> npt.NDArray[np.int64]:
    return np.bincount((keys >> _ROW_SHIFT).astype(np.int64), minlength=rows)
