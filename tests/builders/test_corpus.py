"""Sources, cleaning and sampling of passages, and what bad input is told."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import corpus, python_docs
from builders.recipe import CorpusConfig
from cards.errors import UserError
from tests.conftest import SHARED


def lines(tmp_path, *rows, name="c.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


GOOD = [{"_id": "a", "title": "A", "text": "one"}, {"_id": "b", "text": "two"}]


def test_jsonl_parquet_and_beir_give_the_same_passages(tmp_path):
    jsonl = lines(tmp_path, *GOOD)
    pq.write_table(pa.table({"key": ["a", "b"], "head": ["A", ""], "body": ["one", "two"]}), tmp_path / "c.parquet")
    (tmp_path / "beir").mkdir()
    lines(tmp_path / "beir", *GOOD, name="corpus.jsonl")
    sources = [
        CorpusConfig(jsonl),
        CorpusConfig(str(tmp_path / "c.parquet"), id_column="key", title_column="head", text_column="body"),
        CorpusConfig(str(tmp_path / "beir")),
    ]
    tables = [corpus.load(source).passages.to_pylist() for source in sources]
    assert tables[0] == tables[1] == tables[2]
    assert tables[0] == [{"_id": "a", "title": "A", "text": "one"}, {"_id": "b", "title": "", "text": "two"}]


def test_every_drop_has_its_reason():
    rows = [
        {"_id": "keep", "title": "", "text": "A passage that stays."},
        {"_id": "blank", "title": "t", "text": "  \n "},
        {"_id": "tiny", "title": "", "text": "short"},
        {"_id": "twin", "title": "other", "text": "a  PASSAGE that\nstays."},
        {"_id": "huge", "title": "", "text": "x" * 101},
    ]
    kept, drops = corpus.clean(rows, CorpusConfig("x", min_chars=6, max_chars=100))
    assert kept["_id"].to_pylist() == ["keep"]
    reasons = {row["id"]: (row["reason"], row["detail"]) for row in drops.to_pylist()}
    assert reasons == {
        "blank": ("empty", ""),
        "tiny": ("too-short", "5 < 6 characters"),
        "twin": ("duplicate", "same text as keep"),
        "huge": ("too-long", "101 > 100 characters"),
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*GOOD, {"_id": "a", "text": "three"}], "id 'a' occurs twice"),
        ([{"_id": "a", "body": "one"}], "row 1 has no column 'text' (it has '_id', 'body')"),
        ([GOOD[0], "{broken"], "line 2 is not JSON"),
        ([GOOD[0], "[1]"], "line 2 is not a JSON object"),
        ([GOOD[0]], "at least 2 are needed"),
    ],
)
def test_bad_jsonl(tmp_path, rows, words):
    with pytest.raises(UserError) as caught:
        corpus.load(CorpusConfig(lines(tmp_path, *rows)))
    assert words in str(caught.value)


def test_invalid_utf8_and_not_parquet(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(b'{"_id": "a", "text": "ok"}\n{"_id": "b", "text": "\xe9"}\n')
    with pytest.raises(UserError, match="line 2 is not UTF-8 at byte 22"):
        corpus.load(CorpusConfig(str(tmp_path / "c.jsonl")))
    (tmp_path / "c.parquet").write_text("no")
    with pytest.raises(UserError, match="not a Parquet file"):
        corpus.load(CorpusConfig(str(tmp_path / "c.parquet")))


@pytest.mark.parametrize("source", ["no/such/folder", "missing.jsonl", "nothing"])
def test_unknown_sources_list_what_is_allowed(source):
    with pytest.raises(UserError, match="python-docs"):
        corpus.load(CorpusConfig(source))


def test_hub_id_needs_a_revision():
    with pytest.raises(UserError, match=r"needs corpus\.revision"):
        corpus.load(CorpusConfig("owner/name"))


def test_a_hub_that_cannot_be_reached_is_one_clear_line():
    with pytest.raises(
        UserError, match=r"dataset owner/name@v1: the Hub has no such repository, or your token may not see it"
    ):
        corpus.load(CorpusConfig("owner/name", revision="v1"))


def test_sampling_depends_on_ids_and_seed_alone():
    table = pa.Table.from_pylist(
        [{"_id": str(i), "title": "", "text": f"t{i}"} for i in range(200)], corpus.schema.CORPUS
    )
    first = corpus.sample(table, 20, 42)["_id"].to_pylist()
    shuffled = corpus.sample(table.take(list(reversed(range(200)))), 20, 42)["_id"].to_pylist()
    assert len(first) == 20
    assert set(first) == set(shuffled)
    assert set(first) != set(corpus.sample(table, 20, 43)["_id"].to_pylist())
    grown = corpus.sample(table.slice(0, 150), 20, 42)["_id"].to_pylist()
    assert len(set(grown) & set(first)) >= len([i for i in first if int(i) < 150])
    assert corpus.sample(table, 0, 42).num_rows == 200


def test_python_docs_are_thousands_of_passages_with_stable_ids():
    first, again = list(python_docs.passages()), list(python_docs.passages())
    assert first == again
    ids = [row["_id"] for row in first]
    assert len(set(ids)) == len(ids) > 4000
    assert {"json.dumps", "str.split", "pathlib.Path.glob", "topic:with", "subprocess.run"} <= set(ids)
    assert max(len(row["text"]) for row in first) < 20_000
    loaded = corpus.load(CorpusConfig("python-docs", min_chars=60))
    assert loaded.passages.num_rows > 3000
    assert loaded.revision.startswith("python-3.")


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
def test_real_corpora_load_whole():
    sizes = {"corpora/arxiv-abstracts": 5245, "collections/cranfield": 1400, "collections/scifact": 5183}
    for name, size in sizes.items():
        loaded = corpus.load(CorpusConfig(str(SHARED / name)))
        assert loaded.passages.num_rows + loaded.drops.num_rows == size
