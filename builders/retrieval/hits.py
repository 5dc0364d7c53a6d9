"""What a search returns: each query's best passages, in flat arrays, and as tables."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders import schema
from builders.passages import Passages, Positions, take

Floats = npt.NDArray[np.floating[Any]]


class Hits(NamedTuple):
    """The passages found for queries, best first within each query.

    Attributes:
        offsets: `(n_queries + 1,)`; query i's hits are `offsets[i]` to `offsets[i + 1]` of the other two.
        positions: `(n_hits,)`, of passages in the corpus.
        scores: `(n_hits,)`; higher is nearer.
        given: `(n_queries,)`, the score of the passage that each query asked about; empty if they asked about none.
    """

    offsets: npt.NDArray[np.int64]
    positions: Positions
    scores: Floats
    given: Floats = np.empty(0, np.float32)

    @property
    def query_numbers(self) -> npt.NDArray[np.int64]:
        """The query that each hit belongs to, `(n_hits,)`."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def tables(self, queries: pa.Table, corpus: Passages, positives: Positions) -> tuple[pa.Table, pa.Table]:
        """Returns the hits as `schema.CANDIDATES`, and as `schema.SCORES` the positives that are not among them.

        Args:
            queries: `_id`, one row for each query.
            corpus: what was searched.
            positives: `(n_queries,)`, the passages that `given` is about; -1 for one outside the corpus.
        """
        asked = self.query_numbers
        ranks = (np.arange(len(asked)) - self.offsets[asked] + 1).astype(np.int32)
        hits = scores_table(queries, corpus, (asked, self.positions), self.scores)
        found = asked[self.positions == positives[asked]]
        absent = np.setdiff1d(np.flatnonzero(positives >= 0), found)
        missing = scores_table(queries, corpus, (absent, positives[absent]), self.given[absent])
        return hits.add_column(2, "rank", pa.array(ranks)).cast(schema.CANDIDATES), missing


def scores_table(queries: pa.Table, corpus: Passages, pairs: tuple[Positions, Positions], scores: Floats) -> pa.Table:
    """Returns the scores of pairs, given by the query's number and the passage's position, as `schema.SCORES`."""
    ids = {"query-id": take(queries["_id"], pairs[0]), "corpus-id": corpus.ids_at(pairs[1])}
    return pa.table({**ids, "score": scores.astype(np.float64)}, schema.SCORES)


def merged(parts: Iterable[tuple[Positions, Positions, Floats]], ties: Positions, k: int, queries: int) -> Hits:
    """Returns the best `k` hits of each query over parts of a corpus, ties broken by id.

    Args:
        parts: query numbers, positions in the whole corpus and scores, `(n_hits,)` each.
        ties: the passages' places in the order of ids, see `nearest.id_order`.
        k: hits a query has at most.
        queries: how many there are.
    """
    best = Hits(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    for part in parts:
        asked, positions, scores = (np.concatenate(pair) for pair in zip(_columns(best), part, strict=True))
        order = np.lexsort((ties[positions], -scores, asked))
        ranks = np.arange(len(order)) - np.searchsorted(asked[order], asked[order])
        kept = order[ranks < k]
        offsets = np.searchsorted(asked[kept], np.arange(queries + 1)).astype(np.int64)
        best = Hits(offsets, positions[kept], scores[kept])
    return best


def _columns(hits: Hits) -> tuple[npt.NDArray[Any], ...]:
    return hits.query_numbers, hits.positions, hits.scores
