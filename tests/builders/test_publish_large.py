"""Publications of many bytes (a gigabyte in the nightly run) and of many files."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest

from builders.dataset.folder import MANIFEST, write_config
from builders.publish import publish_dataset
from cards.dataset import render_card
from cards.publish.files import GROUP_FILES
from cards.publish.release import Target
from foils.provenance import sha256_file
from tests.fixtures.publications import UPLOAD, stumbles
from tests.hub import Fault

pytestmark = pytest.mark.hub

ROW_BYTES = 4096


@pytest.fixture
def room(tmp_path):
    """A folder whose files do not wait for pytest's third run from now to go."""
    yield tmp_path / "room"
    shutil.rmtree(tmp_path / "room", ignore_errors=True)


def noise(rows, row_bytes, seed):
    """Strings of seven random bits a byte: nothing compresses them by more than an eighth."""
    content = np.random.default_rng(seed).integers(0, 128, rows * row_bytes, dtype=np.uint8)
    offsets = np.arange(0, rows * row_bytes + 1, row_bytes, dtype=np.int32)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(content))


def ids(rows):
    return pa.array([f"p{number}" for number in range(rows)])


def data_set(folder, built, tables, shards):
    """A folder as `builders.dataset.folder.write_folder` makes it, with as many shards as a test wants."""
    record = json.loads((built / MANIFEST).read_text())
    splits = {config: about["split"] for config, about in record["configs"].items()}
    record["configs"] = {}
    for config, table in tables.items():
        files = write_config(folder, config, table, -(-table.nbytes // shards))
        digests = {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}
        record["configs"][config] = {
            "split": splits[config],
            "rows": table.num_rows,
            "columns": table.column_names,
            "files": digests,
        }
    (folder / "README.md").write_text(render_card(record, folder), "utf-8")
    (folder / MANIFEST).write_text(json.dumps(record))
    return {path: digest for about in record["configs"].values() for path, digest in about["files"].items()}


def assert_published(hub, repo_id, files):
    repo = hub.repo("dataset", repo_id)
    assert (set(repo.refs), set(repo.tags)) == ({"main"}, {"v1.0.0"})
    for revision in ("main", "v1.0.0"):
        there = repo.resolve(revision).files
        assert {path: entry.sha256 for path, entry in there.items() if path.endswith(".parquet")} == files
    assert stumbles(hub, repo_id) == []


def pairs(rows, seed):
    texts = [noise(rows, 40, seed + part) for part in range(3)]
    return pa.table(dict(zip(("query", "positive", "negative_1"), texts, strict=True)))


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize("size", [2**27, pytest.param(2**30, marks=pytest.mark.nightly)])
def test_large_and_in_many_shards(size, hub, built_animals, room, caplog):
    rows = size * 8 // 7 // ROW_BYTES
    corpus = pa.table({"_id": ids(rows), "title": noise(rows, 1, 1), "text": noise(rows, ROW_BYTES, 2)})
    tables = {
        "corpus": corpus,
        "train-queries": pa.table({"_id": ids(100), "text": noise(100, 50, 3)}),
        "random": pairs(100, 4),
    }
    files = data_set(room, built_animals("one"), tables, shards=40)
    del corpus, tables
    assert len(files) > 100
    assert sum((room / path).stat().st_size for path in files) > 0.93 * size
    caplog.set_level("INFO")
    hub.faults.add(Fault(cut="after", method="POST", path="/commit/staging"))  # the first group is not sent again
    publish_dataset(room, Target(f"alice/large-{size}", "v1.0.0"))
    assert "3 configurations read back and verified" in caplog.text
    assert_published(hub, f"alice/large-{size}", files)
    steps = [(number, request.path) for number, request in enumerate(hub.requests) if request.method == "POST"]
    staged = [number for number, path in steps if "/commit/staging" in path]
    assert len(staged) == -(-(len(files) + 2) // GROUP_FILES) + 1
    uploads = [number for number, path in steps if re.search(UPLOAD, path)]
    assert max(uploads) < staged[-1]  # main takes the tag's files over: nothing is sent again
