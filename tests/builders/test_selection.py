"""Selection: never a positive, exactly n or not at all, the same whatever the order of candidates."""

import random

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from builders import schema
from builders.queries import TABLE
from builders.selection import select

IDS = [f"p{n}" for n in range(8)]
# p6 and p7 are p0 and p1 again, but for case and white space.
BODIES = {**{i: f"body of {i}" for i in IDS[:6]}, "p6": "Body  OF p0", "p7": "body of\np1"}
TEXTS = {i: f"title {body}" for i, body in BODIES.items()}


def candidates(rankings):
    rows = [
        {"query-id": query, "corpus-id": passage, "rank": rank, "score": None}
        for query, ranking in rankings.items()
        for rank, passage in enumerate(ranking, start=1)
    ]
    return pa.Table.from_pylist(rows, schema.CANDIDATES)


def queries(positives):
    return pa.table(
        {"_id": list(positives), "text": [f"text {q}" for q in positives], "corpus-id": list(positives.values())}, TABLE
    )


@st.composite
def cases(draw):
    positives = {f"q{n}": draw(st.sampled_from(IDS)) for n in range(draw(st.integers(1, 5)))}
    kinds = draw(st.lists(st.sampled_from(["bm25", "random", "llm"]), min_size=1, max_size=3, unique=True))
    rankings = {
        kind: {query: draw(st.permutations(IDS).map(lambda p: p[: draw(st.integers(0, 8))])) for query in positives}
        for kind in kinds
    }
    return positives, rankings, draw(st.integers(1, 4))


@given(cases())
def test_rules_hold_for_all_candidates(case):
    positives, rankings, per_query = case
    selection = select(queries(positives), {k: candidates(r) for k, r in rankings.items()}, TEXTS, BODIES, per_query)
    kept = selection.queries["_id"].to_pylist()
    texts_to_id = {text: passage for passage, text in TEXTS.items()}
    for rows in selection.rows.values():
        assert rows.schema == schema.training(per_query)
        assert rows["query"].to_pylist() == [f"text {query}" for query in kept]
        for query, row in zip(kept, rows.to_pylist(), strict=True):
            bodies = [schema.normalised(BODIES[texts_to_id[row[f"negative_{n + 1}"]]]) for n in range(per_query)]
            assert schema.normalised(BODIES[positives[query]]) not in bodies
            assert len(set(bodies)) == per_query
    short = {row["id"] for row in selection.drops.to_pylist() if row["reason"] == "too-few-negatives"}
    assert set(kept) | short == set(positives)
    assert not set(kept) & short


@given(cases(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(case, lots):
    positives, rankings, per_query = case
    tables = {kind: candidates(ranking) for kind, ranking in rankings.items()}
    shuffled = {kind: table.take(_shuffled(table.num_rows, lots)) for kind, table in tables.items()}
    first = select(queries(positives), tables, TEXTS, BODIES, per_query)
    assert select(queries(positives), shuffled, TEXTS, BODIES, per_query) == first


def _shuffled(size, lots: random.Random):
    order = list(range(size))
    lots.shuffle(order)
    return pa.array(order, pa.int64())


def test_the_best_ranked_are_taken_and_the_ledger_tells_the_rest():
    rankings = {"bm25": {"q0": ["p0", "p6", "p2", "p3"], "q1": ["p1"]}, "random": {"q0": ["p4"], "q1": ["p5"]}}
    selection = select(
        queries({"q0": "p0", "q1": "p1"}), {k: candidates(r) for k, r in rankings.items()}, TEXTS, BODIES, 1
    )
    assert selection.rows["bm25"].to_pylist() == [
        {"query": "text q0", "positive": TEXTS["p0"], "negative_1": TEXTS["p2"]}
    ]
    assert selection.rows["random"]["negative_1"].to_pylist() == [TEXTS["p4"]]
    assert [(row["id"], row["reason"], row["detail"]) for row in selection.drops.to_pylist()] == [
        ("q0 p0", "is-the-positive", "bm25"),
        ("q0 p6", "is-the-positive", "bm25"),
        ("q1 p1", "is-the-positive", "bm25"),
        ("q1", "too-few-negatives", "bm25: 0 of 1"),
    ]
