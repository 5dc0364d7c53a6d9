"""The tests for leakage: training texts, batch by batch, against an index of all evaluation texts.

All tests work on words with case, spaces and punctuation folded, as GPT-3's check does (arXiv 2005.14165, appendix C).
The evaluation side is small and is kept as sorted hashes; of the training side one batch is in memory at a time.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders import texts as one_text
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import EvaluationSet

Positions = npt.NDArray[np.int64]
Similarities = npt.NDArray[np.float64]

TESTS = ("exact", "ngram", "embedding")
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
SHORT, SHORT_SHARE = 30, 0.7
"""Of an evaluation text with fewer words, this part of `ngram_share` is enough: one changed word breaks most runs."""
_COSINES = 4_000_000  # in memory at once


class Pairs(NamedTuple):
    """Rows of a batch and of the index that one test calls the same, `(n_pairs,)` each."""

    rows: Positions
    found: Positions
    similarity: Similarities


class Overlap:
    """An index of the texts of evaluation sets.

    Args:
        sets: the evaluation sets.
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
        together = pa.concat_tables(tables)
        self._ids, self._texts = (together[name].combine_chunks() for name in ("_id", "text"))
        self._sides, self._names = pa.array(sides, pa.string()), pa.array(names, pa.string())
        self._is_passage = np.array([side == "passage" for side in sides], np.bool_)
        words, offsets = one_text.word_hashes(self._texts)
        counts = np.diff(offsets)
        worded = np.flatnonzero(counts).astype(np.int64)
        self._whole = _Index(one_text.whole(words, offsets)[worded], worded)
        made, starts = one_text.runs(words, offsets, config.ngram)
        owners = np.repeat(np.arange(len(counts)), np.diff(starts)).astype(np.uint64)
        distinct = np.unique(np.stack([owners, made], axis=1), axis=0)
        self._sizes = np.bincount(distinct[:, 0].astype(np.int64), minlength=len(counts))
        self._runs = _Index(np.ascontiguousarray(distinct[:, 1]), distinct[:, 0].astype(np.int64))
        self._shares = np.where(counts < SHORT, SHORT_SHARE, 1.0) * config.ngram_share

    def hits(self, what: str, ids: pa.Array, texts: pa.Array) -> pa.Table:
        """`HITS` of a batch of training texts.

        Args:
            what: `query`, or a kind of passage.
            ids: of the texts.
            texts: queries, or passages as models read them.
        """
        words, offsets = one_text.word_hashes(texts)
        rows, found = self._whole.find(one_text.whole(words, offsets))
        runs = one_text.runs(words, offsets, self._config.ngram)
        tests = {
            "exact": Pairs(rows, found, np.ones(len(rows))),
            "ngram": self._sharing(*runs, None if what == "query" else self._is_passage),
        }
        if self._config.model is not None and what == "query":
            tests["embedding"] = self._embedded(texts)
        return pa.concat_tables([self._table(what, ids, test, pairs) for test, pairs in tests.items()])

    def _sharing(self, runs: one_text.Hashes, offsets: one_text.Offsets, within: npt.NDArray[np.bool_] | None) -> Pairs:
        """Pairs in which the training text has enough of the evaluation text's distinct runs.

        Args:
            runs: of the training texts.
            offsets: where each text's runs begin.
            within: evaluation texts for which the share of the training text's own runs counts as well, if higher.
        """
        places, found = self._runs.find(runs)
        rows = np.searchsorted(offsets, places, "right") - 1
        order = np.lexsort((runs[places], found, rows))
        rows, found, shared = rows[order], found[order], runs[places][order]
        starts = np.flatnonzero(_changes(rows, found))
        repeated = np.diff(starts, append=len(rows))
        distinct = np.add.reduceat(_changes(rows, found, shared), starts, dtype=np.int64) if len(starts) else repeated
        rows, found = rows[starts], found[starts]
        share = distinct / self._sizes[found]
        if within is not None:
            share = np.where(within[found], np.maximum(share, repeated / np.diff(offsets)[rows]), share)
        kept = share >= self._shares[found]
        return Pairs(rows[kept], found[kept], share[kept])

    def _embedded(self, texts: pa.Array) -> Pairs:
        vectors, pairs = self._encoded(texts), []
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
        vectors = self._model.encode(
            texts.to_pylist(), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32).reshape(len(texts), -1)

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
        """The nearest text of each set and side for each row; ties broken by id."""
        found = pa.array(pairs.found)
        evaluation = [column.take(found) for column in (self._names, self._sides, self._ids)]
        named = [pa.array([value] * len(found), pa.string()) for value in (what, test)]
        columns = [named[0], ids.take(pa.array(pairs.rows)), *evaluation, named[1], pa.array(pairs.similarity)]
        keys = ["id", "evaluation-set", "evaluation-text"]
        order = [(key, "ascending") for key in keys]
        table = pa.table(columns, HITS).sort_by([*order, ("similarity", "descending"), ("evaluation-id", "ascending")])
        places = table.select(keys).append_column("place", pa.array(np.arange(len(found))))
        first = places.group_by(keys, use_threads=False).aggregate([("place", "first")])
        return table.take(first["place_first"])


class _Index:
    """Hashes in order, each with the evaluation texts that it belongs to."""

    def __init__(self, hashes: one_text.Hashes, owners: Positions) -> None:
        order = np.argsort(hashes, kind="stable")
        self._owners = owners[order]
        known, starts = np.unique(hashes[order], return_index=True)
        self._known, self._starts = pa.array(known), np.append(starts, len(hashes))

    def find(self, hashes: one_text.Hashes) -> tuple[Positions, Positions]:
        """Positions of the hashes that are here, and the owners of each; a hash may have several."""
        at = pc.fill_null(pc.index_in(pa.array(hashes), value_set=self._known), -1).to_numpy()
        places = np.flatnonzero(at >= 0)
        first, counts = self._starts[at[places]], np.diff(self._starts)[at[places]]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(places, counts), self._owners[np.repeat(first, counts) + within]


def _changes(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Where a row differs from the one before; the first row does.

    >>> _changes(np.array([1, 1, 2]), np.array([5, 5, 5])).tolist()
    [True, False, True]
    """
    differs = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.concatenate([np.ones(min(len(columns[0]), 1), np.bool_), differs])
