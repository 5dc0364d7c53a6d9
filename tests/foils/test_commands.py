"""The command `foils`: each name is its `python -m` form, and what it does not know it says at once."""

import importlib.util
import subprocess
import sys

import pytest

from foils.__main__ import COMMANDS, page
from tests.fixtures import ROOT
from tests.fixtures.commands import run


def foils(*words):
    return run([sys.executable, "-m", "foils", *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_run(name):
    module = COMMANDS[name].module
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{module}.__main__") is not None


def test_help_is_one_screen_with_every_command():
    finished = foils("--help")
    assert finished.stdout.strip() == page()
    assert all(f"foils {name} " in page() for name in COMMANDS)
    assert len(page().splitlines()) <= 30
    assert max(map(len, page().splitlines())) <= 100


def test_a_pipe_that_closes_early_is_no_fault():
    command = f"{sys.executable} -m foils --help | head -1"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert (finished.stdout, finished.stderr) == (page().splitlines()[0] + "\n", "")


@pytest.mark.parametrize("name", ["build", "train", "eval", "compare"])
def test_it_is_the_module_that_runs(name, tmp_path):
    missing = tmp_path / "none.toml"
    finished = foils(name, missing)
    assert finished.returncode == 2
    assert finished.stderr.endswith(
        f"error: recipe {missing}: no such file; the ready-made ones lie in */recipes/*.toml\n"
    )


def test_a_folder_is_published_as_what_it_is(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "run.json").write_text("{}")
    assert "--license" in foils("publish", model, "--help").stdout
    assert "training.publish" in foils("publish", model, "--help").stdout
    assert "builders.publish" in foils("publish", tmp_path, "--help").stdout


def test_a_misspelt_command_is_refused_with_the_nearest():
    finished = foils("biuld")
    assert finished.returncode == 2
    assert "no such command; did you mean build?" in finished.stderr


def test_names_and_modules_import_nothing_heavy():
    code = "import sys, foils.__main__; print(sorted({'torch', 'transformers', 'pyarrow', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
