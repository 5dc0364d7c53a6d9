"""What the build's own cross-encoder is trained on."""

import pyarrow as pa

from builders import schema
from builders.domain_ranker import titled

TITLES = ["How owls hunt", "Bees", "How bees dance", "How bees dance", "", "eels.swim.far_away"]


def corpus(titles=TITLES):
    rows = [{"_id": f"p{n}", "title": title, "text": f"text {n}"} for n, title in enumerate(titles)]
    return pa.Table.from_pylist(rows, schema.CORPUS)


def test_a_title_is_a_query_where_it_tells_its_passage_from_others():
    found = titled(corpus(), 10, seed=1)
    assert found["text"].to_pylist() == ["How owls hunt", "eels.swim.far_away"]
    assert found["corpus-id"].to_pylist() == ["p0", "p5"]
    assert found["_id"].to_pylist() == ["title of p0", "title of p5"]


def test_titles_are_drawn_by_seed():
    many = corpus([f"A title about {n}" for n in range(50)])
    first, again, other = (titled(many, 20, seed)["corpus-id"].to_pylist() for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 20
    assert titled(many, 0, seed=1).num_rows == 0
    assert titled(corpus([]), 5, seed=1).num_rows == 0
