"""Curves in the model's card: drawn, put into words, and checked against the run record."""

import json

import pytest
from PIL import Image

from cards.model import model_card, write_model_card
from cards.verify.__main__ import verify
from foils.provenance import sha256_file
from tests.conftest import BASE
from tests.fixtures.training import ROWS, recipe_for
from training import train
from training.loop import curves

HISTORY = [
    {"step": 0, "epoch": 0.0, "dev_loss": 1.5, "dev_ndcg": 0.61},
    {"step": 5, "epoch": 0.5, "loss": 2.25, "lr": 1e-5, "dev_loss": 1.2, "dev_ndcg": 0.67},
    {"step": 10, "epoch": 1.0, "loss": 1.75, "lr": 5e-6, "dev_loss": 1.1, "dev_ndcg": 0.65},
]
DEV = {
    "metric": "nDCG@10",
    "queries": 300,
    "measured": 2,
    "patience": 1,
    "stopped_early": True,
    "beats_base": True,
    "base": {"step": 0, "value": 0.61, "low": 0.58, "high": 0.64},
    "best": {
        "step": 5,
        "value": 0.67,
        "low": 0.64,
        "high": 0.7,
        "difference": 0.06,
        "difference_low": 0.03,
        "difference_high": 0.09,
    },
    "last": {"step": 10, "value": 0.65},
}


def test_the_picture_is_light_wide_and_the_same_each_time(tmp_path):
    found = curves.add_curves(tmp_path, HISTORY, 1)
    assert found["figure"] == "figures/training.png"
    first = (tmp_path / found["figure"]).read_bytes()
    assert first == curves.draw(HISTORY)
    assert first != curves.draw(HISTORY[:2])
    with Image.open(tmp_path / found["figure"]) as picture:
        assert picture.size == (1200, 840)
        assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


def test_without_held_out_queries_there_is_the_loss_alone_and_without_a_step_nothing(tmp_path):
    rows = [{"step": 5, "loss": 2.0}, {"step": 10, "loss": float("nan")}]
    found = curves.add_curves(tmp_path, rows, 1)
    with Image.open(tmp_path / found["figure"]) as picture:
        assert picture.size == (1200, 465)
    assert curves.add_curves(tmp_path / "none", [{"step": 1, "lr": 1.0}], 1) == {}
    assert not (tmp_path / "none").exists()


@pytest.fixture
def model(tmp_path):
    train.main(recipe_for(tmp_path, BASE, ROWS, top="max_seq_length = 32\n")(), tmp_path / "model")
    return tmp_path / "model"


def test_the_card_shows_them_and_is_checked_against_the_record(model):
    record = json.loads((model / "run.json").read_text())
    plain = {key: record["training"][key] for key in ("steps", "batch_size")}
    without = model_card({**record, "training": plain}, None, None)
    assert "held out" not in without
    assert "![" not in without
    assert "\n\n\nRecipe" not in without

    record["training"] = {**plain, "history": HISTORY, "dev": DEV, **curves.add_curves(model, HISTORY, 1)}
    record["files"]["figures/training.png"] = sha256_file(model / "figures" / "training.png")
    (model / "run.json").write_text(json.dumps(record))
    write_model_card(model, record)
    card = (model / "README.md").read_text()
    losses = "training rows 2.2500 to 1.7500; held-out rows 1.5000 to 1.1000"
    scores = "nDCG@10, held-out queries 0.6100 to 0.6500"
    assert f"![Loss by step, seed 1, first to last: {losses}; {scores}.](figures/training.png)" in card
    assert "chosen by 300 queries of the data set that were held out of training" in card
    assert "| untouched base | 0 | 0.6100 (0.5800 to 0.6400) | |" in card
    assert "| best, this model | 5 | 0.6700 (0.6400 to 0.7000) | +0.0600 (+0.0300 to +0.0900) |" in card
    assert "| last | 10 | 0.6500 | - |" in card
    assert "Training stopped early, after 1 measurements in a row without a better one." in card
    assert "No checkpoint beats" not in card
    assert [link for link in verify(str(model)) if link.status == "broken"] == []

    (model / "README.md").write_text(card.replace("| 0.6700 (", "| 0.9700 ("))
    (broken,) = [link for link in verify(str(model)) if link.status == "broken"]
    assert "does not show the best dev score, 0.6700, of run.json" in broken.detail


def test_a_better_base_is_said_plainly(model):
    record = json.loads((model / "run.json").read_text())
    dev = {**DEV, "beats_base": False, "stopped_early": False}
    card = model_card({**record, "training": {**record["training"], "dev": dev}}, None, None)
    assert "**No checkpoint beats the untouched base on these queries.**" in card
    assert "it did not come to that" in card


def test_long_histories_are_thinned_but_measurements_stay():
    log = [{"step": step, "epoch": step / 1e4, "loss": float(step)} for step in range(1, 10_001)]
    log += [{"step": step, "epoch": step / 1e4, "eval_nDCG@10": 0.5} for step in range(1000, 10_001, 1000)]
    rows = curves.history(log)
    assert len(rows) == 200
    assert rows[0] == {"step": 50, "epoch": 0.005, "loss": 25.5}
    assert sum("dev_ndcg" in row for row in rows) == 10
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
