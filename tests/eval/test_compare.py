"""The comparison as a user runs it: real processes, resumed, with the base on top."""

import json
import re
import sys

import pyarrow as pa
import pytest

from builders.folder import write_config
from tests.builders.test_publish import published
from tests.conftest import BASE
from tests.eval.test_run import QRELS, QUERIES
from tests.eval.test_tasks import task_folder
from tests.fixtures import commands
from tests.test_architecture import ROOT
from tests.training.test_train_hub import put_dataset


@pytest.fixture
def recipe(tmp_path, animals):
    texts = [json.loads(line)["text"] for line in (animals / "corpus.jsonl").read_text().splitlines()]
    rows = {
        "query": [f"tell me: {text[:20]}" for text in texts],
        "positive": texts,
        "negative_1": texts[1:] + texts[:1],
    }
    write_config(tmp_path / "dataset", "bm25", pa.table(rows))
    (tmp_path / "train.toml").write_text(
        f'dataset = "x"\nkind = "bm25"\nbase = "{BASE}"\nmax_seq_length = 32\n'
        "[trainer]\nmax_steps = 1\nper_device_train_batch_size = 4\nlearning_rate = 1e-3\n"
    )
    path = tmp_path / "compare.toml"
    path.write_text(
        f'name = "t"\ndataset = "{tmp_path / "dataset"}"\ntraining = "{tmp_path / "train.toml"}"\n'
        f'tasks = ["{task_folder(animals, QUERIES, QRELS)}"]\nout = "{tmp_path / "out"}"\njobs = 2\n'
        'arms = ["none", "bm25"]\nseeds = [1]\n'
    )
    return path


def compare(recipe, *overrides, flags=()):
    values = (word for each in overrides for word in ("--set", each))
    command = [sys.executable, "-m", "eval.compare", str(recipe), *values, *flags]
    return commands.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_arms_beside_the_base_then_only_what_is_missing(recipe, tmp_path):
    finished = compare(recipe)
    assert finished.returncode == 0, finished.stderr
    lines = [line.split() for line in finished.stdout.splitlines()]
    table = [line for line in lines if line and line[0] in {"untouched", "none", "bm25"}]
    assert [line[0] for line in table[:3]] == ["untouched", "none", "bm25"]  # then what the arms cost
    assert "4 queries, seed 1" in finished.stdout
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    rows = {row["arm"]: row for row in written["tables"][0]["rows"]}
    assert rows["untouched base"]["difference"] is None
    assert rows["bm25"]["difference"]["low"] <= rows["bm25"]["difference"]["mean"] <= rows["bm25"]["difference"]["high"]
    assert rows["bm25"]["metrics"]["nDCG@10"] - rows["untouched base"]["metrics"]["nDCG@10"] == pytest.approx(
        rows["bm25"]["difference"]["mean"], abs=1e-9
    )
    card = (tmp_path / "out" / "models" / "bm25-seed1" / "README.md").read_text()
    assert "model-index" in card
    assert "This model is arm `bm25`, seed 1, of the comparison below." in card
    figure = (tmp_path / "out" / "models" / "bm25-seed1" / "comparison" / "forest.png").read_bytes()
    assert figure == (tmp_path / "out" / "figures" / "forest-none.png").read_bytes()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "untouched base" in page
    assert not re.search(r"(src|href)=.(https?:|//)", page)  # no outside parts
    assert [each["held"] for each in written["guarantees"]] == [True] * 7
    assert written["tokens_of_a_row"]["bm25"] > written["tokens_of_a_row"]["none"] > 5
    verdicts = [(each["first"], each["second"], each["word"]) for each in written["tables"][0]["verdicts"]]
    assert [pair[:2] for pair in verdicts] == [("none", "untouched base"), ("bm25", "untouched base"), ("bm25", "none")]
    assert [cost["training_seconds"] > 0 for cost in written["costs"]] == [True] * 2
    for name, rows in {"arms": 3, "pairs": 3, "queries": 12}.items():
        assert len((tmp_path / "out" / f"{name}.csv").read_text().splitlines()) == rows + 1

    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*.log")}
    again = compare(recipe)
    assert again.stdout == finished.stdout
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert (tmp_path / "out" / "models" / "bm25-seed1" / "README.md").read_text() == card

    failed = compare(recipe, 'arms=["none", "bm25", "dense"]')
    assert failed.returncode == 2
    assert "1 of 3 runs failed (error: kind 'dense'" in failed.stderr
    assert failed.stdout == finished.stdout  # what finished is told all the same
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_folder_has_no_card_to_push_to(recipe):
    refused = compare(recipe, flags=["--push"])
    assert refused.returncode == 2
    assert "--push: dataset" in refused.stderr
    assert "is no Hub repository; publish it, and name it OWNER/NAME" in refused.stderr


@pytest.mark.hub
def test_a_data_set_on_the_hub(recipe, hub, tmp_path):
    commit = put_dataset(hub, tmp_path, "alice/compared")
    values = ['dataset="alice/compared"', 'revision="v1.0.0"', 'arms=["bm25"]']
    finished = compare(recipe, *values, flags=["--push"])
    assert finished.returncode == 0, finished.stderr
    main = published(hub, "alice/compared", "main")
    assert b"Data: `alice/compared` at v1.0.0." in main["README.md"]
    assert main["comparison/comparison.json"] == (tmp_path / "out" / "comparison.json").read_bytes()
    record = json.loads((tmp_path / "out" / "models" / "bm25-seed1" / "run.json").read_text())
    assert record["dataset"]["revision"] == commit
    assert "--set dataset=alice/compared" in (tmp_path / "out" / "models" / "bm25-seed1" / "README.md").read_text()
    hub.move_tag("dataset", "alice/compared", "v1.0.0", put_dataset(hub, tmp_path, "alice/compared", tag=None))
    hub.commit("dataset", "alice/compared", {"notes.txt": b"x"})
    hub.move_tag("dataset", "alice/compared", "v1.0.0", "main")
    assert "the tag has moved" in compare(recipe, *values).stderr
