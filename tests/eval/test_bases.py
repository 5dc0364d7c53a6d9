"""Several bases in one comparison."""

import csv
import json
import re

import pytest

from eval.bases import on_one_base, over_bases
from eval.recipe import CompareRecipe
from eval.runs import BASE
from eval.tables import Measured
from foils.errors import UserError
from foils.recipe import Recipe
from tests.eval.test_compare import compare, recipe  # noqa: F401  # the fixture
from tests.training import tiny


def measured(shift, arms=("none", "llm")):
    runs = {BASE: {0: {"a": {"nDCG@10": 0.5 + shift}, "b": {"nDCG@10": 0.1}}}}
    for arm in arms:
        runs[arm] = {seed: {"a": {"nDCG@10": 0.6 + shift * seed}, "b": {"nDCG@10": 0.2}} for seed in (1, 2)}
    return [Measured("t", "r", runs)]


def test_the_mean_over_bases_is_taken_query_by_query_and_seed_by_seed():
    (found,) = over_bases([measured(0.0), measured(0.2, arms=("none", "bm25", "llm"))])
    assert (found.task, found.revision, list(found.runs)) == ("t", "r", [BASE, "none", "llm"])
    assert found.runs[BASE][0] == {"a": {"nDCG@10": pytest.approx(0.6)}, "b": {"nDCG@10": pytest.approx(0.1)}}
    assert found.runs["llm"][2] == {"a": {"nDCG@10": pytest.approx(0.8)}, "b": {"nDCG@10": pytest.approx(0.2)}}


def test_recipes_of_one_name_are_refused():
    config = CompareRecipe("c", "d", ("a/same.toml", "other.toml", "b/same.toml"), ("t",))
    with pytest.raises(UserError, match="training: 2 recipes are called same"):
        on_one_base(Recipe(config, ""))


def test_each_base_for_itself_then_the_mean_and_one_that_fails_stops_no_other(recipe, tmp_path):  # noqa: F811
    own = (tmp_path / "train.toml").read_text()
    small = tiny.retriever("mean", tmp_path / "small", length=32)
    base = next(line for line in own.splitlines() if line.startswith("base"))
    (tmp_path / "small.toml").write_text(own.replace(base, f'base = "{small}"'))
    (tmp_path / "gone.toml").write_text(own.replace(base, f'base = "{tmp_path / "gone"}"'))
    names = ", ".join(f'"{tmp_path / name}.toml"' for name in ("train", "gone", "small"))
    finished = compare(recipe, f"training=[{names}]")
    assert finished.returncode == 2
    assert "no such folder" in finished.stderr.splitlines()[-1]
    told = finished.stdout
    assert told.index("all-MiniLM-L6-v2") < told.index(
        "Mean over 2 bases: sentence-transformers/all-MiniLM-L6-v2, model."
    )
    whole = json.loads((tmp_path / "out" / "comparison.json").read_text())
    parts = [json.loads((tmp_path / "out" / name / "comparison.json").read_text()) for name in ("train", "small")]
    scores = [{row["arm"]: row["metrics"]["nDCG@10"] for row in each["tables"][0]["rows"]} for each in (whole, *parts)]
    assert scores[0] == pytest.approx({arm: (scores[1][arm] + scores[2][arm]) / 2 for arm in scores[0]})
    assert scores[1] != scores[2]
    assert (tmp_path / "out" / "figures" / "forest-none.png").stat().st_size > 1000
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.search(r"The mean of \S+ and model was trained on", page)
    for name, part in zip(("train", "small"), parts, strict=True):
        assert f'<a href="{name}/report.html">' in page
        assert (tmp_path / "out" / name / "report.html").exists()
        gains = [row["difference"] for row in part["tables"][-1]["rows"] if row["difference"]]
        assert all(
            f"<td>{gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})</td>" in page for gain in gains
        )
    with (tmp_path / "out" / "arms.csv").open() as file:
        assert {row["arm"]: float(row["nDCG@10"]) for row in csv.DictReader(file)} == pytest.approx(scores[0])
    card = (tmp_path / "out" / "small" / "models" / "bm25-seed1" / "README.md").read_text()
    assert "Which negatives? t, small" in card
