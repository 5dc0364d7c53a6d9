"""Who may publish what and where, what else stands in the way, and that no token is ever seen.

Each test ends with a search for the tokens in all that was written, said and raised.
"""

import gzip
import io
import logging
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError

from builders import corpus
from builders.publish import publish_dataset
from builders.recipe import CorpusConfig
from cards.merging import parse_card
from cards.publish.release import Target
from foils.errors import UserError
from foils.hub import explained, patiently
from tests.conftest import CANARY
from tests.fixtures import commands
from tests.fixtures.publications import assert_whole, published, state
from tests.hub import Fault, Hub

pytestmark = pytest.mark.hub

READER, UNKNOWN, STRANGER = (f"hf_{name}{CANARY[3:]}" for name in ("reader", "unknown", "stranger"))
TOKENS = [CANARY, READER, UNKNOWN, STRANGER]
NOTHING_LISTENS = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def said(capfd, caplog, tmp_path, hub):
    """Texts of exceptions and of other processes; all must be free of tokens, and so must files and logs."""
    caplog.set_level(logging.INFO)
    texts = []
    yield texts
    texts += [*capfd.readouterr(), caplog.text, *(f"{request.path}?{request.query}" for request in hub.requests)]
    assert not any(token in text for text in texts for token in TOKENS)
    assert tokens_in(tmp_path) == tokens_in(Path(constants.HF_HOME)) == []
    assert not any(request.authorized for request in hub.requests if request.host.startswith("localhost"))


def tokens_in(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path != Path(constants.HF_TOKEN_PATH)]
    return [path for path in files if any(token.encode() in path.read_bytes() for token in TOKENS)]


def refused(said, call, *args, **options):
    """The one line that a user would see."""
    with pytest.raises(UserError) as caught:
        call(*args, **options)
    said += ["".join(traceback.format_exception(caught.value)), repr(caught.value)]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def command(said, *arguments, **environment):
    """Exit code and last line of a publication as a command, with other variables."""
    finished = commands.module("builders.publish", *arguments, **environment)
    said += [finished.stdout, finished.stderr]
    assert "Traceback" not in finished.stderr
    return finished.returncode, finished.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory):
    """A publication to a Hub that is down; it is patient for half a minute, so it begins before all else."""
    folder = tmp_path_factory.mktemp("unreachable")
    (folder / "manifest.json").write_text('{"format": 4, "license": "mit"}')
    (folder / "README.md").write_text("<!-- foils:use begin -->\n<!-- foils:use end -->\n")
    line = [sys.executable, "-m", "builders.publish", str(folder), "--push", "alice/down"]
    environment = {**os.environ, "HF_ENDPOINT": NOTHING_LISTENS}
    with commands.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.usefixtures("unreachable")
def test_the_search_for_tokens_can_fail(tmp_path):
    (tmp_path / "log").write_text(f"Bearer {CANARY}")
    assert tokens_in(tmp_path) == [tmp_path / "log"]
    (tmp_path / "log").unlink()


@pytest.mark.usefixtures("storage")
def test_a_private_repository_is_never_seen_by_others(hub, built_animals, monkeypatch, said):
    hub.add_token(STRANGER, "bob")
    seen = []

    def look(_number, method, path):
        if method == "POST" and "/commit/" in path:
            seen.append(hub.repo("dataset", "alice/secret").private)

    hub.on_request = look
    folder = built_animals("one")
    publish_dataset(folder, Target("alice/secret", private=True))
    publish_dataset(folder, Target("alice/secret", private=True))
    assert_whole(hub, "alice/secret", {"v1.0.0": folder}, "v1.0.0")
    assert seen == [True, True]
    for token in (STRANGER, False):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(token=token).list_repo_refs("alice/secret", repo_type="dataset")
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    assert "have the rights to create a dataset" in refused(said, publish_dataset, folder, Target("alice/secret"))


def test_private_does_not_hold_for_a_public_repository(hub, built_animals, said):
    hub.create_repo("dataset", "alice/public")
    before = state(hub, "alice/public")
    assert refused(said, publish_dataset, built_animals("one"), Target("alice/public", private=True)) == (
        "dataset alice/public: exists and is public, so --private cannot hold; name another repository, or change its "
        "visibility in its settings"
    )
    assert state(hub, "alice/public") == before


def test_organisations(hub, built_animals, said):
    hub.add_org("zoo", ("alice", "bob"))
    hub.add_org("bank", ("bob",))
    hub.create_repo("dataset", "bob/his")
    folder = built_animals("one")
    publish_dataset(folder, Target("zoo/animals"))
    assert_whole(hub, "zoo/animals", {"v1.0.0": folder}, "v1.0.0")
    for owner in ("bank", "nobody"):
        assert refused(said, publish_dataset, folder, Target(f"{owner}/animals")) == (
            f"publishing v1.0.0 to dataset {owner}/animals: your token does not allow this (You don't have the rights "
            f'to create a dataset under the namespace "{owner}"); use one with write access to that user or '
            "organisation, from https://huggingface.co/settings/tokens"
        )
    assert "Forbidden: alice may not write to bob/his" in refused(said, publish_dataset, folder, Target("bob/his"))
    assert hub.repos() == [("dataset", "bob/his"), ("dataset", "zoo/animals")]
    assert set(hub.repo("dataset", "bob/his").refs) == {"main"}


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (READER, "your token does not allow this (Forbidden: you must use a write token to change a repository); use"),
        (
            UNKNOWN,
            "the Hub does not know your token (Invalid credentials in Authorization header); run `hf auth login`",
        ),
        (None, "the Hub wants to know who you are; run `hf auth login` or set HF_TOKEN"),
    ],
    ids=["read only", "unknown", "none"],
)
def test_tokens_that_will_not_do(hub, built_animals, monkeypatch, said, token, words):
    hub.add_token(READER, "alice", "read")
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    assert words in refused(said, publish_dataset, built_animals("one"), Target("alice/tokens"))
    assert hub.repos() == []


def test_what_the_hub_says_is_told_without_the_token(hub, built_animals, said, caplog):
    fault = Fault(403, "POST", "/commit/", body={"error": f"the token {CANARY}\nmay not"})
    hub.faults.add(fault)
    line = refused(said, publish_dataset, built_animals("one"), Target("alice/echo"))
    assert "your token does not allow this (the token hf_*** may not); use" in line
    hub.faults.add(Fault(403, "DELETE", "/branch/", body={"error": f"not with {CANARY}"}))
    publish_dataset(built_animals("one"), Target("alice/echo"))
    assert "could not be deleted: not with hf_***" in caplog.text


@pytest.mark.parametrize(
    "name", ["a b/c", "alice/..", "alice/x--y", "alice/näme", "alice/" + 100 * "x", "alice/x.git", "alice/a/b"]
)
def test_names_that_the_hub_refuses(hub, built_animals, said, name):
    line = refused(said, publish_dataset, built_animals("one"), Target(name))
    assert line.startswith(f"dataset {name}: not a name that the Hub allows: ")
    assert re.search("must use alphanumeric|must be in the form|Cannot have -- or|cannot end by '.git'", line)
    assert hub.repos() == hub.requests == []


def test_options_are_refused_before_anything_is_asked(hub, tmp_path, said):
    for push in ("a b/c", "alice", "alice/", "https://huggingface.co/alice/x"):
        code, line = command(said, tmp_path, "--push", push)
        assert code == 2
        assert line == f"error: --push {push}: wanted OWNER/NAME, a user or organisation and a repository"
    assert hub.requests == []


def test_a_licence_is_needed(hub, built_animals, said):
    folder = built_animals("one")
    manifest = folder / "manifest.json"
    manifest.write_text(
        re.sub(r'^  "license": "cc0-1.0"', '  "license": null', manifest.read_text(), flags=re.MULTILINE)
    )
    line = refused(said, publish_dataset, folder, Target("alice/unlicensed"))
    assert re.fullmatch(
        rf"data set {folder}: the licence of its corpus \(animals\) is unknown, and what is published needs one; "
        "say it with --license, such as --license cc-by-4.0, or with corpus.license",
        line,
    )
    assert hub.requests == []
    publish_dataset(folder, Target("alice/unlicensed", license="cc-by-4.0"))
    assert parse_card(published(hub, "alice/unlicensed", "main")["README.md"].decode()).data["license"] == "cc-by-4.0"


def test_offline(built_animals, said):
    code, line = command(said, built_animals("one"), "--push", "alice/offline", HF_HUB_OFFLINE="1")
    assert code == 2
    assert line.startswith("error: dataset alice/offline: HF_HUB_OFFLINE is set, so the Hub is not asked; unset it")


@pytest.mark.skipif(constants.HF_HUB_DISABLE_XET, reason="is about what happens without that variable")
def test_a_hub_without_xet_storage_and_the_lfs_lane(built_animals, said):
    folder = built_animals("one")
    options = [folder, "--push", "alice/plain", "--version", "v1.0.0"]
    with Hub(xet=False, token=CANARY) as hub:
        code, line = command(said, *options, HF_ENDPOINT=hub.url)
        assert code == 2
        assert re.match(r"error: publishing v1\.0\.0 to dataset alice/plain: the connection to the Hub failed", line)
        assert line.endswith(
            "run the same command again, or, if this Hub has no Xet storage, with HF_HUB_DISABLE_XET=1"
        )
        assert hub.repo("dataset", "alice/plain").tags == {}
        hub.requests.clear()
        code, line = command(said, *options, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1")
        assert code == 0, line
        assert_whole(hub, "alice/plain", {"v1.0.0": folder}, "v1.0.0")
        assert any(request.path.startswith("/lfs/") for request in hub.requests)
        assert not any("/xet/" in request.path or "/xet-" in request.path for request in hub.requests)
        assert not any(request.authorized for request in hub.requests if request.host.startswith("localhost"))


@pytest.mark.skipif(constants.HF_HUB_DISABLE_XET, reason="is about what happens without that variable")
def test_the_xet_lane_is_the_usual_one(hub, built_animals):
    publish_dataset(built_animals("one"), Target("alice/xet"))
    assert any(re.search("/xet/.*/shards", request.path) for request in hub.requests)
    assert not any(request.path.startswith("/lfs/") for request in hub.requests)


def parquet():
    data = io.BytesIO()
    pq.write_table(pa.table({"_id": ["a", "b"], "title": ["A", "B"], "text": ["one", "two"]}), data)
    return data.getvalue()


def on_hub(hub, repo_id, files, **options):
    hub.create_repo("dataset", repo_id, **options)
    hub.commit("dataset", repo_id, files)
    hub.tag("dataset", repo_id, "v1.0.0")
    return CorpusConfig(repo_id, "v1.0.0")


@pytest.mark.usefixtures("storage")
def test_a_corpus_from_the_hub(hub, said):
    card = b"---\nlicense: cc-by-4.0\n---\n"
    source = on_hub(hub, "bob/corpus", {"train.parquet": parquet(), "README.md": card})
    loaded = corpus.load(source)
    assert loaded.passages["text"].to_pylist() == ["one", "two"]
    assert (loaded.source, loaded.license) == ("bob/corpus", "cc-by-4.0")
    commit = hub.repo("dataset", "bob/corpus").tags["v1.0.0"]
    assert loaded.revision == commit
    moved = hub.commit("dataset", "bob/corpus", {"more.txt": b"1"})
    hub.move_tag("dataset", "bob/corpus", "v1.0.0", "main")
    line = refused(said, corpus.load, source)
    assert line.startswith(
        f"dataset bob/corpus@v1.0.0: the tag has moved: it was {commit} when it was first used here and is {moved} now;"
    )


def test_a_corpus_in_lines_from_the_hub_and_again_without_it(hub, monkeypatch):
    files = {f"{split}.jsonl.gz": gzip.compress(b'{"_id": 7, "text": "2020-01-01"}\n{"_id": "b", "text": "two"}\n')
             for split in ("train", "test")}  # fmt: skip
    source = on_hub(hub, "bob/lines", files)
    online = corpus.load(source).passages.to_pylist()
    assert [(row["_id"], row["text"]) for row in online] == [("7", "2020-01-01"), ("b", "two")]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert corpus.load(source).passages.to_pylist() == online


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        ("texts", "train.txt", "train.txt is not of a form that is read from the Hub; wanted JSON lines, JSON, CSV"),
        ("evil", "../evil.parquet", "holds the path '../evil.parquet', which would leave the folder it is read into"),
        ("empty", "notes.bin", "No (supported) data files found in bob/empty"),
    ],
)
def test_corpora_that_are_not_read(hub, said, name, path, words):
    files = {path: b'{"_id": "a", "text": "x"}\n'} if name != "evil" else {path: parquet(), "train.parquet": parquet()}
    line = refused(said, corpus.load, on_hub(hub, f"bob/{name}", files))
    assert line.startswith(f"dataset bob/{name}")
    assert words in line
    assert list(Path(constants.HF_HOME).rglob("evil.parquet")) == []
    assert name != "evil" or not any("evil" in request.path for request in hub.requests if "/resolve/" in request.path)


def test_a_gated_corpus(hub, said):
    line = refused(said, corpus.load, on_hub(hub, "bob/gated", {"train.parquet": parquet()}, gated=True))
    assert line == (
        "dataset bob/gated@v1.0.0: gated: its owner decides who may read it; ask on its page for access for your "
        "token's account"
    )


def test_a_hub_that_is_down_is_one_line():
    with explained("asking"), pytest.raises(httpx2.ConnectError):
        patiently(lambda: HfApi(endpoint=NOTHING_LISTENS).list_repo_refs("alice/x"), pause_s=0.001)


def test_a_hub_that_was_down_all_the_time(unreachable, said):
    errors = unreachable.communicate(timeout=120)[1]
    said.append(errors)
    assert unreachable.returncode == 2, errors
    *waiting, last = errors.splitlines()
    assert [re.search(r"cannot be reached .*; trying again in (\S+) s$", line)[1] for line in waiting] == [
        *("1.0", "2.0", "4.0", "8.0", "16.0")
    ]
    assert re.fullmatch(
        r"error: dataset alice/down: the connection to the Hub failed \(.*refused.*\); nothing is lost, run the same "
        "command again",
        last,
    )
