"""Mining by BM25 and at random: ranks, scores once per pair, and nothing that depends on position or batches."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import queries, schema
from builders.context import Context
from builders.negatives import bm25, sampled
from tests.builders.rare_words import made


@pytest.fixture
def context(tmp_path):
    ids, texts = made(400, 8)
    table = pa.table({"_id": ids, "title": [""] * 400, "text": texts}, schema.CORPUS)
    return Context(table, "en", 42, None, tmp_path)


def asked(context, size):
    """Queries whose words come from their positives; one has no word, one has a positive that is not there."""
    _, texts = made(size, 9, longest=6)
    ids = context.passages["_id"].to_pylist()[:size]
    texts[0], ids[1] = "", "gone"
    return pa.table({"_id": [f"q{n}" for n in range(size)], "text": texts, "corpus-id": ids}, queries.TABLE)


def test_candidates_are_ranked_and_every_pair_is_scored_once(context):
    table = asked(context, 60)
    mined = bm25.mine(table, context, bm25.Bm25Config(depth=7))
    assert mined.candidates.schema == schema.CANDIDATES
    assert mined.scores.schema == schema.SCORES
    wanted = [
        {"query-id": row["_id"], "corpus-id": passage, "rank": rank, "score": score}
        for row in table.to_pylist()
        for rank, (passage, score) in enumerate(context.bm25.search([row["text"]], 7)[0], start=1)
    ]
    assert mined.candidates.to_pylist() == wanted
    scores = {(row["query-id"], row["corpus-id"]): row["score"] for row in mined.scores.to_pylist()}
    assert len(scores) == mined.scores.num_rows
    for row in table.to_pylist():
        everything = dict(context.bm25.search([row["text"]], 400)[0])
        if row["corpus-id"] != "gone":
            assert scores[row["_id"], row["corpus-id"]] == everything.get(row["corpus-id"], 0)
    assert not [pair for pair in scores if pair[1] == "gone"]
    assert 0 < len(scores) - mined.candidates.num_rows < 60


def test_nothing_depends_on_batches_or_order(context, monkeypatch):
    table = asked(context, 60)
    whole = bm25.mine(table, context, bm25.Bm25Config()), sampled.mine(table, context, sampled.RandomConfig())
    monkeypatch.setattr(bm25, "_BATCH", 7)
    monkeypatch.setattr(sampled, "_BATCH", 7)
    parts = bm25.mine(table, context, bm25.Bm25Config()), sampled.mine(table, context, sampled.RandomConfig())
    for one, other in zip(whole, parts, strict=True):
        assert one.candidates.equals(other.candidates)
        assert one.scores.equals(other.scores)
    backwards = sampled.mine(table.take(list(range(59, -1, -1))), context, sampled.RandomConfig())
    order = [("query-id", "ascending"), ("rank", "ascending")]
    assert backwards.candidates.sort_by(order).equals(whole[1].candidates.sort_by(order))


def test_no_queries(context):
    none = queries.TABLE.empty_table()
    assert bm25.mine(none, context, bm25.Bm25Config()).candidates.equals(schema.CANDIDATES.empty_table())
    assert sampled.mine(none, context, sampled.RandomConfig()).candidates.equals(schema.CANDIDATES.empty_table())


def test_random_passages_fill_the_ranks(context):
    mined = sampled.mine(asked(context, 60), context, sampled.RandomConfig()).candidates
    assert mined.schema == schema.CANDIDATES
    assert mined["rank"].to_pylist() == list(range(1, 21)) * 60
    assert len(mined["corpus-id"].unique()) > 350


@given(st.lists(st.integers(0, 2**64 - 1), max_size=5), st.integers(1, 40), st.integers(0, 40))
def test_draw_is_a_sample_without_repeats(seeds, total, size):
    size = min(size, total)
    drawn = sampled.draw(np.array(seeds, np.uint64), total, size)
    assert drawn.shape == (len(seeds), size)
    for row in drawn.tolist():
        assert len(set(row)) == size
        assert all(0 <= number < total for number in row)


def test_draw_is_fair_in_every_place():
    drawn = sampled.draw(np.arange(40_000, dtype=np.uint64), 8, 3)
    for place in range(3):
        counts = np.bincount(drawn[:, place], minlength=8)
        assert abs(counts - 5000).max() < 5 * np.sqrt(5000)
