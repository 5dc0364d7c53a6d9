"""How the tests reach the Hub: clients in processes of their own, and requests that no client would send."""

import json
import os
import sys
import urllib.error
import urllib.request

from tests.fixtures import commands

DATA = "dataset"


def run(script, hub, tmp_path, **more):
    """Runs a client in a process of its own, with empty caches."""
    command = [sys.executable, "-c", script, str(tmp_path)]
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(tmp_path / "home"), **more}
    env.pop("HF_HUB_OFFLINE", None)
    done = commands.run(
        command,
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def request(method, url, body=None, token=None, **headers):
    """A request as no client would send it. Returns status, headers and body."""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, answer.read()


def paths(hub, **about):
    return [r.path for r in hub.requests if all(getattr(r, name) == value for name, value in about.items())]


def ndjson(*lines):
    return b"".join(json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in lines)
