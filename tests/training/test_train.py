"""Training through accelerate, for real, and what is said of bad input before any time is lost."""

import re
import subprocess
import sys

import pyarrow as pa
import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer

from builders.dataset.folder import write_config
from foils.errors import UserError
from foils.models import weights_hash
from tests.fixtures import ROOT, tiny
from tests.fixtures.training import ROWS, TEXTS, launch, recipe_for, record
from training import train
from training.loop.making import labelled_pairs
from training.rows.ingredients import load_rows
from training.rows.source import resolve


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "dataset"
    write_config(folder, "bm25", pa.table(ROWS))
    write_config(folder, "llm", pa.table({**ROWS, "negative_1": [f"not that {text}" for text in TEXTS]}))
    write_config(folder, "corpus", pa.table({"_id": ["a"], "title": [""], "text": ["x"]}))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.retriever("mean", tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe(dataset, base):
    trainer = "max_steps = 2\nper_device_train_batch_size = 2\nlearning_rate = 1e-3\n"
    return recipe_for(dataset.parent, base, None, "max_seq_length = 32\n", trainer)


@pytest.mark.usefixtures("recipe")
def test_one_process_trains(dataset, base, tmp_path):
    finished = launch(tmp_path / "train.toml", "--out", tmp_path / "first", "--set", f"dataset={dataset}")
    assert finished.returncode == 0, finished.stderr
    first = record(tmp_path / "first")
    assert (first["training"]["steps"], first["training"]["batch_size"], first["dataset"]["rows"]) == (2, 2, 6)
    assert first["model"]["revision"] == f"sha256:{weights_hash(tmp_path / 'first')}"
    assert first["model"]["revision"] != first["base"]["revision"]
    model = SentenceTransformer(str(tmp_path / "first"))
    assert model.max_seq_length == SentenceTransformer(str(base)).max_seq_length
    card = (tmp_path / "first" / "README.md").read_text()
    assert "configuration `bm25`, 6 rows" in card
    assert "--set dataset" not in card
    assert not (tmp_path / "first.partial").exists()


def test_a_cross_encoder_from_the_same_rows_is_the_same_for_the_same_seed(recipe, tmp_path):
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        train.main(recipe("task=cross-encoder", "kind=bm25+llm", f"seed={seed}"), tmp_path / name)
    hashes = {name: record(tmp_path / name)["model"]["revision"] for name in ("first", "again", "other")}
    assert hashes["first"] == hashes["again"] != hashes["other"]
    model = CrossEncoder(str(tmp_path / "first"))
    assert len(model.predict([("who hunts?", "owls"), ("who hunts?", "bees")])) == 2
    assert "cross-encoder" in (tmp_path / "first" / "README.md").read_text()


def test_a_tracker_gets_the_curves_and_its_files_stay(recipe, tmp_path):
    train.main(recipe("trainer.report_to=tensorboard", "seeds=[1, 2]"), tmp_path / "m")
    for name in ("m-seed1", "m-seed2"):
        assert list((tmp_path / "tensorboard" / name).glob("events.out.tfevents.*"))


def test_rows_by_kind(dataset):
    source = resolve(str(dataset), None)
    assert source.kinds == ("bm25", "llm")
    assert load_rows(source, "bm25").column_names == ["query", "positive", "negative_1"]
    assert load_rows(source, "none").column_names == ["query", "positive"]
    both = load_rows(source, "bm25+llm")
    assert both[0] == {
        "query": ROWS["query"][0], "positive": TEXTS[0], "negative_1": TEXTS[1], "negative_2": f"not that {TEXTS[0]}",
    }  # fmt: skip
    assert labelled_pairs(both)[:4]["label"] == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("kind=dense", r"no configuration 'dense'; allowed: bm25, llm, several joined by '\+', or none"),
        ("kind=corpus", "no configuration 'corpus'"),
        ("dataset=nowhere", "no such folder; wanted a data set's folder or a Hub id"),
        ("dataset=owner/name", "needs its revision"),
        ("base=owner/name@v1", "the Hub has no such repository"),
        ("base=nowhere", "no such folder; wanted a model folder"),
        ("trainer.learning_rat=1", "learning_rat"),
        ("trainer.seed=3", "set seed at the recipe's top level"),
        ("trainer.output_dir=x", "give --out"),
    ],
)
def test_bad_input_is_named_before_training(recipe, tmp_path, override, words):
    with pytest.raises(UserError, match=words):
        train.main(recipe(override), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pairs_are_kept_in_a_file_where_the_rows_are(dataset):
    rows = load_rows(resolve(str(dataset), None), "bm25")
    assert rows.cache_files
    assert labelled_pairs(rows).cache_files  # and not in memory


HEAVY = """
import runpy, sys
sys.argv = ["train.py", sys.argv[1], "--set", "knid=bm25"]
try:
    runpy.run_path("training/train.py", run_name="__main__")
except SystemExit as ended:
    print(ended.code, *({"torch", "transformers", "sentence_transformers", "datasets"} & {*sys.modules}))
"""


@pytest.mark.usefixtures("recipe")
def test_a_misspelt_key_is_refused_before_anything_heavy_is_imported(tmp_path):
    command = [sys.executable, "-c", HEAVY, str(tmp_path / "train.toml")]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert finished.stdout.split() == ["2"]
    assert "unknown key knid; allowed here: dataset, kind" in finished.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("watch=auto", r"removed key watch: set report_to in \[trainer\], such as trainer.report_to = \"trackio\""),
        ('exports=["onnx"]', "removed key exports: convert the finished model with: python -m training.export"),
    ],
)
def test_a_key_of_an_earlier_version_names_what_replaced_it(recipe, override, words):
    with pytest.raises(UserError, match=words):
        recipe(override)


def test_a_key_of_an_earlier_version_that_is_off_asks_for_nothing(recipe):
    assert recipe("watch=none", "exports=[]", "length_buckets=false").config.kind == "bm25"


def test_a_script_without_its_packages_says_so(tmp_path):
    command = [sys.executable, "-I", "-S", ROOT / "training" / "train.py", tmp_path / "x.toml"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert finished.returncode == 2
    assert re.fullmatch(r"error: \w+ is not installed for .*; activate the environment of Foils .*\n", finished.stderr)
