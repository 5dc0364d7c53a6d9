"""As many processes as asked for: what accelerate starts, and what it says it starts."""

import subprocess
import sys

import pytest

from tests.test_architecture import ROOT
from training.processes import asked_of, refuse_fewer_than_asked


class Parent:
    def __init__(self, *words):
        self.words = list(words)

    def cmdline(self):
        return self.words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["python", "/bin/accelerate", "launch", "--cpu", "--num_processes", "2", "train.py"], 2),
        (["python", "-m", "accelerate.commands.launch", "--num-processes=3", "train.py"], 3),
        (["python", "/bin/accelerate", "launch", "train.py"], None),
        (["python", "/bin/accelerate", "config", "--num_processes", "2"], None),
        (["bash", "-c", "ls --num_processes 2"], None),
    ],
)
def test_what_a_command_asks_for(words, expected):
    assert asked_of(Parent(*words)) == expected


def test_without_a_launcher_nothing_is_refused():
    refuse_fewer_than_asked(1)
    assert asked_of(None) is None


def test_one_process_in_place_of_two_is_refused(tmp_path):
    recipe = tmp_path / "train.toml"
    recipe.write_text('dataset = "x"\nkind = "bm25"\nbase = "y"\n')
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"),
            *(str(ROOT / "training" / "train.py"), str(recipe)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "asked for 2 processes and started 1; run: accelerate launch --config_file training/acc" in finished.stderr
    assert finished.returncode != 0
