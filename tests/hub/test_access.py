"""Gates, listings, and what is known of a repository."""

import json

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError

from tests.hub.clients import DATA, paths, request


def test_gated(hub, api, tmp_path):
    hub.add_token("hf_bob", "bob")
    hub.create_repo(DATA, "alice/gated", gated=True)
    hub.commit(DATA, "alice/gated", {"x.txt": b"x"})
    for token, status in (("hf_bob", 403), (False, 401)):
        client = HfApi(endpoint=hub.url, token=token)
        assert client.dataset_info("alice/gated").gated == "auto"
        assert "x.txt" in client.list_repo_files("alice/gated", repo_type=DATA)
        with pytest.raises(GatedRepoError) as refused:
            client.auth_check("alice/gated", repo_type=DATA)
        assert refused.value.response.status_code == status
        with pytest.raises(GatedRepoError):
            client.hf_hub_download("alice/gated", "x.txt", repo_type=DATA, cache_dir=tmp_path / str(status))
    assert api.hf_hub_download("alice/gated", "x.txt", repo_type=DATA, cache_dir=tmp_path / "alice")


def test_signed_urls_are_for_one_file_only(hub):
    hub.create_repo(DATA, "alice/r")
    hub.commit(DATA, "alice/r", {"a.bin": b"a", "b.bin": b"b"})
    files = hub.repo(DATA, "alice/r").resolve("main").files
    good = hub.signed_url(f"/cdn/{files['a.bin'].sha256}")
    assert request("GET", good)[2] == b"a"
    assert request("GET", good.replace(files["a.bin"].sha256, files["b.bin"].sha256))[0] == 403
    status, _, body = request("GET", f"{hub.files_url}/api/datasets/alice/r")
    assert (status, b"127.0.0.1" in body) == (404, True)


def test_listings_come_in_pages(hub, api):
    hub.create_repo(DATA, "alice/many")
    hub.commit(DATA, "alice/many", {f"d{i % 3}/{i:04}.txt": b"%d" % i for i in range(1100)})
    rows = list(api.list_repo_tree("alice/many", repo_type=DATA, recursive=True))
    assert len({row.path for row in rows}) == len(rows) == 1100 + 3 + 1  # files, folders, .gitattributes
    assert len(paths(hub, method="GET", path="/api/datasets/alice/many/tree/main")) == 2
    assert len(list(api.list_repo_tree("alice/many", "d0", repo_type=DATA))) == 367
    top = {row.path for row in api.list_repo_tree("alice/many", repo_type=DATA)}
    assert top == {".gitattributes", "d0", "d1", "d2"}
    infos = api.get_paths_info("alice/many", ["d1", "d0/0000.txt", "none"], repo_type=DATA)
    assert [info.path for info in infos] == ["d1", "d0/0000.txt"]


def test_repo_info(api):
    api.create_repo("alice/m")
    card = "---\nlicense: mit\ntags: [a, b]\nlibrary_name: sentence-transformers\nwhen: 2020-01-01\n---\nText"
    api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="alice/m")
    api.upload_file(path_or_fileobj=b"w" * 100, path_in_repo="model.safetensors", repo_id="alice/m")
    info = api.model_info("alice/m", files_metadata=True)
    assert (info.card_data.license, info.library_name, info.sha) == ("mit", "sentence-transformers", info.sha)
    weights = next(s for s in info.siblings if s.rfilename == "model.safetensors")
    assert (weights.size, weights.lfs.size) == (100, 100)
    assert api.model_info("alice/m", expand=["sha"]).siblings is None
    with pytest.raises(ValueError, match="Invalid metadata in README"):
        api.upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="alice/m")


def test_large_files_get_a_rule_and_empty_ones_are_never_large(hub, api):
    api.create_repo("alice/r", repo_type=DATA)
    big = CommitOperationAdd("big corpus.jsonl", b'{"text": "line"}\n' * 700_000)  # text, but more than 10 MB
    api.create_commit("alice/r", [big, CommitOperationAdd("empty.bin", b"")], commit_message="big", repo_type=DATA)
    repo = hub.repo(DATA, "alice/r")
    assert b"big[[:space:]]corpus.jsonl filter=lfs" in repo.read("main", ".gitattributes")
    hub.commit(DATA, "alice/r", {"none.bin": b"", "some.bin": b"x"})
    lfs = {path for path, entry in repo.resolve("main").files.items() if entry.lfs}
    assert lfs == {"big corpus.jsonl", "some.bin"}


def test_unknown_paths_get_json(hub):
    status, headers, body = request("GET", f"{hub.url}/api/telemetry/x/y")
    assert (status, headers["Content-Type"]) == (404, "application/json")
    assert "nothing is served" in json.loads(body)["error"]
