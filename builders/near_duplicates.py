"""MinHash: which texts share most of their words' runs, found without comparing all with all.

    left, right = signatures(texts), signatures(others)       # (n, 128) uint32
    jaccard(left[rows], right[rows])                          # estimates for paired rows
    matches(left, right, 0.7)                                 # all pairs at or above an estimated 0.7
    near_duplicates(texts, others, 0.7)                       # the same, each pair checked exactly on its texts

A text's shingles are its runs of (by default) three words, in one form and without punctuation (`shingles`). Two texts'
similarity is the Jaccard index of their sets of shingles, between 0 and 1. A signature holds, for each of 128
permutations of all shingles, the least of the text's own; two signatures agree in a place with the probability J that
is the texts' similarity (Broder 1997, "On the resemblance and containment of documents"). So the share of places that
agree estimates J, with a standard error of sqrt(J (1 - J) / 128): 0.044 at most, 0.041 at 0.7.

Scripts that put no spaces between words (Chinese, Japanese, Thai) give one "word" a clause: only equal clauses agree.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders import shingles

Signatures = npt.NDArray[np.uint32]
Positions = npt.NDArray[np.int64]
Similarities = npt.NDArray[np.float64]

WORDS = 3
PERMUTATIONS = 128
SPARE_ERRORS = 3.0
"""Standard errors by which a pair's estimate may fall short of a threshold before its texts are not even compared."""
_ROWS = 4096
_SEED = 20_260_101  # signatures of different runs can be compared: this must never change
_MISSED = 1e-3


class Matches(NamedTuple):
    """Pairs of rows, in the order of left, then right.

    Attributes:
        left: positions on the left, `(n_pairs,)`.
        right: positions on the right, `(n_pairs,)`.
        similarity: Jaccard index, within 0 and 1.
    """

    left: Positions
    right: Positions
    similarity: Similarities


def signatures(texts: pa.Array | pa.ChunkedArray, words: int = WORDS, permutations: int = PERMUTATIONS) -> Signatures:
    """MinHash signatures `(n_texts, permutations)`; 512 bytes a text by default.

    A text of fewer words than a shingle has one shingle: all of it. A text without words (or null) has none; its
    signature is the same as that of other such texts and of nothing else.

    Args:
        texts: strings.
        words: in a shingle.
        permutations: places in a signature.

    >>> signatures(pa.array(["owls hunt mice", "Owls  hunt mice", "bees dance"])).shape
    (3, 128)
    """
    multiply, add = _permutations(permutations)
    gaps = shingles.gaps()
    made = np.full((len(texts), permutations), np.iinfo(np.uint32).max, np.uint32)
    starts = range(0, len(texts), _ROWS)

    def sign(start: int) -> None:
        data, offsets = shingles.folded(texts[start : start + _ROWS])
        shingles.sign(data, offsets, (words, gaps), multiply, add, made[start : start + _ROWS])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the kernel works outside the interpreter's lock
        list(pool.map(sign, starts))
    return made


def jaccard(left: Signatures, right: Signatures) -> Similarities:
    """Estimated similarity of paired rows, `(n,)`; standard error sqrt(J (1 - J) / permutations).

    >>> made = signatures(pa.array(["owls hunt mice at night", "Owls hunt mice  at night", "bees dance for flowers"]))
    >>> jaccard(made[[0, 0]], made[[1, 2]]).tolist()
    [1.0, 0.0]
    """
    agreeing = np.empty(len(left), np.float64)
    for start in range(0, len(left), _ROWS):  # the comparison's own array stays small
        rows = slice(start, start + _ROWS)
        agreeing[rows] = np.count_nonzero(left[rows] == right[rows], axis=1)
    agreeing /= left.shape[1]
    return agreeing


def exact_jaccard(
    left: pa.Array | pa.ChunkedArray, right: pa.Array | pa.ChunkedArray, words: int = WORDS
) -> Similarities:
    """Similarity of paired texts, `(n,)`, counted on the sets of their shingles' 64-bit hashes.

    >>> exact_jaccard(pa.array(["a b c d"]), pa.array(["a b c e"])).tolist()
    [0.3333333333333333]
    """
    found = np.empty(len(left), np.float64)
    for start in range(0, len(left), _ROWS):
        rows = slice(start, start + _ROWS)
        found[rows] = shingles.overlap(
            *shingles.folded(left[rows]), *shingles.folded(right[rows]), words, shingles.gaps()
        )
    return found


def matches(left: Signatures, right: Signatures, threshold: float) -> Matches:
    """All pairs between two collections whose estimated similarity reaches the threshold.

    A pair that does is missed with a probability below 0.001 (`Index`).
    """
    return Index(right, threshold).matches(left)


def near_duplicates(
    texts: pa.Array | pa.ChunkedArray, others: pa.Array | pa.ChunkedArray, threshold: float, words: int = WORDS
) -> Matches:
    """All pairs between two collections of texts whose exact similarity reaches the threshold.

    Candidates come from signatures with some room below the threshold (`room_below`), so nearly all are found; each is
    compared on the texts themselves, so none is reported wrongly.
    """
    found = matches(signatures(texts, words), signatures(others, words), room_below(threshold))
    return verified(found, texts, others, threshold, words=words)


def verified(
    found: Matches,
    texts: pa.Array | pa.ChunkedArray,
    others: pa.Array | pa.ChunkedArray,
    threshold: float,
    *,
    words: int = WORDS,
) -> Matches:
    """The pairs whose exact similarity reaches the threshold, with it; arguments as of `signatures`."""
    exact = np.empty(len(found.left), np.float64)
    for start in range(0, len(exact), _ROWS):
        rows = slice(start, start + _ROWS)
        left, right = texts.take(pa.array(found.left[rows])), others.take(pa.array(found.right[rows]))
        exact[rows] = exact_jaccard(left, right, words)
    kept = exact >= threshold
    return Matches(found.left[kept], found.right[kept], exact[kept])


def room_below(threshold: float, permutations: int = PERMUTATIONS) -> float:
    """A threshold for estimates under which hardly any pair at or above the exact one falls.

    >>> round(room_below(0.7), 2)
    0.58
    """
    return max(0.0, threshold - SPARE_ERRORS * float(np.sqrt(threshold * (1 - threshold) / permutations)))


class Index:
    """Signatures by bands, to look others up in (locality-sensitive hashing).

    A signature is cut into bands of equal height; two signatures are compared where one band is equal, which happens
    with probability 1 - (1 - J^height)^bands. The height is the greatest that misses fewer than 0.001 of the pairs
    that lie right at the threshold (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4).

    Args:
        made: signatures `(n, permutations)`.
        threshold: least estimated similarity of a pair.
    """

    def __init__(self, made: Signatures, threshold: float) -> None:
        self._made, self._threshold = made, threshold
        self._height = _height(threshold, made.shape[1])
        self._bands: list[tuple[npt.NDArray[np.uint64], Positions]] = []
        for keys in _band_keys(made, self._height):
            order = np.argsort(keys, kind="stable")
            self._bands.append((keys[order], order))

    def matches(self, left: Signatures) -> Matches:
        """Pairs of these signatures, `(n, permutations)`, with the index's, at or above its threshold."""
        width = len(self._made)
        found = np.empty(0, np.int64)
        for keys, (known, order) in zip(_band_keys(left, self._height), self._bands, strict=True):
            first, last = np.searchsorted(known, keys, "left"), np.searchsorted(known, keys, "right")
            counts = last - first
            rows = np.repeat(np.arange(len(left)), counts)
            within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
            pairs = rows * width + order[first[rows] + within]
            found = np.union1d(found, pairs)
        lefts, rights = np.divmod(found, max(1, width))
        similarity = np.empty(len(found), np.float64)
        for start in range(0, len(found), _ROWS):
            part = slice(start, start + _ROWS)
            similarity[part] = jaccard(left[lefts[part]], self._made[rights[part]])
        kept = similarity >= self._threshold
        return Matches(lefts[kept], rights[kept], similarity[kept])


def _height(threshold: float, permutations: int) -> int:
    """Places in a band.

    >>> [_height(threshold, 128) for threshold in (0.3, 0.5, 0.7, 0.9)]
    [1, 2, 4, 8]
    """
    heights = range(2, permutations + 1)
    return max((h for h in heights if (1 - threshold**h) ** (permutations // h) < _MISSED), default=1)


def _band_keys(made: Signatures, height: int) -> Iterator[npt.NDArray[np.uint64]]:
    """A 64-bit key of each row, `(n,)`, band by band; places that fill no band are left out."""
    for start in range(0, made.shape[1] - height + 1, height):
        keys = np.zeros(len(made), np.uint64)
        for place in range(start, start + height):
            keys = (keys ^ made[:, place]) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(32)
        yield keys


def _permutations(count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Odd factors and summands, `(count,)` uint32: x -> x * factor + summand permutes all 32-bit numbers."""
    random = np.random.default_rng(_SEED)
    drawn = random.integers(0, 2**32, (count, 2), np.uint32)  # a longer signature begins with the shorter one
    return drawn[:, 0] | np.uint32(1), np.ascontiguousarray(drawn[:, 1])
