"""Sources, cleaning and sampling of passages, and what bad input is told."""

import bz2
import csv
import gzip
import hashlib
import io
import json
import logging
import lzma
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from hypothesis import given
from hypothesis import strategies as st

from builders import corpus, hashing, schema
from builders.corpus import python_docs
from builders.recipe import CorpusConfig
from builders.spool import Spool, spool_beside
from foils import tables
from foils.errors import UserError
from foils.provenance import sha256_texts
from foils.tables import Rows
from foils.texts import normalised
from tests.conftest import SHARED


def lines(tmp_path, *rows, name="c.jsonl"):
    path = tmp_path / name
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text(text, "utf-8", "surrogateescape")
    return str(path)


def batches(rows, size):
    """Rows as sources give them, `size` at a time."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        columns = [[row[name] for row in part] for name in ("_id", "title", "text")]
        yield Rows((), columns, range(start + 1, start + 1 + len(part)), "corpus x: line")


GOOD = [{"_id": "a", "title": "A", "text": "one"}, {"_id": "b", "text": "two"}]


# What readers like to take for a number, a date, nothing, or the end of a field.
ODD = [
    {"_id": "007", "title": "NA", "text": "2020-01-01"},
    {"_id": "1e5", "title": "", "text": "null"},
    {"_id": "c", "title": "T, t", "text": 'a "b";\n\tc\u2028d'},
]
LINES = "".join(f"{json.dumps(row)}\n\n" for row in ODD).encode()
CUT = LINES.index(b"\n") + 1


def table(separator=",", **options):
    out = io.StringIO()
    writer = csv.DictWriter(out, ODD[0], delimiter=separator, **options)
    writer.writeheader()
    writer.writerows(ODD)
    return out.getvalue()


def parquet(rows=ODD):
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.jsonl", LINES),
        ("c.json", LINES.decode().encode("utf-16")),
        ("c.json", json.dumps(ODD, indent=1).encode()),
        ("c.jl", "\r\n".join(json.dumps(row | {"more": [{"{": "}"}, {}]}, indent=0) for row in ODD).encode()),
        ("c.jsonl.gz", gzip.compress(LINES[:50], mtime=0) + gzip.compress(LINES[50:], mtime=0)),
        ("c.jsonl.xz", lzma.compress(LINES)),
        ("c.tsv.zst", pa.compress(table("\t").encode(), "zstd", asbytes=True)),
        ("c.csv", table(lineterminator="\n").encode("utf-8-sig")),
        ("c.csv", b"sep=;\r\n\r\n" + table(";", quoting=csv.QUOTE_ALL).encode()),
        ("C.CSV.BZ2", bz2.compress(b"\n" + table().replace(",t", ", t").replace(',"', ', "').encode())),
        ("c.jsonl", LINES.replace(b"}\n", b"},\n")),
        ("c.csv.gz", gzip.compress(table("\t").encode("utf-16"), mtime=0)),
        ("C.Parquet", parquet()),
    ],
)
def test_values_are_those_that_the_file_shows(tmp_path, monkeypatch, name, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)  # `data/c.csv` looks like a Hub id
    assert corpus.load(CorpusConfig(f"data/{name}")).passages.to_pylist() == ODD


@pytest.mark.parametrize(
    ("header", "between", "text"),
    [
        ("_id\ttext", "\t", ' "Hamlet", a play'),
        ("_id\t text", "\t", ' "Hamlet", a play'),
        ("_id,text", ",", ' "Hamlet" is a play'),
        ("_id,title, text", ",T,", "   def f():"),
    ],
)
def test_blanks_in_front_of_a_value_are_part_of_it(tmp_path, header, between, text):
    (tmp_path / "c.csv").write_text(f"{header}\n1{between}{text}\n2{between}{text} x\n")
    read = tables.read([tmp_path / "c.csv"], ["text"], "corpus")
    assert [value for rows in read for value in rows.values[0]] == [text, f"{text} x"]


@pytest.mark.parametrize(
    ("files", "settings"),
    [
        ({"corpus.csv": table().encode(), "queries.jsonl": b"", "qrels/test.tsv": b""}, {}),
        ({"corpus/part-0.parquet": parquet(ODD[:1]), "corpus/part-1.parquet": parquet(ODD[1:])}, {}),
        ({"a.jsonl.gz": gzip.compress(LINES[:CUT]), "b.jsonl.gz": gzip.compress(LINES[CUT:])}, {}),
        ({"data/train-0.parquet": parquet(), "data/test-0.parquet": parquet(GOOD)}, {}),
        ({"corpus/train-0.pq": parquet(), "corpus/test-0.pq": parquet(GOOD), "corpus/._train-0.pq": b"x"}, {}),
        ({"corpus/._c-0.jsonl": b"\0", "corpus/c-0.jsonl": LINES[:CUT], "corpus/d-0.jsonl": LINES[CUT:]}, {}),
        ({"a.csv": table().encode(), "b.json": b"[]", "c.jsonl": b"", ".d.csv": b"", "notes.txt": b"x"}, {}),
        ({"scifact/corpus.tab": table("\t").encode(), "scifact/queries.jsonl": LINES, "scifact/qrels/a.tsv": b""}, {}),
        ({"more/dev.jsonlines": LINES[:CUT], "queries.jsonl": LINES[CUT:]}, {}),
        ({"engine.jsonl": LINES[:CUT], "train-manual.jsonl": LINES[CUT:], "README.md": b"# Manuals"}, {}),
        ({"manual.jsonl": LINES[:CUT], "more/dev-manual.jsonl.gz": gzip.compress(LINES[CUT:])}, {}),
        ({"dev/a.csv": table().encode(), "train/a.csv": b"_id\n"}, {"split": "dev"}),
        (
            {
                "README.md": b"---\nconfigs: [{config_name: x, data_files: b.csv}]\n---",
                "b.csv": table().encode(),
                "a.csv": b"",
            },
            {},
        ),
        ({"data/train-0.csv": b"_id\n", "data/test-0.csv": table().encode()}, {"split": "test"}),
    ],
)
def test_folders(tmp_path, files, settings):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(content)
    assert corpus.load(CorpusConfig(str(tmp_path), **settings)).passages.to_pylist() == ODD


def test_what_a_folder_does_not_give_is_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl.zip").write_bytes(b"PK")
    corpus.load(CorpusConfig(str(tmp_path)))
    assert "left out, of no form that is read or no passages: b.jsonl.zip" in caplog.text
    (tmp_path / "c.jsonl").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"c\.jsonl: no such file"):
        corpus.load(CorpusConfig(str(tmp_path)))
    (tmp_path / "README.md").write_text("---\nconfigs: [{config_name: x, data_files: a.jsonl}, {config_name: y}]\n---")
    with pytest.raises(UserError, match=r"among the available configs: \['x', 'y'\]; name one of them with `config`$"):
        corpus.load(CorpusConfig(str(tmp_path)))


def test_a_data_set_that_was_saved(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    rows = Dataset.from_list(ODD)
    rows.save_to_disk(tmp_path / "one")
    load_from_disk(tmp_path / "one").map(lambda row: {"text": f"{row['text']}!"})  # leaves a cache beside it
    DatasetDict({"dev": rows, "test": rows}).save_to_disk(tmp_path / "several")
    DatasetDict({"corpus": rows}).save_to_disk(tmp_path / "beir" / "corpus")
    sources = [("one", "train"), ("several", "dev"), ("beir", "train"), ("beir/corpus", "train")]
    loaded = [CorpusConfig(str(tmp_path / name), split=split) for name, split in sources]
    assert [corpus.load(config).passages.to_pylist() for config in loaded] == [ODD] * 4
    assert "its split 'dev' is read; left out: test" in caplog.text
    with pytest.raises(UserError, match="it has no split 'train'; name one of its own: dev, test"):
        corpus.load(CorpusConfig(str(tmp_path / "several")))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.csv", b"_id,text\n1,a\n2,b,c\n", "line 3: 3 fields where the header has 2: .*'c'.*; repair that"),
        ("c.csv", b'_id,text\n1,a\n2,"b\n3,c\n', "line 4: unexpected end of data; repair that line's quotes"),
        ("c.csv", b"_id,text\n1,B\xe4r\n", ".* can't decode byte 0xe4 .*; convert the file to UTF-8"),
        ("c.csv", b"_id,text,text\n1,a,b\n", "it has two columns 'text'; leave one of them out"),
        ("c.csv", b"_id\n", r"no row has a column 'text' \(there are '_id'\); name yours with"),
        ("c.jsonl", b"", r"no row has a column '_id' \(there are none\)"),
        ("c.json", b'{"data": [\n]}', "line 1 is not JSON: .*; wanted a JSON object a line, or one JSON array"),
        ("c.json", b'{\n"data": []}', r"item 1 has no '_id', or nothing in it \(there are 'data'\)"),
        (
            "c.parquet",
            b"version https://git-lfs.github.com/spec/v1\noid",
            "Git LFS left a pointer in its place; run git",
        ),
        ("c.json", b'[{"_id": "a"},', r"not JSON \(Input data was truncated\)"),
        ("c.json", b'["a", "b"]', "item 1 is not a JSON object"),
        ("c.jsonl.gz", LINES, r"cannot be read \(zlib inflate failed: .*\); repair the file, or name another"),
        ("c.jsonl.bz2", bz2.compress(LINES)[:60], r"cannot be read \(Truncated compressed stream\)"),
        ("c.parquet", parquet([{"_id": "a", "body": "one"}]), r"no row has a column 'text' \(there are '_id', 'body'"),
        ("c.parquet", parquet([{"_id": "a", "text": "one"}, {"text": "two"}]), "row 2 has no '_id'"),
        ("c.parquet", parquet()[:20] + parquet()[-60:], r"cannot be read \("),
        (
            "c.jsonl",
            LINES.decode().encode("utf-16")[:-1],
            ".* codec can't decode .*: truncated data; convert the file to",
        ),
        ("c.json", json.dumps(ODD).encode("utf-16")[:-1], ".* codec can't decode .*; convert the file to UTF-8"),
        (
            "c.csv",
            "_id,text\na,b".encode("utf-16") + b"\0\xd8\n\0",
            ".* illegal UTF-16 surrogate; convert the file to UTF-8",
        ),
        ("c.tar.gz", b"PK", r"cannot be unpacked \(.*\); unpack it and name the folder"),
        ("c.zip", b"PK", r"cannot be unpacked \(.*\); unpack it and name the folder"),
        ("c.7z", b"PK", "an archive; unpack it and name the folder or file"),
        ("c.odd", LINES, r"not a form that is read; wanted JSON lines, JSON, CSV, TSV, Parquet or Arrow"),
        ("c.txt", b"one\ntwo", r"row 1 has no '_id', or nothing in it \(there are 'text'\)"),
    ],
)
def test_files_that_are_not_as_they_must_be(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"corpus .*{name}: {words}"):
        corpus.load(CorpusConfig(str(tmp_path / name)))


def test_every_drop_has_its_reason():
    rows = [
        {"_id": "keep", "title": "", "text": "A passage that stays."},
        {"_id": "blank", "title": " ", "text": "  \n "},
        {"_id": "invisible", "title": "", "text": "\u200b \u00ad\ufeff"},
        {"_id": "tiny", "title": "", "text": "short"},
        {"_id": "twin", "title": "A", "text": "PASSAGE that\nstays"},
        {"_id": "huge", "title": "", "text": "x" * 101},
    ]
    kept, drops, _ = corpus.clean(batches(rows, 2), CorpusConfig("x", min_chars=6, max_chars=100))
    assert kept["_id"].to_pylist() == ["keep"]
    assert drops["id"].to_pylist() == ["blank", "invisible", "tiny", "twin", "huge"]
    reasons = {row["id"]: (row["reason"], row["detail"]) for row in drops.to_pylist()}
    assert reasons == {
        "blank": ("empty", ""),
        "invisible": ("empty", ""),
        "tiny": ("too-short", "5 < 6 characters"),
        "twin": ("duplicate", "same text as keep"),
        "huge": ("too-long", "101 > 100 characters"),
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [*GOOD, {"_id": "a", "text": "three"}],
            "1 passages have the id of an earlier one, such as 'a' (line 3)",
        ),
        ([GOOD[0], '{"_id": "b", "text": "\udce9"}'], "line 2 is not UTF-8 at byte 22"),
        ([GOOD[0], "[1]"], "line 2 is not a JSON object"),
        ([GOOD[0], "", GOOD[1], '{"_id": "c", "text": 1} {}'], "line 4 is not JSON: Extra data"),
        ([GOOD[0], r'{"_id": "c", "text": "\ud83d"}'], "line 2 holds half of a surrogate pair"),
        (
            [*GOOD, {"text": "three"}],
            "line 3 has no '_id', or nothing in it (there are '_id', 'title', 'text'); name yours",
        ),
        ([*GOOD, {"_id": "c", "text": ["a", "b"]}], "line 3: 'text' is of type list (['a', 'b']); wanted text"),
        ([*GOOD, {"_id": "c", "title": {"a": 1}, "text": ""}], "line 3: 'title' is of type dict ({'a': 1}); wanted"),
        ([*GOOD, {"_id": 1.5, "text": "c"}], "line 3: '_id' is of type float (1.5); wanted text"),
        ([*GOOD, '{"_id": "c", "text": "d", "text": "e"}'], "line 3 has the key 'text' twice; leave one of them out"),
        ([*GOOD, '{"_id": "c", "text" : "d", "text" : "e"}'], "line 3 has the key 'text' twice; leave one of them out"),
        ([*GOOD, f'{{"_id": "c", "x": {"[" * 5000}{"]" * 5000}}}'], "line 3 has lists or objects nested too deeply"),
        ([f"[{'[' * 5000}{']' * 5000}]"], "not JSON (maximum recursion depth exceeded"),
        ([*GOOD, {"_id": "c", "text": True}], "line 3: 'text' is of type bool (True); wanted text"),
        ([GOOD[0]], "at least 2 are needed"),
    ],
)
def test_bad_jsonl(tmp_path, rows, words):
    with pytest.raises(UserError) as caught:
        corpus.load(CorpusConfig(lines(tmp_path, *rows)))
    assert words in str(caught.value)


def test_whatever_wrote_a_value_it_is_read_as_the_text_that_was_meant(tmp_path):
    rows = [
        '{"_id": 7, "title": NaN, "text": "one", "meta": {"a": 1, "b": {"a": 2}}}',
        '{"_id": "b", "title": 3.0, "text": null}',
        '{"_id": "c"}',
        '{"_id": "d", "title": 3.0, "text": ""}',
    ]
    path = tmp_path / "bom.jsonl"
    path.write_text("\ufeff" + "\n".join(rows), "utf-8")
    loaded = corpus.load(CorpusConfig(str(path)))
    assert loaded.passages.to_pylist() == [
        {"_id": "7", "title": "", "text": "one"},
        {"_id": "d", "title": "3", "text": ""},
    ]
    assert loaded.drops.select(["id", "reason"]).to_pylist() == [{"id": each, "reason": "empty"} for each in "bc"]
    columns = {"_id": [1.0, 2.0, 3.0], "title": [None, 3, 4], "text": [b"B\xc3\xa4ren", b"two", None]}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    assert corpus.load(CorpusConfig(str(tmp_path / "c.parquet"))).passages.to_pylist() == [
        {"_id": "1", "title": "", "text": "Bären"},
        {"_id": "2", "title": "3", "text": "two"},
    ]


def test_a_title_column_that_was_asked_for_must_be_there(tmp_path):
    pq.write_table(pa.table({"_id": ["a", "b"], "text": ["one", "two"]}), tmp_path / "c.parquet")
    for source in (lines(tmp_path, *GOOD), str(tmp_path / "c.parquet")):
        assert corpus.load(CorpusConfig(source)).passages.num_rows == 2
        with pytest.raises(UserError, match="no row has a column 'headline'"):
            corpus.load(CorpusConfig(source, title_column="headline"))


def test_a_passage_is_its_title_and_its_text():
    rows = [
        {"_id": "x100", "title": "Printer X100", "text": "No, it does not."},
        {"_id": "y200", "title": "Toaster Y200", "text": "No, it does not."},
        {"_id": "again", "title": "", "text": "toaster Y200 \u201cNo\u201d it does not"},
        {"_id": "copy", "title": "", "text": "Toaster\u00ad Y200: no it does not"},
        {"_id": "title", "title": "A title alone", "text": ""},
    ]
    kept, drops, _ = corpus.clean(batches(rows, 2), CorpusConfig("x", min_chars=12))
    assert kept["_id"].to_pylist() == ["x100", "y200", "again", "title"]
    assert [(row["id"], row["detail"]) for row in drops.to_pylist()] == [("copy", "same text as y200")]


PASSAGES = st.lists(
    st.sampled_from(["", " a ", "A", "b", "bb", "c  c", "C c", "ß", "SS", "long one", "日本"]), max_size=30
)


def by_the_book(rows, config):
    """Cleaning in ten lines."""
    kept, drops, seen = [], [], {}
    for row in rows:
        title, text = row["title"].strip(), row["text"].strip()
        whole = f"{title} {text}".strip()
        same = seen.get(normalised(whole))
        chars = len(text or title)
        if not config.min_chars <= chars <= config.max_chars:
            drops.append((row["_id"], "empty" if not whole else "too-short" if chars < 2 else "too-long"))
        elif same is not None:
            drops.append((row["_id"], f"same text as {same}"))
        else:
            seen[normalised(whole)] = row["_id"]
            kept.append({"_id": row["_id"], "title": title, "text": text})
    return kept, drops


@given(PASSAGES, st.integers(1, 7))
def test_cleaning_does_not_depend_on_batches(texts, size):
    rows = [{"_id": f"p{at}", "title": " t " * (at % 2), "text": text} for at, text in enumerate(texts)]
    config = CorpusConfig("x", min_chars=2, max_chars=5)
    kept, drops = by_the_book(rows, config)
    again = drops[:1] if drops and drops[0][0] == "p0" else [("p0", "repeated-id")][: len(rows)]
    passages, dropped, sha256 = corpus.clean(batches([*rows, *rows[:1]], size), config)
    assert passages.to_pylist() == kept
    found = [
        (row["id"], row["detail"] if row["reason"] == "duplicate" else row["reason"]) for row in dropped.to_pylist()
    ]
    assert found == drops + again
    assert sha256 == sha256_texts(row.values() for row in kept)


def test_the_content_hash_stays_what_published_data_sets_say():
    rows = [{"_id": "a", "title": "A", "text": 'say "hi"'}, {"_id": "ü", "title": "", "text": "two"}]
    expected = hashlib.sha256(b'["a", "A", "say \\"hi\\""]' + '["ü", "", "two"]'.encode()).hexdigest()
    for size in (1, 2):
        assert corpus.clean(batches(rows, size), CorpusConfig("x"))[2] == expected


def test_rows_are_spooled_beside_the_output_and_not_into_memory(tmp_path, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(Spool, "folder", Path("/nowhere"))  # and is put back
    others = tempfile.gettempdir()
    with pytest.raises(FileNotFoundError):
        Spool(schema.CORPUS)
    spool_beside(tmp_path / "outputs" / "dataset")
    assert (Spool.folder, tempfile.gettempdir()) == (tmp_path / "outputs", others)
    assert Spool(schema.CORPUS).table().num_rows == 0
    monkeypatch.setenv("TMPDIR", "/tmp")
    spool_beside(tmp_path / "other" / "dataset")
    assert Spool.folder == tmp_path / "outputs"


@pytest.mark.parametrize(
    ("source", "revision", "words"),
    [
        ("no/such/folder", None, "no such file or folder; wanted .*, or python-docs"),
        ("missing.jsonl", None, "no such file or folder; wanted .*, or python-docs"),
        ("owner/name", None, r"needs corpus\.revision"),
        ("owner/name", "v1", "dataset owner/name@v1: the Hub has no such repository, or your token may not see it"),
    ],
)
def test_unknown_sources_list_what_is_allowed(tmp_path, monkeypatch, source, revision, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        corpus.load(CorpusConfig(source, revision))


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
    by_hand = sorted(range(200), key=lambda number: hashing.keyed_hash(42, "sample", str(number)))[:20]
    assert sorted(map(int, first)) == sorted(by_hand)
    chunks = pa.concat_tables([table.slice(0, 7), table.slice(7, 150), table.slice(157)])
    assert corpus.sample(chunks, 20, 42).to_pylist() == corpus.sample(table, 20, 42).to_pylist()


def test_python_docs_are_thousands_of_passages_with_stable_ids(monkeypatch):
    first = list(python_docs.passages())
    method = lambda: None  # noqa: E731
    method.__doc__ = "Logs a message once, however often it is called, as some libraries have it. " * 3
    monkeypatch.setattr(logging.Logger, "log_once", method, raising=False)
    assert list(python_docs.passages()) == first  # nothing that a library puts into the standard library
    ids = [row["_id"] for row in first]
    assert len(set(ids)) == len(ids) > 4000
    assert {"json.dumps", "str.split", "logging.Logger.log", "topic:with", "subprocess.run"} <= set(ids)
    assert max(len(row["text"]) for row in first) < 20_000
    assert len({normalised(row["text"]) for row in first}) == len(first)
    loaded = corpus.load(CorpusConfig("python-docs", min_chars=60))
    assert loaded.passages.num_rows > 3000
    assert loaded.revision.startswith("python-3.")


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
def test_real_corpora_load_whole():
    sizes = {"corpora/arxiv-abstracts": 5245, "collections/cranfield": 1400, "collections/scifact": 5183}
    for name, size in sizes.items():
        loaded = corpus.load(CorpusConfig(str(SHARED / name)))
        assert loaded.passages.num_rows + loaded.drops.num_rows == size
