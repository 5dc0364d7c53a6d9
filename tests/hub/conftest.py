"""One Hub for these tests, made new for each."""

import os
import tempfile

import pytest

from tests.hub import Hub

if "HF_HOME" not in os.environ:  # read once, when the Hub library is imported
    _home = tempfile.TemporaryDirectory(prefix="hf-home-", ignore_cleanup_errors=True)
    os.environ["HF_HOME"] = _home.name

from huggingface_hub import HfApi


@pytest.fixture(scope="module")
def server():
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(server):
    server.reset()
    return server


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token)
