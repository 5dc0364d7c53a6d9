"""The nearest passages: exact whatever the blocks, and what an index finds of them."""

import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import schema
from builders.embeddings import approximate
from builders.embeddings.approximate import nearest, recall_of
from builders.embeddings.search import Blocks, exact, id_order
from builders.embeddings.vectors import Vectors, cosines
from builders.passages import Passages
from foils.errors import UserError


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
    found = exact(queries, passages, ties, k, Blocks(*blocks))
    order, similar = fully_sorted(queries, passages, ties, k)
    assert found.positions.reshape(asked, -1).tolist() == order.tolist()
    assert found.scores.reshape(asked, -1).tolist() == similar.astype(np.float32).tolist()
    assert found.offsets.tolist() == list(range(0, asked * order.shape[1] + 1, order.shape[1]))


@pytest.mark.parametrize("distinct", [None, 3])
def test_no_block_changes_a_hit(distinct, monkeypatch):
    passages, queries = made(1500, 384, seed=1, distinct=distinct), made(40, 384, seed=2)
    ties = np.arange(1500)[::-1].copy()
    whole = exact(queries, passages, ties, 50, Blocks(40, 1500))
    monkeypatch.setattr("builders.embeddings.search._PAIRS", 1000)  # equal passages, a few queries at a time
    for blocks in (Blocks(7, 311), Blocks(64, 64), Blocks(1, 1500)):
        for one, other in zip(exact(queries, passages, ties, 50, blocks), whole, strict=True):
            assert (one == other).all()


def test_nothing_asked_and_nothing_to_find():
    some, none = made(3), Vectors(np.empty((0, 16), np.float32), np.empty(0, np.int64))
    for queries, passages, offsets in ((none, some, [0]), (some, none, [0, 0, 0, 0])):
        found = exact(queries, passages, np.arange(len(passages.places)), 5)
        assert found.offsets.tolist() == offsets
        assert len(found.positions) == len(found.scores) == 0
    assert cosines(some, some, np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []


def test_ids_are_ordered_as_text_over_chunks():
    parts = [pa.table({"_id": ids, "title": ids, "text": ids}, schema.CORPUS) for ids in (["b", "ä"], ["10", "9", "B"])]
    assert id_order(Passages(pa.concat_tables(parts))).tolist() == [3, 4, 0, 1, 2]


def test_an_index_finds_most_and_orders_as_the_exact_search(tmp_path, caplog):
    pytest.importorskip("faiss")
    caplog.set_level("INFO")
    centres = made(40, 32, seed=3).take(np.arange(40))
    dice = np.random.default_rng(4)
    rows = centres[dice.integers(0, 40, 6000)] + 0.3 * dice.normal(size=(6000, 32)).astype(np.float32)
    passages = Vectors((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), np.arange(6000))
    queries = Vectors(passages.rows, np.arange(0, 6000, 20))
    ties = np.arange(6000)
    wanted = exact(queries, passages, ties, 10)
    found = nearest(queries, passages, ties, 10, 6000, tmp_path)
    assert recall_of(found, wanted) > 0.93
    assert "recall@10 of the index, 16 of 150 lists searched" in caplog.text
    scores = {(q, p): s for q, p, s in zip(wanted.query_numbers, wanted.positions, wanted.scores, strict=True)}
    for query in range(300):
        part = slice(found.offsets[query], found.offsets[query + 1])
        hits = list(zip((-found.scores[part]).tolist(), found.positions[part].tolist(), strict=True))
        assert hits == sorted(hits)
        assert all(-score == scores.get((query, position), np.float32(-score)) for score, position in hits)
    (file,) = tmp_path.glob("ivf-*.faiss")
    written = file.stat().st_mtime_ns
    again = nearest(queries, passages, ties, 10, 6000, tmp_path)
    assert all((one == other).all() for one, other in zip(found, again, strict=True))
    assert file.stat().st_mtime_ns == written
    below = nearest(queries, passages, ties, 10, 6001, tmp_path)
    assert all((one == other).all() for one, other in zip(below, wanted, strict=True))


def test_without_faiss_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # as Python marks what cannot be imported
    with pytest.raises(
        UserError, match=r"above exact_below passages faiss .* run: pip install faiss-cpu .*or set exact"
    ):
        approximate.nearest(made(2), made(9), np.arange(9), 3, 9, tmp_path)
