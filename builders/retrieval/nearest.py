"""The `k` nearest passages of each query by cosine: exact, by blocks, whatever the size of the corpus.

A block of queries meets the corpus a block of passages at a time, in single precision. That only says which passages
may be among the best; those few are scored again, pair by pair, in double precision (`cosines`), and kept while
they are among the best `k`. So neither the sizes of blocks nor the number of threads can change a score or an order.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from tqdm import tqdm

from builders.passages import Passages, Positions
from builders.retrieval.hits import Hits

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

DIGITS = 6
"""Digits of a similarity that count: what lies beyond is noise of a sum, and must not order passages."""
_AT_ONCE = 8192
_UNIT = 2.0**-24  # rounding of single precision
_CROWD = 8  # times k: more passages of a block than that which may be among the best are thinned first
_PAIRS = 1_000_000


class Vectors(NamedTuple):
    """The embeddings of texts, of length 1.

    Attributes:
        rows: `(n_stored, dim)`, usually mapped from disk, with rows of other texts among them.
        places: `(n_texts,)`: the row of each text.
    """

    rows: Floats
    places: Positions

    def take(self, numbers: Positions) -> Floats:
        """Returns the vectors of texts by their numbers, `(len(numbers), dim)`."""
        return np.asarray(self.rows[self.places[numbers]])


def cosines(queries: Vectors, passages: Vectors, query_numbers: Positions, passage_numbers: Positions) -> Doubles:
    """Returns the cosine similarity of pairs, `(n_pairs,)`, within -1 and 1, rounded to 6 digits.

    Summed in double precision pair by pair, so that a pair's score is the same in whatever company it is computed: the
    sum's own noise (1e-16) is ten orders below the last digit.

    >>> vectors = Vectors(np.array([[1, 0], [0.6, 0.8]], np.float32), np.array([0, 1]))
    >>> cosines(vectors, vectors, np.array([0, 1]), np.array([1, 1])).tolist()
    [0.6, 1.0]
    """
    scores = np.empty(len(query_numbers), np.float64)
    for start in range(0, len(scores), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        left = queries.take(query_numbers[part]).astype(np.float64)
        scores[part] = np.einsum("ij,ij->i", left, passages.take(passage_numbers[part]).astype(np.float64))
    return np.round(scores, DIGITS)


def id_order(passages: Passages) -> Positions:
    """Returns each passage's place in the order of ids, `(n_passages,)`: it breaks ties."""
    order = np.empty(len(passages), np.int64)
    order[pc.sort_indices(passages.ids).to_numpy()] = np.arange(len(passages))
    return order


def nearest(
    queries: Vectors, passages: Vectors, ties: Positions, k: int, blocks: tuple[int, int] = (2048, 8192)
) -> Hits:
    """Returns each query's `k` best passages, best first; ties (to 6 digits) are broken by id.

    Args:
        queries: of length 1.
        passages: of length 1, as many as `ties`.
        ties: the passages' places in the order of ids, see `id_order`.
        k: hits per query; fewer where there are fewer passages.
        blocks: how many queries and passages are compared at once. It changes no hit, and memory is some
            `5 * queries * passages` bytes beside their vectors.
    """
    k = min(k, len(passages.places))
    positions, scores = np.full((len(queries.places), k), -1, np.int64), np.full((len(queries.places), k), -np.inf)
    # In the order of rows on disk: the order of hits does not depend on it, the speed of reading does.
    walk = np.argsort(passages.places, kind="stable")
    with tqdm(total=len(queries.places), desc="searching", unit="query", disable=None) as bar:
        for start in range(0, len(queries.places), blocks[0]):
            numbers = np.arange(start, min(start + blocks[0], len(queries.places)))
            vectors = queries.take(numbers)
            for first in range(0, len(walk) if k else 0, blocks[1]):
                block = walk[first : first + blocks[1]]
                hopeful = _hopeful(vectors @ passages.take(block).T, scores[numbers], _margin(queries.rows.shape[1]))
                # Usually a few passages a query, in one go; thousands of equal ones, a part of the queries at a time.
                counts = np.cumsum(np.count_nonzero(hopeful, axis=1))
                for part in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(counts // _PAIRS)) + 1):
                    rows, columns = np.nonzero(hopeful[part])
                    pairs = numbers[part[rows]], block[columns]
                    _merge(positions, scores, ties, pairs, cosines(queries, passages, *pairs))
            bar.update(len(numbers))
    return Hits(np.arange(len(queries.places) + 1) * k, positions.ravel(), scores.ravel())


def _margin(dim: int) -> float:
    """By how much a similarity in single precision may be off, for two that are compared, and the digits that are cut.

    A sum of n products of unit vectors is off by at most n roundings, whatever its order (Higham, Accuracy and
    Stability of Numerical Algorithms, 3.1).
    """
    return float(2 * (dim + 2) * _UNIT + 2 * 10.0**-DIGITS)


def _hopeful(similar: Floats, best: Doubles, margin: float) -> npt.NDArray[np.bool_]:
    """Returns `(n_queries, n_passages)` which passages of a block may be among the best `k`.

    Args:
        similar: `(n_queries, n_passages)`, in single precision.
        best: `(n_queries, k)`, the best scores so far.
        margin: see `_margin`.
    """
    k = best.shape[1]
    hopeful: npt.NDArray[np.bool_] = similar >= (best[:, -1:] - margin).astype(np.float32)
    crowded = np.flatnonzero(np.count_nonzero(hopeful, axis=1) > _CROWD * k)
    if len(crowded) and similar.shape[1] > k:
        kth = np.partition(similar[crowded], -k, axis=1)[:, -k]  # of the block itself
        hopeful[crowded] &= similar[crowded] >= (kth - np.float32(margin))[:, None]
    return hopeful


def _merge(
    positions: Positions, scores: Doubles, ties: Positions, pairs: tuple[Positions, Positions], found: Doubles
) -> None:
    """Puts the best `k` of those so far, `(n_queries, k)`, and of new pairs, `(n_pairs,)`, in their place."""
    k = positions.shape[1]
    changed, rows = np.unique(pairs[0], return_inverse=True)
    all_rows = np.concatenate([np.repeat(np.arange(len(changed)), k), rows])
    all_positions = np.concatenate([positions[changed].ravel(), pairs[1]])
    all_scores = np.concatenate([scores[changed].ravel(), found])
    order = np.lexsort((ties[all_positions], -all_scores, all_rows))
    starts = np.searchsorted(all_rows[order], np.arange(len(changed)))
    taken = order[starts[:, None] + np.arange(k)]
    positions[changed], scores[changed] = all_positions[taken], all_scores[taken]
