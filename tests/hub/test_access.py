"""Who may do what, and by which errors clients learn of it."""

import json

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.hub.clients import DATA, paths, request


@pytest.fixture
def others(hub):
    """Clients by who they are."""
    hub.add_token("hf_bob", "bob")
    hub.add_token("hf_alice_reads", "alice", role="read")
    tokens = {"bob": "hf_bob", "reader": "hf_alice_reads", "unknown": "hf_unknown", "anonymous": False}
    return {who: HfApi(endpoint=hub.url, token=token) for who, token in tokens.items()}


def status_of(do, error=HfHubHTTPError, **match):
    with pytest.raises(error, **match) as raised:
        do()
    return raised.value.response.status_code


def test_whoami(hub, api, others):
    hub.add_org("zoo", members=("alice", "bob"))
    me = api.whoami()
    assert (me["name"], me["auth"]["accessToken"]["role"]) == ("alice", "write")
    assert [org["name"] for org in me["orgs"]] == ["zoo"]
    assert others["reader"].whoami()["auth"]["accessToken"]["role"] == "read"
    assert status_of(others["unknown"].whoami, match="Invalid user token") == 401


def test_namespaces(hub, api, others):
    hub.add_org("zoo", members=("bob",))
    assert api.create_repo("mine", repo_type=DATA).repo_id == "alice/mine"
    assert others["bob"].create_repo("zoo/ours", repo_type=DATA).repo_id == "zoo/ours"
    for space in ("zoo", "bob", "nobody"):
        do = lambda space=space: api.create_repo(f"{space}/new", repo_type=DATA)  # noqa: E731
        assert status_of(do, match=f'under the namespace "{space}"') == 403
    assert hub.repos() == [(DATA, "alice/mine"), (DATA, "zoo/ours")]


def test_who_may_not_write(hub, others):
    hub.create_repo(DATA, "alice/r")

    def upload(client):
        return lambda: client.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="alice/r", repo_type=DATA)

    reader, bob = others["reader"], others["bob"]
    assert status_of(upload(reader), match="write token") == 403
    assert status_of(upload(bob)) == 403
    assert not any("/commit/" in path for path in paths(hub))  # they learn it from preupload
    assert status_of(upload(others["anonymous"]), RepositoryNotFoundError) == 401
    assert status_of(upload(others["unknown"]), match="Invalid credentials") == 401
    assert status_of(lambda: reader.create_repo("alice/new")) == 403
    assert status_of(lambda: reader.create_tag("alice/r", tag="v1", repo_type=DATA)) == 403
    assert status_of(lambda: reader.create_branch("alice/r", branch="b", repo_type=DATA)) == 403
    assert status_of(lambda: bob.delete_branch("alice/r", branch="b", repo_type=DATA)) == 403
    assert status_of(lambda: others["anonymous"].create_repo("alice/new")) == 401
    reader.auth_check("alice/r", repo_type=DATA)
    assert status_of(lambda: reader.auth_check("alice/r", repo_type=DATA, write=True)) == 403
    status, _, body = request("POST", f"{hub.url}/api/datasets/alice/r/commit/main", b"{}", "hf_alice_reads")
    assert (status, b"write token" in body) == (403, True)
    assert request("GET", f"{hub.url}/api/datasets/alice/r/xet-write-token/main", token="hf_bob")[0] == 403


def test_private(hub, api, others, tmp_path):
    api.create_repo("alice/secret", repo_type=DATA, private=True)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.bin", repo_id="alice/secret", repo_type=DATA)
    assert hub.repo(DATA, "alice/secret").private
    for who, status in (("bob", 404), ("anonymous", 401)):
        client = others[who]
        info = lambda client=client: client.dataset_info("alice/secret")  # noqa: E731
        assert status_of(info, RepositoryNotFoundError) == status
        with pytest.raises(RepositoryNotFoundError):
            client.hf_hub_download("alice/secret", "x.bin", repo_type=DATA, cache_dir=tmp_path / who)
        assert not list(client.list_datasets(author="alice"))
    reader = others["reader"]
    assert reader.dataset_info("alice/secret").private
    assert [repo.id for repo in reader.list_datasets(author="alice")] == ["alice/secret"]
    hub.add_org("alice", members=("bob",))
    assert others["bob"].dataset_info("alice/secret").id == "alice/secret"
    missing = lambda: others["anonymous"].model_info("alice/nothing")  # noqa: E731
    assert status_of(missing, RepositoryNotFoundError) == 401


def test_gated(hub, api, others, tmp_path):
    hub.create_repo(DATA, "alice/gated", gated=True)
    hub.commit(DATA, "alice/gated", {"x.txt": b"x"})
    for who, status in (("bob", 403), ("anonymous", 401)):
        client = others[who]
        assert client.dataset_info("alice/gated").gated == "auto"
        assert "x.txt" in client.list_repo_files("alice/gated", repo_type=DATA)
        assert (
            status_of(lambda client=client: client.auth_check("alice/gated", repo_type=DATA), GatedRepoError) == status
        )
        with pytest.raises(GatedRepoError):
            client.hf_hub_download("alice/gated", "x.txt", repo_type=DATA, cache_dir=tmp_path / who)
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
