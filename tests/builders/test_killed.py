"""kill -9 at random moments of a build of 500 calls: each answer is used once, and the data set is equal.

Equal means: every Parquet file byte for byte, and manifest and card but for what a clock measured.
"""

import hashlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from builders.llm.store import CallStore
from tests.chat_server import NEGATIVES_SYSTEM, ChatServer, last_user_message
from tests.conftest import beir
from tests.fixtures import commands

PASSAGES, CONCURRENCY, BATCH = 250, 4, 64
MEASURED = ("call_seconds", "busy_seconds", "failed_tries")
NOUNS = ["owl", "bee", "eel", "ant", "bat", "cow", "fox", "hen", "pig", "ram", "yak", "elk"]
PLACES = ["river", "meadow", "cellar", "orchard", "harbour", "attic", "quarry", "marsh", "desert", "village"]


def answer(body, _):
    """What the request alone decides: a good text mostly, sometimes one that the checks reject."""
    lot = int.from_bytes(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()[:4], "big")
    time.sleep(0.01 + lot % 30 / 1000)
    if lot % 10 == 0:
        return "no"
    words = last_user_message(body).split()
    if body["messages"][0]["content"].startswith(NEGATIVES_SYSTEM):
        return f"Neighbouring matters {lot}: {' '.join(words[1:6])} are told here and answer nothing at all."
    return f"what does the {words[1].rstrip('.')} do {' '.join(words[5:8])}?"


@pytest.fixture
def recipe(tmp_path):
    """A recipe for 250 passages; the server's address comes with --set, as it shapes no answer."""
    dice = random.Random(7)
    passages = [
        (
            f"p{n}",
            f"{dice.choice(NOUNS)}{n}",
            f"In the {dice.choice(PLACES)} beyond number{n} it {dice.choice(['sleeps', 'hunts', 'sings'])} all day.",
        )
        for n in range(PASSAGES)
    ]
    path = tmp_path / "recipe.toml"
    corpus = beir(tmp_path / "corpus", passages)
    path.write_text(
        f'name = "killed"\n[corpus]\nsource = "{corpus}"\nsample = 0\nlicense = "cc0-1.0"\n'
        f'[llm]\nmodel = "scripted"\nconcurrency = {CONCURRENCY}\n[llm.prices]\ninput = 1.0\noutput = 2.0\n'
        '[queries]\nround_trip_k = 100\n[negatives]\nkinds = ["llm", "bm25", "random"]\n'
    )
    return path


@pytest.fixture
def command(recipe, tmp_path):
    def make(server, name):
        return [
            *(sys.executable, "-m", "builders.build", str(recipe), "--set", f"llm.base_url={server.url}"),
            *("--out", str(tmp_path / name / "dataset"), "--store", str(tmp_path / name / "calls.sqlite")),
        ]

    return make


def dataset(folder):
    """Its files, without what a clock measured."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    manifest["recipe"].pop("overrides")  # each server has a port of its own
    for figures in manifest["usage"].values():
        for name in MEASURED:
            figures.pop(name)
    card = files.pop("README.md").decode()
    card = re.sub(r"llm\.base_url=\S+", "", card)
    card = re.sub(r"(?m)^(\| (?:queries|llm) \| [\d,]+ \|.*?)\| \d+ \| [\d.]+ (?:s|min) \|$", r"\1", card)
    return files, manifest, card


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.nightly)])
def test_kill_9_at_random_moments_of_a_build(kills, command, tmp_path):
    with ChatServer() as server:
        server.script = answer
        undisturbed = commands.run(command(server, "whole"), capture_output=True, text=True, check=False)
        assert undisturbed.returncode == 0, undisturbed.stderr
        asked_once = Counter(json.dumps(body, sort_keys=True) for body in server.bodies)
    assert len(asked_once) >= 500
    assert set(asked_once.values()) == {1}

    dice, killed = random.Random(42), 0
    with ChatServer() as server:
        server.script = answer
        while killed < kills:
            before = len(server.bodies)
            process = commands.Popen(command(server, "killed"), stderr=subprocess.PIPE, text=True)
            while process.poll() is None and len(server.bodies) == before:
                time.sleep(0.005)
            time.sleep(dice.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL, "the build ended before it was killed: make it longer"
            killed += 1
            server.settle()
            with CallStore(tmp_path / "killed" / "calls.sqlite") as store:
                # Answered but not written yet: what was in flight, and the write buffer's few milliseconds.
                assert len(set(map(json.dumps, server.bodies))) - len(store) <= CONCURRENCY + BATCH
        finished = commands.run(command(server, "killed"), capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        asked = Counter(json.dumps(body, sort_keys=True) for body in server.bodies)
    assert asked.keys() == asked_once.keys()  # no row was lost, and none asked for anything else
    assert asked.total() - len(asked) <= kills * 2 * CONCURRENCY  # only what was in flight was asked for again
    with CallStore(tmp_path / "killed" / "calls.sqlite") as store:
        assert len(store) == len(asked_once)
    for killed_part, whole_part in zip(
        *(dataset(tmp_path / name / "dataset") for name in ("killed", "whole")), strict=True
    ):
        assert killed_part == whole_part
