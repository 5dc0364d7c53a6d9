"""The nearest passages: exact, whatever the blocks."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import schema
from builders.passages import Passages
from builders.retrieval.nearest import Vectors, cosines, id_order, nearest


def made(size, dim=16, seed=0, distinct=None):
    """Vectors of length 1 in a shuffled store with foreign rows between them; `distinct` makes many of them equal."""
    dice = np.random.default_rng(seed)
    rows = dice.normal(size=(distinct or size, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if distinct:
        rows = rows[dice.integers(0, distinct, size)]
    places = dice.permutation(2 * size)[:size]
    stored = np.full((2 * size, dim), 9, np.float32)
    stored[places] = rows
    return Vectors(stored, places)


def fully_sorted(queries, passages, ties, k):
    """Every similarity in double precision, all of them sorted."""
    left, right = (vectors.take(np.arange(len(vectors.places))).astype(float) for vectors in (queries, passages))
    similar = np.round(left @ right.T, 6)
    order = np.array([np.lexsort((ties, -row)) for row in similar])[:, :k]
    return order, np.take_along_axis(similar, order, axis=1)


@settings(max_examples=60)
@given(
    size=st.integers(1, 120),
    asked=st.integers(1, 9),
    k=st.integers(1, 30),
    distinct=st.one_of(st.none(), st.integers(1, 6)),
    blocks=st.tuples(st.integers(1, 10), st.integers(1, 130)),
    seed=st.integers(0, 999),
)
def test_exact_search_is_a_full_sort(size, asked, k, distinct, blocks, seed):
    passages, queries = made(size, seed=seed, distinct=distinct), made(asked, seed=seed + 1)
    ties = np.random.default_rng(seed).permutation(size)
    found = nearest(queries, passages, ties, k, blocks)
    order, similar = fully_sorted(queries, passages, ties, k)
    assert found.positions.reshape(asked, -1).tolist() == order.tolist()
    assert found.scores.reshape(asked, -1).tolist() == similar.tolist()
    assert found.offsets.tolist() == list(range(0, asked * order.shape[1] + 1, order.shape[1]))


@pytest.mark.parametrize("distinct", [None, 3])
def test_no_block_changes_a_hit(distinct, monkeypatch):
    passages, queries = made(1500, 384, seed=1, distinct=distinct), made(40, 384, seed=2)
    ties = np.arange(1500)[::-1].copy()
    whole = nearest(queries, passages, ties, 50, (40, 1500))
    monkeypatch.setattr("builders.retrieval.nearest._PAIRS", 1000)  # equal passages, a few queries at a time
    for blocks in ((7, 311), (64, 64), (1, 1500)):
        for one, other in zip(nearest(queries, passages, ties, 50, blocks), whole, strict=True):
            assert (one == other).all()


def test_nothing_asked_and_nothing_to_find():
    some, none = made(3), Vectors(np.empty((0, 16), np.float32), np.empty(0, np.int64))
    for queries, passages, offsets in ((none, some, [0]), (some, none, [0, 0, 0, 0])):
        found = nearest(queries, passages, np.arange(len(passages.places)), 5)
        assert found.offsets.tolist() == offsets
        assert len(found.positions) == len(found.scores) == 0
    assert cosines(some, some, np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []


def test_ids_are_ordered_as_text_over_chunks():
    parts = [pa.table({"_id": ids, "title": ids, "text": ids}, schema.CORPUS) for ids in (["b", "ä"], ["10", "9", "B"])]
    assert id_order(Passages(pa.concat_tables(parts))).tolist() == [3, 4, 0, 1, 2]
