"""The tests for leakage: training texts, batch by batch, against an index of all evaluation texts.

Both tests work on words with case, spaces and punctuation folded, as GPT-3's check does (arXiv 2005.14165, appendix C).
The evaluation side is small and is kept as hashes; of the training side one batch is in memory at a time.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import texts as one_text
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import EvaluationSet

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
        self._indexed = self._indexed.drop_columns("text").combine_chunks()  # which matches would copy
        counts = np.diff(offsets)
        whole = pa.table({"hash": one_text.whole(words, offsets), "found": np.arange(len(counts))})
        self._whole = whole.filter(pa.array(counts > 0))
        runs = _with_texts("found", *one_text.runs(words, offsets, config.ngram))
        self._runs = runs.group_by(["hash", "found"]).aggregate([])  # each once
        self._sizes = np.bincount(self._runs["found"].to_numpy(), minlength=len(counts))
        self._shares = np.where(counts < SHORT, SHORT_SHARE, 1.0) * config.ngram_share

    def hits(self, what: str, ids: pa.Array, texts: pa.Array) -> pa.Table:
        """`HITS` of a batch of training texts; those of the test `exact` come first.

        Args:
            what: `query`, or a kind of passage.
            ids: of the texts.
            texts: queries, or passages as models read them.
        """
        words, offsets = one_text.word_hashes(texts)
        whole = pa.table({"hash": one_text.whole(words, offsets), "row": np.arange(len(texts))})
        equal = whole.join(self._whole, "hash", join_type="inner")
        equal = equal.append_column("similarity", pa.array(np.ones(equal.num_rows)))
        runs, starts = one_text.runs(words, offsets, self._ngram)
        sharing = self._sharing(runs, starts, between_passages=what != "query")
        return pa.concat_tables([self._table(what, ids, "exact", equal), self._table(what, ids, "ngram", sharing)])

    def _sharing(self, runs: one_text.Hashes, offsets: one_text.Offsets, *, between_passages: bool) -> pa.Table:
        """Pairs (`row`, `found`, `similarity`) in which the training text has enough of the evaluation text's runs.

        Args:
            runs: of the training texts.
            offsets: where each text's runs begin.
            between_passages: whether the share of the training text's own runs that lie in an evaluation passage
                counts as well, if it is higher.
        """
        shared = _with_texts("row", runs, offsets).join(self._runs, "hash", join_type="inner")
        pairs = shared.group_by(["row", "found"]).aggregate([("hash", "count"), ("hash", "count_distinct")])
        row, found, repeated, distinct = (column.to_numpy() for column in pairs.columns)
        share = distinct / self._sizes[found]
        if between_passages:
            own = repeated / np.diff(offsets)[row]
            share = np.where(self._is_passage[found], np.maximum(share, own), share)
        kept = pa.array(share >= self._shares[found])
        return pairs.select(["row", "found"]).append_column("similarity", pa.array(share)).filter(kept)

    def _table(self, what: str, ids: pa.Array, test: str, pairs: pa.Table) -> pa.Table:
        """The nearest text of each set and side for each row; ties broken by id."""
        near = self._indexed.take(pairs["found"])
        whats, tests = ([word] * near.num_rows for word in (what, test))
        columns = [whats, ids.take(pairs["row"]), *near.columns[:3], tests, pairs["similarity"]]
        keys = ["id", "evaluation-set", "evaluation-text"]
        order = [(key, "ascending") for key in keys]
        order += [("similarity", "descending"), ("evaluation-id", "ascending")]
        return first_of_each(pa.table(columns, HITS).sort_by(order), keys)


def _with_texts(name: str, runs: one_text.Hashes, offsets: one_text.Offsets) -> pa.Table:
    """The `hash` of each run, and the number of the text that it is of, in a column of this name."""
    return pa.table({"hash": runs, name: np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))})


def first_of_each(hits: pa.Table, keys: list[str]) -> pa.Table:
    """The first of all rows with the same values in some columns, in the rows' order."""
    places = hits.select(keys).append_column("place", pa.array(np.arange(hits.num_rows)))
    first = places.group_by(keys, use_threads=False).aggregate([("place", "first")])
    return hits.take(first["place_first"])
