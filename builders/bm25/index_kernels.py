"""Compiled loops that count words and write the scores of an index."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from builders.bm25.compiled import compiled

Ids = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


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
