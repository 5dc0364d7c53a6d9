"""The made corpus is what its description says: the same for a seed, whatever the size, and BM25 finds its queries."""

import pyarrow as pa
import pytest

from builders import corpus
from builders.context import Context
from builders.negatives import bm25
from builders.queries import labelled
from builders.queries.config import QueriesConfig
from builders.recipe import CorpusConfig
from tests.bench.made_corpus import FEWEST, MOST, Maker, made_passages, made_queries, write_beir, write_labels


@pytest.fixture(scope="module")
def made():
    """The first 2,000 passages."""
    return pa.Table.from_batches(made_passages(2000))


def test_a_passage_does_not_depend_on_how_many_are_made(made):
    assert pa.Table.from_batches(made_passages(300)).to_pylist() == made.slice(0, 300).to_pylist()
    assert Maker(7).block(0)["text"][0] != made["text"][0]


def test_its_figures(made):
    texts = made["text"].to_pylist()
    words = [text.split() for text in texts]
    assert all(FEWEST <= len(passage) <= MOST for passage in words)
    assert 1000 < sum(len(text.encode()) for text in texts) / len(texts) < 1500
    assert not all(text.isascii() for text in texts)
    forms = {word.rstrip(".").lower() for passage in words for word in passage}
    assert 20_000 < len(forms) < 200_000


def test_it_goes_the_way_of_a_labelled_corpus(made, tmp_path):
    folder = tmp_path / "made"
    write_beir(folder, made.to_batches(), 2000)
    cleaned = corpus.load(CorpusConfig(str(folder)))
    assert cleaned.passages.num_rows + cleaned.drops.num_rows == 2000
    assert 2 <= cleaned.drops["reason"].to_pylist().count("duplicate") <= 30
    queries = made_queries(cleaned.passages, 50)
    write_labels(folder, queries)
    found = labelled.read(QueriesConfig(source=str(folder)), cleaned, 42)
    assert found.queries.to_pylist() == queries.to_pylist()
    material = Context(cleaned.passages, "en", 42, None, tmp_path / "cache")
    mined = bm25.mine(queries, material, bm25.Bm25Config(depth=10)).candidates.to_pylist()
    hits = {(row["query-id"], row["corpus-id"]) for row in mined}
    assert sum((row["_id"], row["corpus-id"]) in hits for row in queries.to_pylist()) >= 48
