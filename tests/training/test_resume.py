"""Training that is killed goes on to the weights that it would have had undisturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from foils.recipe import load_recipe
from tests.fixtures import ROOT, commands, tiny
from tests.fixtures.small_disk import on_a_small_disk
from tests.fixtures.training import TEXTS, recipe_for
from training import train
from training.loop.checkpoints import CHECKPOINTS, INPUTS, MARK, last_checkpoint
from training.loop.trainer import _remedy
from training.recipe import TrainRecipe

EIGHT = [f"{text}, {where}" for where in ("by day", "at night") for text in TEXTS][:8]
STEPS = 10  # of 4 an epoch: the order of rows in the third must come out right too


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    rows = {"query": [f"who? {text}" for text in EIGHT], "positive": EIGHT, "negative_1": EIGHT[1:] + EIGHT[:1]}
    recipe_for(
        *(folder, tiny.retriever("mean", folder / "base"), rows, 'max_seq_length = 32\nprecision = "fp32"\n'),
        f"max_steps = {STEPS}\nper_device_train_batch_size = 2\nlearning_rate = 1e-3\n"
        'save_strategy = "steps"\nsave_steps = 1\nlogging_steps = 3\nwarmup_steps = 2\n',
    )
    return folder / "train.toml"


@pytest.fixture(scope="module")
def undisturbed(recipe):
    out = recipe.parent / "undisturbed"
    train.main(load_recipe(recipe, [], TrainRecipe), out)
    return out


def command(recipe, out, *overrides):
    values = [word for override in overrides for word in ("--set", override)]
    threads = str(os.cpu_count() or 1)
    return [sys.executable, "-m", "training.train", str(recipe), "--out", str(out), "--threads", threads, *values]


def steps_of(folder):
    return [int(path.name.rpartition("-")[2]) for path in (folder / CHECKPOINTS).glob("checkpoint-*")]


def kill_at(step, recipe, out, *overrides):
    """Kills a run as soon as the folder of a checkpoint is there, whole or not."""
    run = commands.Popen(command(recipe, out, *overrides), stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 600
    while max(steps_of(out.with_name(f"{out.name}.partial")), default=0) < step:
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    run.stderr.close()


@pytest.mark.parametrize("overrides", [(), ("streaming=true",)])
def test_kill_9_at_random_steps_costs_no_bit(recipe, undisturbed, overrides):
    out = recipe.parent / f"killed{len(overrides)}"
    if overrides:
        (undisturbed,) = train.main(load_recipe(recipe, overrides, TrainRecipe), recipe.parent / "undisturbed-stream")
    first, second = sorted(random.Random(5).sample(range(2, STEPS), 2))
    kill_at(first, recipe, out, *overrides)
    assert not out.exists()
    kill_at(second, recipe, out, *overrides)
    finished = commands.run(command(recipe, out, *overrides), capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    expected, found = (json.loads((folder / "run.json").read_text()) for folder in (undisturbed, out))
    assert found["training"]["resumed_from"] in {second - 1, second}
    assert found["model"] == expected["model"]
    for name in ("steps", "batch_size"):
        assert found["training"][name] == expected["training"][name]
    assert found["seconds"] > 0
    assert not (out / CHECKPOINTS).exists()
    assert not (out / INPUTS).exists()


def test_two_commands_do_not_train_the_same_folder(recipe):
    out = recipe.parent / "twice"
    first = commands.Popen(command(recipe, out), stderr=subprocess.DEVNULL, cwd=ROOT)
    deadline = time.monotonic() + 600
    while not steps_of(out.with_name("twice.partial")):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    first.send_signal(signal.SIGSTOP)
    second = commands.run(command(recipe, out), capture_output=True, text=True, check=False, cwd=ROOT)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert "twice: another process is writing it" in second.stderr.splitlines()[-1]
    assert first.wait() == 0
    assert (out / "run.json").exists()


def test_half_a_checkpoint_is_none(tmp_path):
    for step, mark in ((2, '{"seconds": 1.5}'), (10, '{"seconds": 1.5}'), (11, None), (12, "")):
        path = tmp_path / CHECKPOINTS / f"checkpoint-{step}"
        path.mkdir(parents=True)
        if mark is not None:
            (path / MARK).write_text(mark)
    assert last_checkpoint(tmp_path).name == "checkpoint-10"
    assert sorted(steps_of(tmp_path)) == [2, 10]
    assert last_checkpoint(tmp_path / "nothing") is None


def test_several_seeds_are_as_each_alone(recipe, undisturbed):
    folders = train.main(load_recipe(recipe, ["seeds=[1, 2]"], TrainRecipe), recipe.parent / "both")
    assert [folder.name for folder in folders] == ["both-seed1", "both-seed2"]
    one, two = (json.loads((folder / "run.json").read_text()) for folder in folders)
    assert one["model"] == json.loads((undisturbed / "run.json").read_text())["model"] != two["model"]
    assert (one["seed"], two["seed"]) == (1, 2)


def test_a_full_disk_is_remedy_with_the_remedy(tmp_path):
    done = on_a_small_disk(
        tmp_path,
        """
        from pathlib import Path
        import torch
        from safetensors.torch import save_file
        from training.loop.trainer import _remedy
        weights, folder = {"a": torch.zeros(3_000_000)}, Path(sys.argv[1])
        for write in (lambda: save_file(weights, folder / "s"), lambda: torch.save(weights, folder / "t")):
            try:
                write()
            except Exception as error:
                print(_remedy(error, 8, folder))
            for file in folder.iterdir():
                file.unlink()
        """,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2
    for line in said:
        assert "a checkpoint cannot be written, with " in line
        assert line.endswith("run again and training goes on from the last whole checkpoint")


def test_memory_that_ran_out_is_remedy_and_other_errors_are_not(tmp_path):
    said = _remedy(torch.OutOfMemoryError("CUDA out of memory"), 8, tmp_path)
    assert said.startswith("recipe: trainer.per_device_train_batch_size 8: memory ran out; set it lower")
    assert _remedy(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 8, tmp_path) is None
