"""Two processes on a CPU train as one does: the same batch, cut in two, gives the same weights."""

import json
import re
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Router, Transformer

from builders.dataset.folder import write_config
from foils.recipe import load_recipe
from tests.conftest import ANIMALS
from tests.fixtures import ROOT, tiny
from tests.fixtures.two_machines import NEAR, on_two_machines
from training import train
from training.recipe import TrainRecipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    facts = [f"{text} {place}" for place in ("Here.", "There.", "In France.", "In Peru.", "At sea.", "Up high.")
             for text in ANIMALS.values()]  # fmt: skip
    rows = {"query": [f"what of it? {text[:30]} {number}" for number, text in enumerate(facts)], "positive": facts,
            "negative_1": facts[5:] + facts[:5]}  # fmt: skip
    write_config(folder / "dataset", "bm25", pa.table(rows))
    base = tiny.retriever("mean", folder / "base")
    path = folder / "train.toml"
    # SGD: Adam makes a whole step of a gradient that is nothing but rounding.
    path.write_text(
        f'dataset = "{folder / "dataset"}"\nkind = "bm25"\nbase = "{base}"\nmax_seq_length = 32\nprecision = "fp32"\n'
        'dropout = 0.0\n[trainer]\nmax_steps = 2\nlearning_rate = 0.1\noptim = "sgd"\n'
        'dataloader_drop_last = true\nlr_scheduler_type = "constant"\n'
    )
    return path


def launch(launcher, recipe, out, *overrides, threads=None):
    values = [word for override in overrides for word in ("--set", override)]
    values += [] if threads is None else ["--threads", str(threads)]
    command = [*launcher, recipe, "--out", out, *values]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=recipe.parent)


def accelerate(config):
    file = ROOT / "training" / "accelerate" / config
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", file, ROOT / "training" / "train.py"]


def test_1_x_64_and_2_x_32_train_alike(recipe, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train.main(load_recipe(recipe, ["trainer.per_device_train_batch_size=64"], TrainRecipe), one)
    finished = launch(accelerate("cpu.yaml"), recipe, two, "trainer.per_device_train_batch_size=32")
    assert finished.returncode == 0, finished.stderr[-3000:]
    record = json.loads((two / "run.json").read_text())
    assert record["hardware"]["processes"] == 2
    assert record["training"]["batch_size"] == 64
    base = load_file(load_recipe(recipe, [], TrainRecipe).config.base + "/model.safetensors")
    alone, together = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    moved = max(float((alone[name] - base[name]).abs().max()) for name in alone if alone[name].is_floating_point())
    apart = max(float((alone[name] - together[name]).abs().max()) for name in alone)
    assert moved > 1e-4
    assert apart < 0.01 * moved
    ours = [sys.executable, "-m", "foils", "train", "--processes", "2"]
    refused = launch(ours, recipe, one, "trainer.per_device_train_batch_size=32")  # by both, and reported once
    assert refused.returncode == 2
    errors = [line for line in refused.stderr.splitlines() if "rror" in line]
    assert errors == refused.stderr.splitlines()[-1:]
    assert "that differs: trainer.per_device_train_batch_size 64 -> 32" in errors[0]


def test_a_router_trains_alike(recipe, tmp_path):
    ways = [[Transformer(str(tiny.raw("bert", tmp_path / name))), Pooling(32, "mean")] for name in ("query", "passage")]
    router = Router.for_query_document(query_modules=ways[0], document_modules=ways[1])
    SentenceTransformer(modules=[router], device="cpu").save_pretrained(str(tmp_path / "base"))
    values = (f"base={tmp_path / 'base'}", "loss=triplet", "trainer.per_device_train_batch_size=")
    train.main(load_recipe(recipe, [*values[:2], f"{values[2]}64"], TrainRecipe), tmp_path / "one")
    ours = [sys.executable, "-m", "foils", "train", "--processes", "2"]
    finished = launch(ours, recipe, tmp_path / "two", *values[:2], f"{values[2]}32")
    assert finished.returncode == 0, finished.stderr[-3000:]
    files = [file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*.safetensors")]
    assert len(files) == 2
    for file in files:
        base, alone, together = (load_file(tmp_path / name / file) for name in ("base", "one", "two"))
        moved = max(float((alone[name] - base[name]).abs().max()) for name in alone)
        assert 0 < max(float((alone[name] - together[name]).abs().max()) for name in alone) + 1e-12 < 0.01 * moved


ONE, GPUS = "default", "gpus.yaml"


@pytest.mark.parametrize(
    ("config", "override", "out", "words"),
    [
        (ONE, "knid=bm25", "x", "unknown key knid; allowed here: dataset, kind"),
        ("cpu.yaml", "trainer.dataloader_drop_last=false kind=nope", "x", "kind 'nope': "),
        (ONE, "seed=1", "train.toml/x", "train.toml: File exists; make room there, or name another place"),
        pytest.param(
            *(GPUS, "seed=1", "x", "num_processes 2: torch sees 0 GPUs here, and each process needs one"),
            marks=pytest.mark.skipif(torch.accelerator.is_available(), reason="for machines without a GPU"),
        ),
    ],
)
def test_an_error_is_one_line_under_accelerate_too(recipe, config, override, out, words):
    more = [] if config == ONE else ["--config_file", ROOT / "training" / "accelerate" / config, "--num_processes", "2"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *more, ROOT / "training" / "train.py"]
    finished = launch(command, recipe, recipe.parent / out, *override.split())
    assert finished.returncode < 0  # the launcher is ended before it can say more
    (line,) = [line for line in finished.stderr.splitlines() if line.strip() and not DEFAULTS.match(line)]
    assert line.startswith("error: ")
    assert words in line


@pytest.mark.parametrize(
    ("word", "override", "code"), [("run", "knid=bm25", 2), ("launch", "trainer.max_steps=1000", 130)]
)
def test_a_parent_that_is_not_a_launcher_and_ctrl_c_end_nothing(recipe, tmp_path, word, override, code):
    (tmp_path / "accelerate").write_text(
        "import signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, *sys.argv[2:]], stderr=subprocess.PIPE, text=True)\n"
        "for line in child.stderr:\n"
        "    if line.startswith('pre-flight'):\n"
        "        child.send_signal(signal.SIGINT)\n"
        "print(child.wait())\n"
    )
    command = [sys.executable, tmp_path / "accelerate", word, ROOT / "training" / "train.py"]
    finished = launch(command, recipe, tmp_path / "x", override)
    assert (finished.returncode, finished.stdout) == (0, f"{code}\n")


DEFAULTS = re.compile(
    r"The following values were not passed|\s+(`--|More than one|warnings.warn)|To avoid this warning|"
    r".* is already in use"
)
"""What accelerate says of its own settings."""


def on_machine(rank, recipe, out, *before):
    """The command that trains on a machine, with one thread."""
    options = ["--machine_rank", rank, "--main_process_ip", NEAR, "--num_processes", 2, "--gpu_ids=-1"]
    *start, script = accelerate("machines.yaml")
    return [*before, *start, *options, script, recipe, "--out", out, "--threads", 1, *DEV]


DEV = [word for value in ("max_steps=12", "per_device_train_batch_size=8") for word in ("--set", f"trainer.{value}")]
DEV += ["--set", "dev.queries=8", "--set", "dev.every=2"]


@pytest.mark.nightly
def test_two_machines_train_as_one_does_to_the_bit_and_over_a_kill(recipe, tmp_path):
    one, two, killed = tmp_path / "one", tmp_path / "two", tmp_path / "killed"
    finished = launch(accelerate("cpu.yaml"), recipe, one, *DEV[1::2], threads=1)
    assert finished.returncode == 0, finished.stderr[-3000:]
    machines = on_two_machines(on_machine(0, recipe, two), on_machine(1, recipe, two))
    said, _ = machines.communicate()
    assert machines.returncode == 0, said[-3000:]
    machines = on_two_machines(on_machine(0, recipe, killed), on_machine(1, recipe, killed))
    while not list((tmp_path / "killed.partial").glob("checkpoints/*/complete.json")):
        assert machines.poll() is None, machines.stdout.read()[-3000:]
        time.sleep(0.02)
    kill_rank_1(machines)
    said, _ = machines.communicate()
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: another process of this training has ended; see what it printed on its machine")
    machines = on_two_machines(on_machine(0, recipe, killed), on_machine(1, recipe, killed))
    said, _ = machines.communicate()
    assert machines.returncode == 0, said[-3000:]
    records = [json.loads((folder / "run.json").read_text()) for folder in (one, two, killed)]
    assert records[2]["training"]["resumed_from"] > 0
    assert records[0]["model"] == records[1]["model"] == records[2]["model"]
    assert records[0]["training"]["dev"] == records[1]["training"]["dev"] == records[2]["training"]["dev"]
    assert records[1]["hardware"]["processes"] == 2


def kill_rank_1(machines):
    for process in psutil.Process(machines.pid).children(recursive=True):
        with suppress(psutil.Error):
            if process.environ().get("RANK") == "1" and "training/train.py" in " ".join(process.cmdline()):
                process.kill()


def test_an_output_folder_that_one_machine_does_not_see_is_refused(recipe, tmp_path):
    out = tmp_path / "private" / "model"
    out.parent.mkdir()
    disk_of_its_own = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0"; exec "$@"', out.parent]
    machines = on_two_machines(on_machine(0, recipe, out), on_machine(1, recipe, out, *disk_of_its_own))
    said, _ = machines.communicate()
    assert machines.returncode != 0
    lines = {line for line in said.splitlines() if line.startswith("error: ")}
    assert lines == {
        f"error: output folder {out}.partial: not seen by every machine; name one on a disk that all share"
    }
    assert "Traceback" not in said
