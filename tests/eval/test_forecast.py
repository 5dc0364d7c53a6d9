"""What a comparison will take, beside figures worked out by hand."""

import re
import sys

import pytest
from sentence_transformers import SentenceTransformer

from eval.forecast import _size, forecast
from eval.recipe import BuildStep, CompareRecipe, GpuConfig
from eval.tasks import load_task
from foils.errors import UserError
from tests.eval.test_run import QRELS, QUERIES
from tests.eval.test_tasks import task_folder
from tests.fixtures import commands
from tests.test_architecture import ROOT
from tests.training import tiny

BUILD = '[corpus]\nsource = "x"\nsample = 100\n[queries]\npassage_chars = 400\n[negatives]\nper_query = 2\n'
TRAIN = 'base = "{}"\nmax_seq_length = 16\n[trainer]\nnum_train_epochs = 2\nper_device_train_batch_size = 4\n{}'


@pytest.fixture
def make(tmp_path, animals):
    """Makes a comparison with these settings, and says what it will take."""
    (tmp_path / "build.toml").write_text(BUILD)
    base = tiny.retriever("mean", tmp_path / "base", length=16)
    task = load_task(task_folder(animals, QUERIES, QRELS))
    prices = ("llm.prices.input=100", "llm.prices.output=300", "llm.prices.currency=EUR")

    def told(trainer="", **settings):
        (tmp_path / "train.toml").write_text(TRAIN.format(base, trainer))
        build = BuildStep(str(tmp_path / "build.toml"), prices)
        known = {"arms": ("none", "llm"), "seeds": (1,), "build": build, "gpu": GpuConfig(1e-9, 2.0, "EUR")}
        config = CompareRecipe("c", "nowhere", str(tmp_path / "train.toml"), ("t",), **{**known, **settings})
        return forecast(config, [str(tmp_path / "train.toml")], [task])

    return told


def hours(text, what):
    return float(re.search(rf"{what} +[\d,]+ +[\d.,]+ +([\d.,]+)", text)[1].replace(",", ""))


def test_calls_tokens_and_money(make):
    lines = [re.split(r"  +", line) for line in make().splitlines()]
    assert ["queries", "100", "45,000", "4,800", "5.94 EUR"] in lines
    assert ["llm", "100", "37,400", "25,600", "11.42 EUR"] in lines
    assert ["all", "200", "82,400", "30,400", "17.36 EUR"] in lines
    assert "The data set is not built yet: 100 rows" in make()


def test_work_is_that_of_matrix_products(make, tmp_path):
    model = SentenceTransformer(str(tmp_path / "base" / "model"))
    weights = sum(each.numel() for name, each in model.named_parameters() if "embedding" not in name)
    text_ = 16 * (2 * weights + 4 * 2 * 32 * 16)  # queries of 24 tokens are cut to 16
    rows = 2 * 100
    expected = 3 * rows * ((1 + 1) + (1 + 3)) * text_ / 1e3 / 3600  # `none` has no negatives, `llm` two
    text = make()
    assert hours(text, "trainings") == pytest.approx(expected, rel=1e-3)
    paid = re.search(r"trainings .* ([\d.,]+) EUR", text)[1].replace(",", "")
    assert float(paid) == pytest.approx(2 * hours(text, "trainings"), abs=0.02)
    assert hours(make("gradient_checkpointing = true\n"), "trainings") == pytest.approx(4 / 3 * expected, rel=1e-3)
    assert hours(make("max_steps = 25\n"), "trainings") == pytest.approx(expected / 2, rel=1e-3)
    assert hours(make(seeds=(1, 2, 3)), "trainings") == pytest.approx(3 * expected, rel=1e-3)
    one, three = (hours(make(seeds=seeds), "evaluations") for seeds in ((1,), (1, 2, 3)))
    assert three / one == pytest.approx(7 / 3, rel=1e-3)  # the base is measured once


def test_what_mteb_knows_of_a_task_is_not_downloaded():
    task = load_task("Touche2020")
    found = _size(task)
    assert (found.passages, found.queries) == (382_545, 49)
    assert not task.mteb.data_loaded


def test_rows_that_nobody_can_tell(make):
    with pytest.raises(UserError, match=r"nowhere is not a folder here, and no building recipe \(build.recipe\)"):
        make(build=None)


def test_a_dry_run_starts_nothing(tmp_path):
    base = tiny.retriever("mean", tmp_path / "base", length=16)
    (tmp_path / "train.toml").write_text(TRAIN.format(base, ""))
    (tmp_path / "build.toml").write_text(BUILD)
    command = [sys.executable, "-m", "eval.compare", str(ROOT / "eval" / "recipes" / "paper.toml"), "--dry-run"]
    for value in (
        f'training="{tmp_path / "train.toml"}"',
        f'build.recipe="{tmp_path / "build.toml"}"',
        f'out="{tmp_path / "out"}"',
        f'dataset="{tmp_path / "data"}"',
    ):
        command += ["--set", value]
    done = commands.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines() if line and line[0] != " "]
    assert rows[:4] == ["LLM", "queries", "llm", "llm-with-positive"]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "data").exists()
