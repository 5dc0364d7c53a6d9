"""A corpus that is cleaned by shards: equal to one read as a stream, row by row, whatever its files hold."""

import gzip
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import corpus
from builders.corpus import shards
from builders.recipe import CorpusConfig
from foils.engine.config import EngineConfig
from foils.engine.parts import state_of
from foils.engine.plan import load_stage, read_plan, read_shard
from foils.errors import UserError
from foils.provenance import sha256_file
from tests.fixtures import ROOT
from tests.fixtures.ray_nodes import needs_ray, two_nodes

HERE = EngineConfig()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Shards of 200 bytes, and processes of engines that import this checkout."""
    monkeypatch.setattr(shards, "SIZE", 200)
    monkeypatch.setattr(shards, "MOST", 1 << 20)
    monkeypatch.setattr(corpus, "MOST_REPEATED", 1)
    monkeypatch.setattr("builders.corpus.cleaning._ROWS", 3)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def cleaned(config, engine, cache):
    """What is kept and dropped, its hash and its documents; and how many shards the corpus was cut into."""
    found = corpus.load(config, engine, cache)
    documents = found.documents and found.documents.to_pylist()
    return found.passages.to_pylist(), found.drops.to_pylist(), found.sha256, documents


def both(config, cache, engine=HERE):
    """Cleans by shards, and says that it was the same as without."""
    found = cleaned(config, engine, cache)
    assert found == cleaned(config, None, cache)
    assert not [*cache.glob("engine/*/")]
    return found


def rows(count, **more):
    return [{"_id": f"p{at}", "title": f"T{at}", "text": f"passage {at} ß", **more} for at in range(count)]


def as_lines(found, between="\n"):
    return between.join(json.dumps(row, ensure_ascii=False) for row in found).encode()


def counted(folder):
    return len(shards.shards_of(sorted(each for each in folder.rglob("*.*") if each.is_file())))


AWKWARD = [
    *rows(6),
    {"_id": "p0", "title": "T1", "text": "passage 1 ß"},  # its id and another's text
    {"_id": "new", "title": "t5", "text": "PASSAGE 5  SS"},  # a repeat, which does not take its id
    {"_id": "new", "title": "", "text": "the id is free"},
    {"_id": "p2", "title": "", "text": "said twice"},  # a repeated id, which does not take its text
    {"_id": "later", "title": "", "text": "said twice"},
    {"_id": "blank", "title": " ", "text": "\u200b"},
    {"_id": "long", "text": "x" * 500},
    {"_id": "none"},
    *rows(3),
]


def test_repeats_across_borders_keep_their_reasons(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "c.jsonl").write_bytes(as_lines(AWKWARD))
    assert counted(tmp_path / "data") > 4
    kept, drops, _, _ = both(CorpusConfig(str(tmp_path / "data"), max_chars=400), tmp_path / "cache")
    assert [row["_id"] for row in kept] == [*(f"p{at}" for at in range(6)), "new", "later"]
    assert [(row["id"], row["reason"], row["detail"]) for row in drops] == [
        ("p0", "repeated-id", "line 7"),
        ("new", "duplicate", "same text as p5"),
        ("p2", "repeated-id", "line 10"),
        ("blank", "empty", ""),
        ("long", "too-long", "500 > 400 characters"),
        ("none", "empty", ""),
        *((f"p{at}", "repeated-id", f"line {at + 15}") for at in range(3)),
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"c.jsonl": as_lines(rows(20), "\r\n")},
        {"c.jsonl": as_lines(rows(20), "\n\n\n \n")},
        {"c.jsonl": as_lines(rows(20)) + b"\n", "d.jsonl": b"", "e.jsonl": as_lines(rows(25)[15:])},
        {
            "a.csv": b"_id,text\n1,one\n2,two\n" * 1,
            "b.jsonl.gz": gzip.compress(as_lines(rows(9))),
            "c.jsonl": as_lines(AWKWARD),
        },
        {"a.json": json.dumps(rows(9), indent=1).encode(), "b.json": b"\xef\xbb\xbf" + as_lines(rows(12)[6:])},
    ],
)
def test_files_of_many_forms(tmp_path, files):
    for name, content in files.items():
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    assert counted(tmp_path / "data") > 1
    both(CorpusConfig(str(tmp_path / "data")), tmp_path / "cache")


def test_row_groups_and_documents(tmp_path):
    found = rows(40, doc="d") + rows(45, doc="e")[30:] + [{"_id": "x", "title": "", "text": "x", "doc": None}]
    pq.write_table(pa.Table.from_pylist(found), tmp_path / "c.parquet", row_group_size=7)
    assert len(shards.shards_of([tmp_path / "c.parquet"])) > 3
    config = CorpusConfig(str(tmp_path / "c.parquet"), group_column="doc")
    kept, drops, _, documents = both(config, tmp_path / "cache")
    assert documents == ["d"] * 40 + ["e"] * 5 + [None]
    assert drops[3]["detail"] == "row 44"
    assert len(kept) == 46


VALUES = st.sampled_from(["", " ", "a", "A", "bb", "ß", "ss", "日本", "x" * 60])
TABLE = st.lists(st.tuples(st.sampled_from("pqrstuv"), VALUES, VALUES), max_size=40)


@settings(max_examples=15, deadline=None)
@given(TABLE, st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans(), st.integers(100, 500))
def test_any_corpus(table, between, ends, size):
    shards.SIZE = size
    with tempfile.TemporaryDirectory() as folder:
        file, unique = Path(folder, "c.jsonl"), [{"_id": f"u{at}", "text": f"only {at}"} for at in range(2)]
        found = [dict(zip(("_id", "title", "text"), row, strict=True)) for row in table]
        file.write_bytes(as_lines(found + unique + found[:3], between) + between.encode() * ends)
        both(CorpusConfig(str(file)), Path(folder))


@pytest.mark.parametrize(
    ("wrong", "settings"),
    [
        (b'{"_id": "x", "text": ', {}),
        (b'["x"]', {}),
        (b'{"_id": "x", "text": "\xe9"}', {}),
        (b'{"_id": "x", "text": ["a"]}', {}),
        (b'{"text": "x"}', {}),
        (b'{"_id": "x", "text": "a", "text": "b"}', {}),
        (b'{"_id": "x", "text": "a"}', {"title_column": "headline"}),
        (b'{"_id": "x", "text": "a"}', {"group_column": "doc"}),
    ],
)
def test_a_row_that_cannot_be_read_gives_the_same_error(tmp_path, monkeypatch, wrong, settings):
    monkeypatch.setattr(shards, "SIZE", 5_000)
    file, found = tmp_path / "c.jsonl", as_lines(rows(1200)).splitlines()
    found[150] = wrong
    found += [b"[2]"] * (not settings)  # a stream does not come as far as that
    file.write_bytes(b"\n".join(found))
    assert len(shards.shards_of([file])) > 10
    config, said = CorpusConfig(str(file), **settings), []
    for engine in (None, HERE):
        with pytest.raises(UserError) as caught:
            corpus.load(config, engine, tmp_path / "cache")
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert settings or "line 151" in said[0]
    file.write_bytes(as_lines([{"headline": "", "doc": "", **row} for row in rows(200)]))
    both(config, tmp_path / "cache")  # what was made of the earlier file is gone


def test_what_cannot_be_cut_and_is_large_is_read_as_a_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MOST", 1000)
    (tmp_path / "c.csv").write_text("_id,text\n" + "".join(f"{at},text {at}\n" for at in range(200)))
    assert shards.shards_of([tmp_path / "c.csv"]) == []
    assert len(both(CorpusConfig(str(tmp_path / "c.csv")), tmp_path / "cache")[0]) == 200


KILLED = """
import os, sys
from pathlib import Path
from builders import corpus
from builders.corpus import shards
from foils.engine import worker
from foils.engine.config import EngineConfig
from builders.recipe import CorpusConfig
if __name__ == "__main__":
    shards.SIZE = 200
    real, left = worker.write_part, [3]
    def write_part(*given):
        if not left[0]:
            os.kill(os.getpid(), 9)
        left[0] -= 1
        real(*given)
    worker.write_part = write_part
    corpus.load(CorpusConfig(sys.argv[1]), EngineConfig(), Path(sys.argv[2]))
"""


def test_a_killed_build_goes_on_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "c.jsonl").write_bytes(as_lines(rows(40)))
    config, cache = CorpusConfig(str(tmp_path / "c.jsonl")), tmp_path / "cache"
    done = subprocess.run([sys.executable, "-c", KILLED, config.source, cache], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    (folder,) = cache.glob("engine/*/")
    plan = read_plan(folder)
    assert state_of(folder, plan).done == [0, 1, 2]
    begun, real = [], shards.Examine.__call__
    monkeypatch.setattr(shards.Examine, "__call__", lambda *given: begun.append(1) or real(*given))
    both(config, cache)
    assert len(begun) == len(plan.shards) - 3


def test_two_processes(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(as_lines(AWKWARD * 2))
    both(CorpusConfig(str(tmp_path / "c.jsonl"), min_chars=2), tmp_path / "cache", EngineConfig(workers=2))


@needs_ray
def test_two_nodes(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(as_lines(AWKWARD * 2))
    with two_nodes() as (cluster, _):
        engine = EngineConfig("ray", workers=2, address=cluster.address)
        both(CorpusConfig(str(tmp_path / "c.jsonl"), min_chars=2), tmp_path / "cache", engine)


def test_files_may_be_links_to_others_without_an_ending(tmp_path):
    """As in the Hub's cache."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "blobs" / "abcdef0123").write_bytes(as_lines(AWKWARD))
    (tmp_path / "data" / "c.jsonl").symlink_to(tmp_path / "blobs" / "abcdef0123")
    kept, *_ = both(CorpusConfig(str(tmp_path / "data"), max_chars=400), tmp_path / "cache")
    assert len(kept) == 8


def test_a_worker_that_sees_another_file_refuses_it(tmp_path):
    file, config = tmp_path / "c.jsonl", CorpusConfig(str(tmp_path / "c.jsonl"))
    file.write_bytes(as_lines(rows(20)))
    pieces = shards.shards_of([file])
    plan = shards._plan(tmp_path, pieces, config, {str(file): sha256_file(file)})
    stage = load_stage(plan, tmp_path)
    assert stage(read_shard(plan, tmp_path, 0)).num_rows > 0
    file.write_bytes(as_lines(rows(20)).replace(b"passage", b"Passage"))
    with pytest.raises(UserError, match=r"c\.jsonl: not the file that the plan was made with"):
        load_stage(plan, tmp_path)(read_shard(plan, tmp_path, 0))
