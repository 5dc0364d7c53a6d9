"""Each scripted fault, as a real client meets it."""

import os
import signal
import subprocess
import sys

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from tests.hub import Fault
from tests.hub.clients import DATA, request

COMMIT = "/commit/main$"
XORB = "/v1/xorbs/"


@pytest.fixture(autouse=True)
def repo(hub):
    return hub.create_repo(DATA, "alice/r")


def upload(api, data=b"x", path="x.txt"):
    return api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id="alice/r", repo_type=DATA)


def test_a_fault_that_does_nothing_is_refused():
    with pytest.raises(ValueError, match="does nothing"):
        Fault(path="/x")
    with pytest.raises(ValueError, match="cut='before'"):
        Fault(cut="before")


@pytest.mark.parametrize(
    ("status", "path"), [(503, "/preupload/"), (429, "/preupload/"), (503, XORB), (500, "/v2/shards")]
)
def test_what_a_client_tries_again(hub, api, repo, status, path):
    fault = hub.faults.add(Fault(status=status, path=path, headers={"Retry-After": "0"}))
    data = os.urandom(1000)
    upload(api, data, "x.bin")
    assert (fault.fired, fault.seen) == (1, 2)
    assert repo.read("main", "x.bin") == data
    assert [r.status for r in hub.requests if path in r.path] == [status, 200]


@pytest.mark.parametrize("status", [401, 403, 412, 429, 500, 503])
def test_what_a_client_gives_up(hub, api, repo, status):
    hub.faults.add(Fault(status, "POST", COMMIT, body={"error": "scripted"}, headers={"X-Scripted": "yes"}))
    with pytest.raises(HfHubHTTPError) as error:
        upload(api)
    assert error.value.response.status_code == status
    assert error.value.response.headers["X-Scripted"] == "yes"
    assert "scripted" in error.value.response.text
    assert len(repo.commits) == 1
    upload(api)
    assert len(repo.commits) == 2


def test_after_and_times(hub):
    fault = hub.faults.add(Fault(500, "GET", "/refs$", after=1, times=2, body="<html>"))
    statuses = [request("GET", f"{hub.url}/api/datasets/alice/r/refs")[0] for _ in range(5)]
    assert statuses == [200, 500, 500, 200, 200]
    assert (fault.seen, fault.fired) == (5, 2)


def test_broken_connections(hub, api, repo):
    hub.faults.add(Fault(cut=True, path=COMMIT))
    with pytest.raises(httpx2.TransportError):
        upload(api)
    assert len(repo.commits) == 1
    assert [r.status for r in hub.requests if r.path.endswith("/commit/main")] == [None]
    hub.faults.add(Fault(cut="after", path=COMMIT))
    with pytest.raises(httpx2.TransportError):
        upload(api)
    assert repo.read("main", "x.txt") == b"x"  # the client cannot know
    hub.faults.add(Fault(cut=True, path="/preupload/"))
    hub.faults.add(Fault(cut=True, path=XORB))
    data = os.urandom(1000)
    upload(api, data, "x.bin")  # these it tries again
    assert repo.read("main", "x.bin") == data


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "tests.hub", "--user", "carol", "--storage", str(tmp_path / "bytes")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    exports = {}
    for line in server.stdout:
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            exports[name] = value
        if line.startswith("unset "):
            break
    api = HfApi(endpoint=exports["HF_ENDPOINT"], token=exports["HF_TOKEN"])
    assert api.whoami()["name"] == "carol"
    api.create_repo("carol/x", repo_type=DATA)
    assert list((tmp_path / "bytes").iterdir())
    server.send_signal(signal.SIGINT)
    rest, errors = server.communicate(timeout=20)
    assert (server.returncode, errors) == (0, "")
    assert "dataset carol/x" in rest
    assert not list((tmp_path / "bytes").iterdir())
