"""Errors around the Hub: the clients' are explained, our own are not blamed on it."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from foils.errors import UserError
from foils.hub import explained


def test_a_mistake_of_ours_is_not_blamed_on_the_hub():
    with pytest.raises(ValueError, match="invalid literal for int"), explained("publishing"):
        int("a")
    stopped = (next(iter(())) for _ in range(1))
    with pytest.raises(RuntimeError, match="generator raised StopIteration"), explained("publishing"):
        list(stopped)


def test_what_the_clients_raise_is_explained():
    with pytest.raises(UserError, match="model x: not a name that the Hub allows"), explained("model x"):
        HfApi().repo_info("not/a/name")
    with pytest.raises(UserError, match=r"model x: this machine says: .*No such file"), explained("model x"):
        Path("/no/such/file").read_text()
    with pytest.raises(UserError, match=r"file x: .*cannot be read"), explained("file x"):
        json.loads("{")
