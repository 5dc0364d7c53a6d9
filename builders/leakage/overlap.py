"""The tests for leakage: training texts, batch by batch, against an index of all evaluation texts.

All tests work on words with case, spaces and punctuation folded, as GPT-3's check does (arXiv 2005.14165, appendix C).
The evaluation side is small and is kept as sorted hashes; of the training side one batch is in memory at a time.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders import near_duplicates, shingles
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import EvaluationSet

Positions = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

TESTS = ("exact", "ngram", "minhash", "embedding")
HITS = pa.schema(
    [
        ("what", pa.string()),  # `query`, `positive`, `corpus`, `generated`, `negative-KIND`
        ("id", pa.string()),
        ("evaluation-set", pa.string()),
        ("evaluation-text", pa.string()),  # `query` or `passage`
        ("evaluation-id", pa.string()),
        ("test", pa.string()),  # one of `TESTS`
        ("similarity", pa.float64()),
    ]
)
"""Configuration `leakage`: each leaked text with the nearest one of each evaluation set, by each test that found it."""


class Pairs(NamedTuple):
    """Rows of a batch and of the index that one test calls the same, `(n_pairs,)` each."""

    rows: Positions
    found: Positions
    similarity: Numbers


NO_PAIRS = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
_COSINES = 4_000_000  # in memory at once


class Overlap:
    """An index of the texts of evaluation sets.

    Args:
        sets: what is looked for.
        config: thresholds.
    """

    def __init__(self, sets: Iterable[EvaluationSet], config: LeakageConfig) -> None:
        self._config = config
        tables, sides, names = [], [], []
        for each in sets:
            for side, table in (("query", each.queries), ("passage", each.passages)):
                tables.append(table)
                sides += [side] * table.num_rows
                names += [each.name] * table.num_rows
        whole = pa.concat_tables(tables).combine_chunks()
        self._ids, self._texts = _whole(whole["_id"]), _whole(whole["text"])
        self._sides, self._names = pa.array(sides, pa.string()), pa.array(names, pa.string())
        self._is_passage = np.array([side == "passage" for side in sides], np.bool_)
        hashes, counts = shingles.whole(self._texts)
        self._exact = _Sorted(hashes[counts > 0], np.flatnonzero(counts > 0))
        self._runs = _Runs(self._texts, config.ngram)
        made = near_duplicates.signatures(self._texts)
        self._worded = np.flatnonzero(counts > 0)
        self._near = near_duplicates.Index(made[self._worded], near_duplicates.room_below(config.minhash))

    def hits(self, what: str, ids: pa.Array, texts: pa.Array) -> pa.Table:
        """`HITS` of a batch of training texts.

        Args:
            what: the texts are: `query`, or a kind of passage.
            ids: of the texts.
            texts: queries, or passages as models read them.
        """
        found = {"exact": self._equal(texts), "ngram": self._sharing(texts, what), "minhash": self._similar(texts)}
        if self._config.model is not None and (what == "query" or self._config.embed_passages):
            found["embedding"] = self._embedded(texts)
        return pa.concat_tables([self._table(what, ids, test, pairs) for test, pairs in found.items()])

    def _equal(self, texts: pa.Array) -> Pairs:
        hashes, counts = shingles.whole(texts)
        rows, found = self._exact.find(hashes)
        worded = counts[rows] > 0
        return Pairs(rows[worded], found[worded], np.ones(int(worded.sum())))

    def _sharing(self, texts: pa.Array, what: str) -> Pairs:
        return self._runs.find(texts, self._config.ngram_share, None if what == "query" else self._is_passage)

    def _similar(self, texts: pa.Array) -> Pairs:
        made = near_duplicates.signatures(texts)
        found = self._near.matches(made)
        found = found._replace(right=self._worded[found.right])
        return Pairs(*near_duplicates.verified(found, texts, self._texts, self._config.minhash))

    def _embedded(self, texts: pa.Array) -> Pairs:
        vectors, pairs = self._encoded(texts), [NO_PAIRS]
        step = max(1, _COSINES // max(1, len(self._vectors)))
        for start in range(0, len(vectors), step):
            cosine = vectors[start : start + step] @ self._vectors.T
            rows, found = np.nonzero(cosine >= self._config.cosine)
            pairs.append(Pairs(rows + start, found, cosine[rows, found].astype(np.float64)))
        return Pairs(*map(np.concatenate, zip(*pairs, strict=True)))

    @cached_property
    def _vectors(self) -> npt.NDArray[np.float32]:
        """Those of the evaluation texts, `(n_texts, dim)`."""
        return self._encoded(self._texts)

    def _encoded(self, texts: pa.Array) -> npt.NDArray[np.float32]:
        """Unit vectors of texts, `(n_texts, dim)`."""
        vectors: npt.NDArray[np.float32] = self._model.encode(
            texts.to_pylist(), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vectors.astype(np.float32).reshape(len(texts), -1)

    @cached_property
    def _model(self) -> Any:
        """The embedding model, loaded once.

        Raises:
            UserError: there is no such model.
        """
        from foils.loading import load_retriever
        from foils.models import resolve_model

        return load_retriever(resolve_model(self._config.model or "").location)

    def _table(self, what: str, ids: pa.Array, test: str, pairs: Pairs) -> pa.Table:
        """The nearest text of each set and side for each row; of equally near ones, that with the smallest id."""
        rows, found = pa.array(pairs.rows), pa.array(pairs.found)
        taken = [column.take(found) for column in (self._names, self._sides, self._ids)]
        texts = pa.array([what] * len(rows), pa.string()), ids.take(rows)
        tests = pa.array([test] * len(rows), pa.string())
        table = pa.table([*texts, *taken, tests, pa.array(pairs.similarity, pa.float64())], HITS)
        order = [("id", "ascending"), ("evaluation-set", "ascending"), ("evaluation-text", "ascending")]
        table = table.sort_by([*order, ("similarity", "descending"), ("evaluation-id", "ascending")])
        keys = [table[name].to_pylist() for name, _ in order]
        first = [i for i, key in enumerate(zip(*keys, strict=True)) if i == 0 or key != tuple(k[i - 1] for k in keys)]
        return table.take(pa.array(first, pa.int64()))


class _Sorted:
    """Hashes in order, each with what it belongs to."""

    def __init__(self, hashes: shingles.Hashes, owners: Positions) -> None:
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners = hashes[order], owners[order]
        # Most hashes that are looked up are not here: a table of bits says so in one step.
        bits = max(16, int(16 * max(1, len(hashes)) - 1).bit_length())
        self._mask = np.uint64(2**bits - 1)
        self._seen = np.zeros(2**bits, np.bool_)
        self._seen[hashes & self._mask] = True

    def find(self, hashes: shingles.Hashes) -> tuple[Positions, Positions]:
        """Positions of the hashes that are here, and the owners of each; a hash may have several."""
        maybe = np.flatnonzero(self._seen[hashes & self._mask])
        first = np.searchsorted(self._hashes, hashes[maybe], "left")
        counts = np.searchsorted(self._hashes, hashes[maybe], "right") - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(maybe, counts), self._owners[np.repeat(first, counts) + within]


class _Runs:
    """The runs of words of the evaluation texts."""

    def __init__(self, texts: pa.Array, words: int) -> None:
        self._words = words
        hashes, offsets = shingles.hashes(texts, words)
        owners = np.repeat(np.arange(len(texts)), np.diff(offsets))
        distinct = np.unique(np.stack([owners.astype(np.uint64), hashes], axis=1), axis=0)
        owners = distinct[:, 0].astype(np.int64)
        self._sizes = np.bincount(owners, minlength=len(texts))
        self._sorted = _Sorted(np.ascontiguousarray(distinct[:, 1]), owners)

    def find(self, texts: pa.Array, share: float, within: npt.NDArray[np.bool_] | None) -> Pairs:
        """Pairs in which the training text has this share of the evaluation text's distinct runs.

        Args:
            texts: of the training side.
            share: within 0 and 1.
            within: evaluation texts for which the share of the training text's own runs counts as well, if higher.
        """
        hashes, offsets = shingles.hashes(texts, self._words)
        places, found = self._sorted.find(hashes)
        rows = np.searchsorted(offsets, places, "right") - 1
        order = np.lexsort((hashes[places], found, rows))
        rows, found, runs = rows[order], found[order], hashes[places][order]
        pair_starts = _starts(rows, found)
        run_starts = _starts(rows, found, runs)
        in_row = np.diff(np.append(pair_starts, len(rows)))  # with repeats
        distinct = np.searchsorted(run_starts, np.append(pair_starts[1:], len(rows))) - np.searchsorted(
            run_starts, pair_starts
        )
        rows, found = rows[pair_starts], found[pair_starts]
        similarity = distinct / self._sizes[found]
        if within is not None:
            own = in_row / np.diff(offsets)[rows]
            similarity = np.where(within[found], np.maximum(similarity, own), similarity)
        kept = similarity >= share
        return Pairs(rows[kept], found[kept], similarity[kept])


def _starts(*columns: npt.NDArray[np.generic]) -> Positions:
    """Where a row differs from the one before.

    >>> _starts(np.array([1, 1, 2]), np.array([5, 5, 5])).tolist()
    [0, 2]
    """
    if not len(columns[0]):
        return np.empty(0, np.int64)
    changes = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def batches(ids: pa.Array, texts: pa.Array, rows: int = 10_000) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Ids and texts, `rows` at a time."""
    for start in range(0, len(ids), rows):
        yield ids[start : start + rows], texts[start : start + rows]
