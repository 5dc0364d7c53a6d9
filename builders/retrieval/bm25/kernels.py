"""The compiled loops of BM25: they count words, write the scores of an index, and score queries."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Kernel = TypeVar("Kernel", bound=Callable[..., object])

LAST = 0x7FFFFFFF
_BLOCK = 256
_SPARSE = 3  # a look at all passages costs as much as one at a third as many entries


def compiled(function: Kernel) -> Kernel:
    """A function over arrays as machine code, kept on disk after its first use.

    It lets go of Python's lock, so that threads run it side by side: numba's own `parallel=True` takes many times
    longer to compile, and its default threads may not be used by two callers at once.
    """
    return cast("Kernel", numba.njit(cache=True, nogil=True)(function))


class Postings(NamedTuple):
    """What each word adds to the scores of the passages that hold it.

    Attributes:
        data: scores.
        indices: positions of passages, in order within a word.
        indptr: word `n` has the entries from `indptr[n]` up to `indptr[n + 1]`.
    """

    data: Floats
    indices: Ids
    indptr: Longs


class Weights(NamedTuple):
    """What a score is made of besides counts: `idf` by word, and BM25's two settings and the mean length."""

    idf: Floats
    k1: float
    b: float
    mean: float


class Asked(NamedTuple):
    """The queries: query `n` has the words from `starts[n]` up to `starts[n + 1]`; its passage `at[n]`, -1 for none."""

    ids: Ids
    starts: Longs
    at: Longs


class Found(NamedTuple):
    """The best passages, `keys[n, :counts[n]]`, best first, and the score of the passage that was asked about."""

    keys: npt.NDArray[np.int64]
    counts: Longs
    given: Floats


@compiled
def translated(ids: Ids, lengths: Ids, meaning: Ids) -> Ids:
    """Replaces ids by their meaning and leaves out those whose meaning is -1; changes `lengths` to fit."""
    result = np.empty(len(ids), np.int32)
    total, at = 0, 0
    for row in range(len(lengths)):
        start = total
        for _ in range(lengths[row]):
            new = meaning[ids[at]]
            at += 1
            if new >= 0:
                result[total] = new
                total += 1
        lengths[row] = total - start
    return result[:total].copy()


@compiled
def count(ids: Ids, lengths: Ids, last: Ids, found: Longs) -> None:
    """Adds to `found` how many texts hold each word.

    Args:
        ids: words of all texts in order.
        lengths: words of each text.
        last: by word; -1 throughout.
        found: by word.
    """
    at = 0
    for row in range(len(lengths)):
        for _ in range(lengths[row]):
            word = ids[at]
            at += 1
            if last[word] != row:
                last[word] = row
                found[word] += 1


@compiled
def fill(words: tuple[Ids, Ids], first: int, heads: Longs, weights: Weights, postings: Postings) -> None:
    """Writes the scores of texts: idf * tf / (tf + k1 * (1 - b + b * length / mean)), BM25 in Lucene's form.

    Every step is in the order and precision of bm25s's own, so that scores are the same to the last bit.

    Args:
        words: ids of the words of all texts in order; words of each text.
        first: position of the first text in the corpus.
        heads: by word, where its next entry goes; moved on.
        weights: by word and for all.
        postings: written to.
    """
    ids, lengths = words
    times = np.zeros(len(heads), np.int32)
    distinct = np.empty(16, np.int32)
    at = 0
    for row in range(len(lengths)):
        length = np.int64(lengths[row])
        if length > len(distinct):
            distinct = np.empty(2 * length, np.int32)
        total = 0
        for _ in range(length):
            word = ids[at]
            at += 1
            if times[word] == 0:
                distinct[total] = word
                total += 1
            times[word] += 1
        norm = weights.k1 * ((1 - weights.b) + weights.b * length / weights.mean)
        for n in range(total):
            word = distinct[n]
            often = np.float64(times[word])
            times[word] = 0
            place = heads[word]
            heads[word] = place + 1
            postings.data[place] = np.float64(weights.idf[word]) * (often / (norm + often))
            postings.indices[place] = first + row


@compiled
def _offer(heap: Longs, size: int, key: int) -> int:
    """Puts a key into a heap of the largest (smallest first), which holds `size`; returns how many it holds now."""
    if size < len(heap):
        place = size
        while place and heap[(place - 1) >> 1] > key:
            heap[place] = heap[(place - 1) >> 1]
            place = (place - 1) >> 1
        heap[place] = key
        return size + 1
    if key > heap[0]:
        _sink(heap, size, key)
    return size


@compiled
def _sink(heap: Longs, size: int, key: int) -> None:
    """Replaces a heap's smallest key."""
    place, child = 0, 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place] = heap[child]
        place, child = child, 2 * child + 1
    heap[place] = key


@compiled
def _best_of_all(sums: Ids, ranks: Ids, heap: Longs) -> int:
    """The best of all sums, which are set to zero on the way; returns how many there are."""
    size, floor = 0, np.int32(1)
    for start in range(0, len(sums), _BLOCK):
        block = sums[start : start + _BLOCK]
        highest = np.int32(0)
        for n in range(len(block)):
            highest = max(highest, block[n])
        if highest >= floor:
            for n in range(len(block)):
                if block[n] >= floor:
                    size = _offer(heap, size, np.int64(block[n]) << 32 | (LAST - ranks[start + n]))
                    if size == len(heap):
                        floor = np.int32(heap[0] >> 32)
        block[:] = 0
    return size


@compiled
def _best_of_some(words: Ids, postings: Postings, sums: Ids, ranks: Ids, heap: Longs) -> int:
    """The same, where the words' entries are few: only their passages are looked at."""
    size, floor = 0, np.int32(1)
    for word in words:
        for position in postings.indices.view(np.uint32)[postings.indptr[word] : postings.indptr[word + 1]]:
            score = sums[position]
            if score:  # else it was seen under an earlier word
                sums[position] = 0
                if score >= floor:
                    size = _offer(heap, size, np.int64(score) << 32 | (LAST - ranks[position]))
                    if size == len(heap):
                        floor = np.int32(heap[0] >> 32)
    return size


@compiled
def best(asked: Asked, rows: tuple[int, int], postings: Postings, ranks: Ids, sums: Ids, found: Found) -> None:
    """Scores queries against all passages and keeps the best.

    Scores are added in 32 bits in the order of the query's words, as bm25s does, and are never negative, so they
    compare like the integers of the same bits; a key is those bits and, for ties, how early the passage's id comes.

    Args:
        asked: the queries.
        rows: first query, and the one behind the last.
        postings: the index.
        ranks: by passage, its place in the order of ids.
        sums: a zero for each passage; zeros again afterwards.
        found: written to.
    """
    scores = sums.view(np.float32)
    positions = postings.indices.view(np.uint32)  # without a sign, no access asks whether to count from the end
    for row in range(rows[0], rows[1]):
        words = asked.ids[asked.starts[row] : asked.starts[row + 1]]
        entries = 0
        for word in words:
            start, end = postings.indptr[word], postings.indptr[word + 1]
            entries += end - start
            for position, score in zip(positions[start:end], postings.data[start:end]):  # noqa: B905
                scores[position] += score
        if asked.at[row] >= 0:
            found.given[row] = scores[asked.at[row]]
        heap = found.keys[row]
        if entries * _SPARSE > len(sums):
            size = _best_of_all(sums, ranks, heap)
        else:
            size = _best_of_some(words, postings, sums, ranks, heap)
        found.counts[row] = size
        for left in range(size - 1, 0, -1):  # the smallest goes to the end, again and again
            smallest = heap[0]
            _sink(heap, left, heap[left])
            heap[left] = smallest
