"""The code in the READMEs runs as it stands, with nothing but the libraries that it names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import mteb
import pytest

from builders.publish import publish_dataset
from cards.publish.release import Target
from foils.models import resolve_model
from tests.conftest import BASE
from tests.fixtures import ROOT

pytestmark = pytest.mark.hub

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "cards" / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def repositories(hub, build_animals):
    """What the README's names stand for: a data set of ours, and the base model."""
    publish_dataset(build_animals("manuals", "exam.queries=4"), Target("alice/manuals", "v1.0.0"))
    folder = Path(resolve_model(BASE).location)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    name = "sentence-transformers/all-MiniLM-L6-v2"
    hub.create_repo("model", name)
    hub.tag("model", name, mteb.get_model_meta(name).revision, hub.commit("model", name, files))


def run(script, folder):
    """Runs a script in an empty folder, where nothing of the project can be imported."""
    finished = subprocess.run(
        [sys.executable, "-I", "-c", script.replace("OWNER", "alice")],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "HF_HOME": str(folder / "home"), "WANDB_DISABLED": "true"},
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


@pytest.mark.usefixtures("repositories")
def test_ten_lines_of_sentence_transformers_train_on_it(tmp_path):
    (script,) = [block for block in BLOCKS if "SentenceTransformerTrainer" in block]
    assert len([line for line in script.splitlines() if line.strip()]) <= 10
    run(script, tmp_path)
    assert (tmp_path / "manuals-search" / "model.safetensors").exists()


@pytest.mark.usefixtures("repositories")
def test_mteb_runs_it_as_a_retrieval_task(tmp_path):
    (script,) = [block for block in BLOCKS if "AbsTaskRetrieval" in block]
    assert "Manuals" in run(script, tmp_path)
