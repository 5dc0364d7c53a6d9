"""The tests for leakage: training texts, batch by batch, against an index of all evaluation texts.

Both tests work on words with case, spaces and punctuation folded, as GPT-3's check does (arXiv 2005.14165, appendix C).
The evaluation side is small and is kept as sorted hashes; of the training side one batch is in memory at a time.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders import texts as one_text
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import EvaluationSet

Positions = npt.NDArray[np.int64]

HITS = pa.schema(
    [
        ("what", pa.string()),  # `query`, `positive`, `corpus`, `generated`, `negative-KIND`
        ("id", pa.string()),
        ("evaluation-set", pa.string()),
        ("evaluation-text", pa.string()),  # `query` or `passage`
        ("evaluation-id", pa.string()),
        ("test", pa.string()),  # `exact` or `ngram`
        ("similarity", pa.float64()),
    ]
)
"""Configuration `leakage`: each leaked text with the nearest one of each evaluation set, by each test that found it."""
_INDEXED = pa.schema([*(HITS.field(f"evaluation-{name}") for name in ("set", "text", "id")), ("text", pa.string())])
SHORT, SHORT_SHARE = 30, 0.7
"""Of an evaluation text with fewer words, this part of `ngram_share` is enough: one changed word breaks most runs."""


class Pairs(NamedTuple):
    """Rows of a batch and of the index that one test calls the same, `(n_pairs,)` each."""

    rows: Positions
    found: Positions
    similarity: npt.NDArray[np.float64]


class Overlap:
    """An index of the texts of evaluation sets.

    Args:
        sets: the evaluation sets.
        config: length of runs, and threshold.
    """

    def __init__(self, sets: Iterable[EvaluationSet], config: LeakageConfig) -> None:
        self._ngram = config.ngram
        parts = [
            pa.table([[each.name] * table.num_rows, [side] * table.num_rows, *table.columns], schema=_INDEXED)
            for each in sets
            for side, table in (("query", each.queries), ("passage", each.passages))
        ]
        self._indexed = pa.concat_tables([_INDEXED.empty_table(), *parts])
        self._is_passage = pc.equal(self._indexed["evaluation-text"], "passage").to_numpy()
        words, offsets = one_text.word_hashes(self._indexed["text"])
        self._indexed = self._indexed.drop_columns("text").combine_chunks()  # which pairs would copy
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
        """`HITS` of a batch of training texts; those of the test `exact` come first.

        Args:
            what: `query`, or a kind of passage.
            ids: of the texts.
            texts: queries, or passages as models read them.
        """
        words, offsets = one_text.word_hashes(texts)
        rows, found = self._whole.find(one_text.whole(words, offsets))
        equal = Pairs(rows, found, np.ones(len(rows)))
        runs, starts = one_text.runs(words, offsets, self._ngram)
        sharing = self._sharing(runs, starts, between_passages=what != "query")
        return pa.concat_tables([self._table(what, ids, "exact", equal), self._table(what, ids, "ngram", sharing)])

    def _sharing(self, runs: one_text.Hashes, offsets: one_text.Offsets, *, between_passages: bool) -> Pairs:
        """Pairs in which the training text has enough of the evaluation text's distinct runs.

        Args:
            runs: of the training texts.
            offsets: where each text's runs begin.
            between_passages: whether the share of the training text's own runs that lie in an evaluation passage
                counts as well, if it is higher.
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
        if between_passages:
            own = repeated / np.diff(offsets)[rows]
            share = np.where(self._is_passage[found], np.maximum(share, own), share)
        kept = share >= self._shares[found]
        return Pairs(rows[kept], found[kept], share[kept])

    def _table(self, what: str, ids: pa.Array, test: str, pairs: Pairs) -> pa.Table:
        """The nearest text of each set and side for each row; ties broken by id."""
        near = self._indexed.take(pa.array(pairs.found))
        whats, tests = ([word] * near.num_rows for word in (what, test))
        columns = [whats, ids.take(pa.array(pairs.rows)), *near.columns[:3], tests, pairs.similarity]
        keys = ["id", "evaluation-set", "evaluation-text"]
        order = [(key, "ascending") for key in keys]
        order += [("similarity", "descending"), ("evaluation-id", "ascending")]
        return first_of_each(pa.table(columns, HITS).sort_by(order), keys)


def first_of_each(hits: pa.Table, keys: list[str]) -> pa.Table:
    """The first of all rows with the same values in some columns, in the rows' order."""
    places = hits.select(keys).append_column("place", pa.array(np.arange(hits.num_rows)))
    first = places.group_by(keys, use_threads=False).aggregate([("place", "first")])
    return hits.take(first["place_first"])


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
