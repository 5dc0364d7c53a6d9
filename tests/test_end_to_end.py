"""The main job with nothing scripted: real LLM server, cross-encoder, training, evaluation, and a real kill."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from datasets import load_dataset

from builders.corpus import python_docs
from builders.llm.store import CallStore
from tests.conftest import BASE
from tests.fixtures import ROOT, commands


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a corpus of 80 passages and the recipes of every step."""
    folder = tmp_path_factory.mktemp("end-to-end")
    passages = [row for row in python_docs.passages() if re.match(r"(json|shutil|random|heapq|textwrap)\b", row["_id"])]
    long_enough = [row for row in passages if len(row["text"]) > 80][:80]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long_enough))
    (folder / "ranker.toml").write_text(
        f'dataset = "x"\nkind = "bm25+random"\nbase = "{BASE}"\ntask = "cross-encoder"\nmax_seq_length = 64\n'
        "[trainer]\nmax_steps = 2\nper_device_train_batch_size = 4\n"
    )
    (folder / "build.toml").write_text(
        f'name = "e2e"\n[corpus]\nsource = "{folder / "corpus.jsonl"}"\nsample = 14\nlicense = "psf-2.0"\n'
        '[exam]\nqueries = 6\ntypes = { "exam-question-v1" = 1 }\n'
        "[queries]\nround_trip_k = 20\n[negatives.llm]\nmax_tokens = 48\n"
        f'[negatives.cross-encoder]\ntrain_with = "{folder / "ranker.toml"}"\npool = 5\nmax_length = 64\n'
    )
    (folder / "train.toml").write_text(
        f'dataset = "{folder / "dataset"}"\nkind = "cross-encoder"\nbase = "{BASE}"\nmax_seq_length = 64\n'
        "[trainer]\nmax_steps = 2\nper_device_train_batch_size = 4\n"
    )
    (folder / "eval.toml").write_text(
        f'model = "{folder / "model"}"\ntasks = ["{folder / "dataset"}"]\nresults = "{folder / "results"}"\n'
    )
    return folder


def python(*arguments):
    return [sys.executable, "-m", *map(str, arguments)]


def run(*arguments):
    finished = commands.run(python(*arguments), capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    return finished


def test_the_main_job(work):
    build = ["builders.build", work / "build.toml", "--out", work / "dataset", "--store", work / "calls.sqlite"]

    killed = commands.Popen(python(*build), stderr=subprocess.DEVNULL, cwd=ROOT)
    deadline = time.monotonic() + 200
    with CallStore(work / "calls.sqlite") as store:
        while len(store) < 4:
            assert killed.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        servers = psutil.Process(killed.pid).children(recursive=True)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert psutil.wait_procs(servers, timeout=20)[1] == []
        answered = len(store)
        assert answered >= 4
        finished = run(*build)
        new_calls = int(re.search(r"(\d+) new LLM calls", finished.stderr)[1])
        assert new_calls == len(store) - answered

    manifest = json.loads((work / "dataset" / "manifest.json").read_text())
    rows = manifest["configs"]["llm"]["rows"]
    assert rows >= 4
    for kind in ("llm", "bm25", "cross-encoder", "random"):
        assert len(load_dataset(str(work / "dataset"), kind, split="train", cache_dir=str(work / "cache"))) == rows
    assert manifest["models"]["cross-encoder"]["revision"].startswith("sha256:")
    assert manifest["usage"]["queries"]["prompt_tokens"] > 1000
    assert str(work) not in json.dumps({**manifest, "recipe": None, "settings": None})

    assert "nothing to do" in run(*build).stderr

    launch = ["accelerate.commands.launch", "--num_processes", "1", ROOT / "training" / "train.py"]
    run(*launch, work / "train.toml", "--out", work / "model")
    record = json.loads((work / "model" / "run.json").read_text())
    assert record["dataset"]["kind"] == "cross-encoder"
    assert record["dataset"]["rows"] == rows
    assert record["dataset"]["name"] == "e2e"

    table = run("eval.run", work / "eval.toml").stdout
    assert f"e2e (test, {manifest['exam']['queries']} queries)" in table
    assert [line.split("  ")[0] for line in table.splitlines()[2:4]] == ["untouched base", "model"]
    card = (work / "model" / "README.md").read_text()
    assert "model-index" in card
    assert "| e2e (test" in card
