"""What can be counted of generated texts and queries: their length, their repetition, the words of their passage."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from builders.hashing import hashed
from builders.texts import shingles
from foils.languages import length
from foils.texts import normalised

NEAR = 0.6
"""Similarity (`builders.texts`) from which two texts are near duplicates, as in `negatives.written_checks`."""


def lengths(texts: Sequence[str]) -> dict[str, int]:
    """Quartiles of the lengths in words, or in characters where no spaces stand between these.

    >>> lengths(["a b", "a b c", "a b c d"])
    {'q1': 2, 'median': 3, 'q3': 4}
    """
    words = [length(text) for text in texts]
    quartiles = np.percentile(words, [25, 50, 75], method="nearest")
    return dict(zip(("q1", "median", "q3"), map(int, quartiles), strict=True))


def length_gap(texts: Sequence[str], others: Sequence[str]) -> float:
    """The Kolmogorov-Smirnov statistic of two distributions of lengths in words, from 0 (the same) to 1 (apart).

    >>> length_gap(["a"] * 4, ["a b"] * 4)
    1.0
    """
    from scipy.stats import ks_2samp

    words, other_words = ([length(text) for text in side] for side in (texts, others))
    return round(float(ks_2samp(words, other_words, method="asymp").statistic), 4)


def exact_duplicates(texts: pa.ChunkedArray) -> float:
    """The share of texts that equal an earlier one, after folding of case and white space."""
    hashes = hashed(normalised(text.as_py()) for text in texts)
    return round((len(hashes) - len(np.unique(hashes))) / max(len(hashes), 1), 4)


def near_duplicates(texts: Sequence[str]) -> float:
    """The share of texts that are near duplicates of an earlier one; for a few thousand texts at most.

    >>> near_duplicates(["owls hunt mice at night", "Owls hunt mice at night!", "bees dance in the dark hive"])
    0.3333
    """
    from sklearn.feature_extraction.text import CountVectorizer

    sets = [shingles(text) for text in texts]
    if not any(sets):
        return 0.0
    has = CountVectorizer(analyzer=lambda each: each, binary=True).fit_transform(sets).astype(np.int32)
    sizes = np.asarray(has.sum(axis=1)).ravel()
    shared = (has @ has.T).tocoo()
    earlier = shared.col < shared.row
    row, col, both = shared.row[earlier], shared.col[earlier], shared.data[earlier]
    near = row[both >= NEAR * (sizes[row] + sizes[col] - both)]
    return round(len(np.unique(near)) / len(texts), 4)
