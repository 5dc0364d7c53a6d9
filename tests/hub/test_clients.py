"""huggingface_hub itself against the loopback Hub: uploads in both lanes, commits, references."""

import base64
import json
import os

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from tests.hub.clients import DATA, ndjson, paths, request, run

BOTH_WAYS = """
import os, random, sys
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

here, api = Path(sys.argv[1]), HfApi()
files = {
    "data/random.bin": random.Random(0).randbytes(20_000_000),
    "data/words.parquet": b"the same words over and over again, " * 40_000,
    "data/numbers.bin": b"".join(i.to_bytes(4, "little") for i in range(300_000)),
    "README.md": b"---\\nlicense: mit\\n---\\n# Card",
    "an \\u00fc odd #100% + name?.txt": b"odd",
    "folder with space/#.bin": bytes(range(256)) * 20,
}
for name, data in files.items():
    (here / "up" / name).parent.mkdir(parents=True, exist_ok=True)
    (here / "up" / name).write_bytes(data)
assert api.create_repo("alice/both", repo_type="dataset").repo_id == "alice/both"
commit = api.upload_folder(folder_path=here / "up", repo_id="alice/both", repo_type="dataset")
api.create_tag("alice/both", tag="v1", revision=commit.oid, repo_type="dataset")
api.upload_file(path_or_fileobj=b"later", path_in_repo="later.bin", repo_id="alice/both", repo_type="dataset")
down = Path(snapshot_download("alice/both", repo_type="dataset", revision="v1"))
found = {str(p.relative_to(down)): p.read_bytes() for p in down.rglob("*") if p.is_file()}
assert found.pop(".gitattributes")
assert found == files, {k: len(v) for k, v in found.items()}
one = hf_hub_download("alice/both", "later.bin", repo_type="dataset", local_dir=here / "one")
assert Path(one).read_bytes() == b"later"
"""


@pytest.mark.parametrize("lane", ["xet", "lfs"])
def test_upload_tag_and_download(hub, tmp_path, lane):
    run(BOTH_WAYS, hub, tmp_path, **({"HF_HUB_DISABLE_XET": "1"} if lane == "lfs" else {}))
    repo = hub.repo(DATA, "alice/both")
    assert repo.tags["v1"] == repo.commits[repo.refs["main"]].parent
    assert repo.read("v1", "data/words.parquet") == b"the same words over and over again, " * 40_000
    assert repo.read("v1", "data/numbers.bin")[4:8] == b"\1\0\0\0"
    uploads = [path.split("/")[1] for path in paths(hub, method="PUT")]
    xorbs = [path for path in paths(hub, method="POST") if "/xorbs/" in path]
    batches = [path for path in paths(hub) if path.endswith("/info/lfs/objects/batch")]
    if lane == "xet":
        assert xorbs
        assert not uploads
        assert not batches
        assert any("/reconstructions/" in path for path in paths(hub))
        assert repo.commits[repo.refs["main"]].files["later.bin"].xet_hash
    else:
        assert batches
        assert uploads
        assert not xorbs
    elsewhere = [r for r in hub.requests if r.host.startswith("localhost")]
    assert elsewhere
    assert not any(r.authorized for r in elsewhere)
    assert {r.token_user for r in hub.requests if "/xet/" in r.path} <= {None}
    assert {r.status for r in elsewhere} <= {200, 206}


def test_a_file_that_came_by_xet_goes_out_plain(hub, api):
    api.create_repo("alice/plain", repo_type=DATA)
    data = bytes(range(200)) * 5000
    api.upload_file(path_or_fileobj=data, path_in_repo="a.bin", repo_id="alice/plain", repo_type=DATA)
    assert any("/xorbs/" in path for path in paths(hub))
    url = f"{hub.url}/datasets/alice/plain/resolve/main/a.bin"
    assert request("GET", url)[2] == data
    status, headers, body = request("GET", url, Range="bytes=10-19")
    assert (status, headers["Content-Range"], body) == (206, f"bytes 10-19/{len(data)}", data[10:20])
    assert request("GET", url, Range=f"bytes={len(data)}-")[0] == 416


def test_a_client_s_cache_of_another_store_does_no_harm(hub, api):
    """After a reset the store has another URL, so the client sends the chunks again."""
    data = os.urandom(500_000)
    for _ in range(2):
        hub.reset()
        api.create_repo("alice/again", repo_type=DATA)
        api.upload_file(path_or_fileobj=data, path_in_repo="a.bin", repo_id="alice/again", repo_type=DATA)
        assert hub.repo(DATA, "alice/again").read("main", "a.bin") == data


def test_a_commit_needs_the_bytes_of_its_large_files(hub, api):
    api.create_repo("alice/r", repo_type=DATA)
    header = ("header", {"summary": "s", "description": ""})
    lines = ndjson(header, ("lfsFile", {"path": "a.bin", "algo": "sha256", "oid": "0" * 64, "size": 3}))
    status, _, body = request("POST", f"{hub.url}/api/datasets/alice/r/commit/main", lines, hub.token)
    assert (status, b"not uploaded" in body) == (400, True)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "a//b", ".git/config"])
def test_paths_that_leave_the_repository_are_refused(hub, api, path):
    api.create_repo("alice/r", repo_type=DATA)
    file = {"path": path, "content": base64.b64encode(b"x").decode(), "encoding": "base64"}
    good = {**file, "path": "good.txt"}
    lines = ndjson(("header", {"summary": "s", "description": ""}), ("file", good), ("file", file))
    status, headers, _ = request("POST", f"{hub.url}/api/datasets/alice/r/commit/main", lines, hub.token)
    assert (status, bool(headers["X-Request-Id"])) == (422, True)
    assert "good.txt" not in hub.repo(DATA, "alice/r").resolve("main").files  # all or nothing
    hub.commit(DATA, "alice/r", {path: b"x"})  # while a scene may be set with such a path
    assert path in api.list_repo_files("alice/r", repo_type=DATA)


def test_commits_are_guarded_by_their_parent(hub, api):
    api.create_repo("alice/r")
    old = hub.repo("model", "alice/r").refs["main"]
    new = hub.commit("model", "alice/r", {"a.txt": b"theirs"})
    add = [CommitOperationAdd("a.txt", b"ours")]
    with pytest.raises(HfHubHTTPError, match="The branch was updated since you opened this page") as error:
        api.create_commit("alice/r", add, commit_message="m", parent_commit=old)
    assert error.value.response.status_code == 412
    assert hub.repo("model", "alice/r").read("main", "a.txt") == b"theirs"
    add = [CommitOperationAdd("a.txt", b"ours")]
    commit = api.create_commit("alice/r", add, commit_message="m", commit_description="why", parent_commit=new[:7])
    stored = hub.repo("model", "alice/r").commits[commit.oid]
    assert (stored.parent, stored.title, stored.message) == (new, "m", "why")
    again = api.create_commit("alice/r", [CommitOperationAdd("a.txt", b"ours")], commit_message="same")
    assert again.oid == commit.oid
    lines = ndjson(("header", {"summary": "s"}), ("file", {"path": "a.txt", "content": "ours"}))
    _, _, body = request("POST", f"{hub.url}/api/models/alice/r/commit/main", lines, hub.token)
    assert json.loads(body)["commitOid"] == commit.oid  # the server, too, makes no commit without a change


def test_deletions_copies_and_renames(hub, api):
    api.create_repo("alice/r", repo_type=DATA)
    adds = [CommitOperationAdd("d/a.bin", b"large\0" * 99), CommitOperationAdd("d/b.txt", b"small")]
    first = api.create_commit("alice/r", adds, commit_message="1", repo_type=DATA)
    moves = [
        CommitOperationCopy("d/a.bin", "moved.bin"),
        CommitOperationDelete("d/a.bin"),
        CommitOperationCopy("d/b.txt", "copied.txt"),
    ]
    api.create_commit("alice/r", moves, commit_message="2", repo_type=DATA)
    files = hub.repo(DATA, "alice/r").resolve("main").files
    assert set(files) == {".gitattributes", "moved.bin", "copied.txt", "d/b.txt"}
    assert (files["moved.bin"].size, files["moved.bin"].lfs) == (594, True)
    back = [CommitOperationCopy("d/a.bin", "back.bin", src_revision=first.oid), CommitOperationDelete("d/")]
    api.create_commit("alice/r", back, commit_message="3", repo_type=DATA)
    left = {".gitattributes", "moved.bin", "copied.txt", "back.bin"}
    assert set(hub.repo(DATA, "alice/r").resolve("main").files) == left
    assert hub.repo(DATA, "alice/r").read("main", "back.bin") == b"large\0" * 99
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        api.delete_file("nowhere.txt", "alice/r", repo_type=DATA)


def test_references(hub, api):
    api.create_repo("alice/r", repo_type=DATA)
    first = hub.repo(DATA, "alice/r").refs["main"]
    second = hub.commit(DATA, "alice/r", {"a.txt": b"a"})
    api.create_tag("alice/r", tag="v1", revision=first, repo_type=DATA)
    api.create_branch("alice/r", branch="feat/x", revision=first[:10], repo_type=DATA)
    api.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id="alice/r", repo_type=DATA, revision="feat/x")
    assert set(api.list_repo_files("alice/r", repo_type=DATA, revision="feat/x")) == {".gitattributes", "b.txt"}
    api.create_tag("alice/r", tag="v1", revision=second, exist_ok=True, repo_type=DATA)
    refs = api.list_repo_refs("alice/r", repo_type=DATA)
    assert {t.name: t.target_commit for t in refs.tags} == {"v1": first}  # the old target stays
    for status, refused in (
        (409, lambda: api.create_tag("alice/r", tag="v1", repo_type=DATA)),
        (409, lambda: api.create_branch("alice/r", branch="feat/x", repo_type=DATA)),
        (409, lambda: api.create_repo("alice/r", repo_type=DATA)),
        (404, lambda: api.create_tag("alice/r", tag="v3", revision="f" * 40, repo_type=DATA)),
        (400, lambda: api.create_tag("alice/r", tag="not a name", repo_type=DATA)),
        (403, lambda: api.delete_branch("alice/r", branch="main", repo_type=DATA)),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            refused()
        assert error.value.response.status_code == status
    api.delete_branch("alice/r", branch="feat/x", repo_type=DATA)
    assert set(hub.repo(DATA, "alice/r").refs) == {"main"}
