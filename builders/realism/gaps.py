"""How generated texts differ from passages in what can be counted: length, words, repetition."""

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from builders.hashing import FirstSeen, hashed
from builders.realism.separability import tokens_of
from builders.texts import shingles
from foils.texts import normalised

NEAR = 0.6
"""Similarity (`builders.texts`) from which two texts are near duplicates, as in `negatives.written_checks`."""
_BATCH = 1000
_RUN = 10_000  # words over which types are counted


def lengths(texts: Sequence[str]) -> dict[str, int]:
    """Quartiles of the number of words.

    >>> lengths(["a b", "a b c", "a b c d"])
    {'q1': 2, 'median': 3, 'q3': 4}
    """
    words = [len(text.split()) for text in texts]
    quartiles = np.percentile(words, [25, 50, 75], method="nearest")
    return dict(zip(("q1", "median", "q3"), map(int, quartiles), strict=True))


def length_gap(texts: Sequence[str], others: Sequence[str]) -> float:
    """The Kolmogorov-Smirnov statistic of two distributions of lengths in words, from 0 (the same) to 1 (apart).

    >>> length_gap(["a"] * 4, ["a b"] * 4)
    1.0
    """
    from scipy.stats import ks_2samp

    words, other_words = ([len(text.split()) for text in side] for side in (texts, others))
    return round(float(ks_2samp(words, other_words, method="asymp").statistic), 4)


def unknown_words(texts: Sequence[str], vocabulary: Collection[str]) -> float:
    """The share of all words in texts that a vocabulary lacks.

    >>> unknown_words(["owls hunt", "owls sleep"], {"owls", "hunt"})
    0.25
    """
    unknown = total = 0
    for text in texts:
        words = tokens_of(text)
        total += len(words)
        unknown += sum(word not in vocabulary for word in words)
    return round(unknown / max(total, 1), 4)


def type_token_ratios(texts: Sequence[str], others: Sequence[str]) -> tuple[float, float]:
    """Different words per word on each side, over equally many words, for the ratio falls with their number.

    >>> type_token_ratios(["a a", "a a"], ["a b c", "d"])
    (0.25, 1.0)
    """
    sides = [_first_words(side) for side in (texts, others)]
    run = max(1, min(map(len, sides)))
    first, second = (round(len(set(words[:run])) / run, 4) for words in sides)
    return first, second


def exact_duplicates(texts: pa.ChunkedArray) -> float:
    """The share of texts that say what an earlier one says, after folding of case and white space."""
    seen, repeated = FirstSeen(), 0
    for start in range(0, len(texts), _BATCH):
        again, _ = seen.repeats(hashed(map(normalised, texts.slice(start, _BATCH).to_pylist())))
        repeated += len(again)
    return round(repeated / max(len(texts), 1), 4)


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


def _first_words(texts: Sequence[str]) -> list[str]:
    words: list[str] = []
    for text in texts:
        words += tokens_of(text)
        if len(words) >= _RUN:
            break
    return words[:_RUN]
