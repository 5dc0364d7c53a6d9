"""One comparison for all tests that look at what a comparison leaves."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest

from builders.dataset.folder import write_config
from eval.measure.tasks import load_task
from tests.conftest import ANIMALS, as_corpus
from tests.fixtures import commands, tiny
from tests.fixtures.tasks import QRELS, QUERIES, task_folder


@pytest.fixture
def task(animals):
    return load_task(task_folder(animals, QUERIES, QRELS))


class Compared(NamedTuple):
    """A comparison's folder, its recipe, and what the command printed."""

    folder: Path
    recipe: Path
    output: str

    @property
    def out(self):
        """The folder of its base."""
        return self.folder / "out" / "train"

    def again(self, *overrides, flags=()):
        """Runs the comparison once more."""
        return compare(self.recipe, *overrides, flags=flags)


def compare(recipe, *overrides, flags=()):
    """Runs `eval.compare` in a process of its own."""
    values = (word for each in overrides for word in ("--set", each))
    return commands.module("eval.compare", recipe, *values, *flags)


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """Two arms with two seeds on a small random base that finished."""
    folder = tmp_path_factory.mktemp("compared")
    texts = [f"{text} Such is the life of this animal." for text in ANIMALS.values()]
    rows = {
        "query": [f"tell me: {text[:20]}" for text in texts],
        "positive": texts,
        "negative_1": texts[1:] + texts[:1],
    }
    write_config(folder / "dataset", "bm25", pa.table(rows))
    base = tiny.retriever("mean", folder / "tiny", length=32)
    (folder / "train.toml").write_text(
        f'dataset = "x"\nkind = "bm25"\nbase = "{base}"\nmax_seq_length = 32\n'
        "[trainer]\nmax_steps = 1\nper_device_train_batch_size = 4\nlearning_rate = 1e-3\n"
    )
    task = task_folder(as_corpus(folder / "animals", ANIMALS), QUERIES, QRELS)
    recipe = folder / "compare.toml"
    recipe.write_text(
        f'name = "t"\ndataset = "{folder / "dataset"}"\ntraining = ["{folder / "train.toml"}"]\n'
        f'tasks = ["{task}"]\nout = "{folder / "out"}"\njobs = 2\narms = ["none", "bm25"]\nseeds = [1, 2]\n'
    )
    finished = compare(recipe)
    assert finished.returncode == 0, finished.stderr
    return Compared(folder, recipe, finished.stdout)
