"""Searches an index by the rules that bm25s leaves open: ties by id, no hits without a shared word, `k` clamped."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders.passages import Passages, Positions
from builders.retrieval.bm25.index import Figures, Stored, stored_index, threads
from builders.retrieval.bm25.kernels import LAST, Asked, Found, best
from builders.retrieval.bm25.tokens import Language, query_words
from builders.retrieval.hits import Hits

BATCH = 10_000
"""Queries searched at once: what they hold besides their hits stays this small however many there are."""
_CELLS = 1 << 24  # places for hits at once
_SHARE = 64  # queries that a thread takes at a time


class Bm25Index:
    """A corpus that is searched by BM25 in Lucene's form (Kamphuis et al. 2020).

    Args:
        passages: what is searched.
        language: code of ISO 639 that chooses stemmer and stop words.
        folder: where indexes are kept; this corpus's is made if it is missing.
        figures: see `stored_index`.
        key: see `stored_index`.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(
        self, passages: Passages, language: str, folder: Path, figures: Figures | None = None, key: str | None = None
    ) -> None:
        self._passages = passages
        self._stored: Stored = stored_index(passages, language, folder, figures, key)
        self._language = Language(language)
        self._ranks = np.empty(len(passages), np.int32)
        self._ranks[self._stored.order] = np.arange(len(passages), dtype=np.int32)

    def __len__(self) -> int:
        return len(self._passages)

    def search_arrow(self, texts: pa.Array | pa.ChunkedArray, k: int, at: Positions | None = None) -> Hits:
        """Returns the best `k` passages of each query, or those that share a word with it; ties are broken by id.

        Args:
            texts: the queries.
            k: how many passages a query gets at most.
            at: one passage per query (-1 for none) whose score is wanted wherever it ranks.
        """
        texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        wanted = np.full(len(texts), -1, np.int64) if at is None else np.asarray(at, np.int64)
        width = max(min(k, len(self._passages)), 1)
        step = max(min(BATCH, _CELLS // width), 1)
        sums = [np.zeros(len(self._passages), np.int32) for _ in range(threads())]
        with ThreadPoolExecutor(threads()) as pool:
            parts = [
                self._batch(texts.slice(start, step), wanted[start : start + step], width, sums, pool)
                for start in range(0, len(texts), step)
            ]
        counts, keys, given = (np.concatenate(column) for column in zip(_NONE, *parts, strict=True))
        scores = (keys >> 32).astype(np.int32).view(np.float32)
        positions = self._stored.order[LAST - (keys & 0xFFFFFFFF)].astype(np.int64)
        return Hits(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), positions, scores, given)

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        """Returns `(id, score)` of each query's hits; see `search_arrow`, for a few queries."""
        hits = self.search_arrow(pa.array(queries, pa.string()), k)
        found = list(zip(self._passages.ids_at(hits.positions).to_pylist(), hits.scores.tolist(), strict=True))
        edges = hits.offsets.tolist()
        return [found[start:end] for start, end in pairwise(edges)]

    def _batch(
        self, texts: pa.Array, at: Positions, width: int, sums: list[npt.NDArray[np.int32]], pool: ThreadPoolExecutor
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Returns hits per query, their keys, and the scores of the passages at `at`."""
        words = query_words(texts, self._language, self._stored.words)
        asked = Asked(words.ids, np.concatenate([[0], np.cumsum(words.lengths)]).astype(np.int64), at)
        found = Found(
            np.empty((len(texts), width), np.int64),
            np.zeros(len(texts), np.int64),
            np.full(len(texts), np.nan, np.float32),
        )

        def work(thread: int) -> None:
            for start in range(thread * _SHARE, len(texts), len(sums) * _SHARE):
                rows = (start, min(start + _SHARE, len(texts)))
                best(asked, rows, self._stored.postings, self._ranks, sums[thread], found)

        list(pool.map(work, range(len(sums))))
        kept = found.keys[np.arange(width) < found.counts[:, None]]
        return found.counts, kept, found.given


_NONE = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
