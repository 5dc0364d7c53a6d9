"""Embeddings of texts as they lie on disk, and the cosine of pairs of them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from builders.passages import Positions

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

DIGITS = 6
"""Digits of a similarity that count: what lies beyond is noise of a sum, and must not order passages."""
_PAIRS = 8192


class Vectors(NamedTuple):
    """Embeddings of length 1, one per text.

    Attributes:
        rows: `(n_stored, dim)`, usually mapped from disk, with rows of other texts among them.
        places: `(n_texts,)`: the row of each text.
    """

    rows: Floats
    places: Positions

    def take(self, numbers: Positions) -> Floats:
        """The vectors of texts by their numbers, `(len(numbers), dim)`."""
        return np.asarray(self.rows[self.places[numbers]])

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.rows.shape[1])


def cosines(queries: Vectors, passages: Vectors, query_numbers: Positions, passage_numbers: Positions) -> Doubles:
    """Cosine similarity of pairs, `(n_pairs,)`, within -1 and 1, rounded to 6 digits.

    Summed in double precision pair by pair, so that a pair's score is the same in whatever company it is computed: the
    sum's own noise (1e-16) is ten orders below the last digit.

    >>> vectors = Vectors(np.array([[1, 0], [0.6, 0.8]], np.float32), np.array([0, 1]))
    >>> cosines(vectors, vectors, np.array([0, 1]), np.array([1, 1])).tolist()
    [0.6, 1.0]
    """
    scores = np.empty(len(query_numbers), np.float64)
    for start in range(0, len(scores), _PAIRS):
        part = slice(start, start + _PAIRS)
        left = queries.take(query_numbers[part]).astype(np.float64)
        scores[part] = np.einsum("ij,ij->i", left, passages.take(passage_numbers[part]).astype(np.float64))
    return np.round(scores, DIGITS)
