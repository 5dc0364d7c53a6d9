"""A base is measured with the prompts of the model that was trained from it."""

import json
import shutil
from pathlib import Path

import pytest

from eval.measure.encoding import Encoding, base_encoding
from eval.measure.results import Key, read_scores
from eval.measure.search import evaluate
from eval.recipe import EvalRecipe
from foils.loading import own_prompts
from foils.models import resolve_model
from tests.conftest import BASE

E5 = {"query": "query: ", "document": "passage: "}


@pytest.fixture
def prompted(tmp_path):
    """The base as training on it with prompts would save it, but for the weights."""
    folder = tmp_path / "prompted"
    shutil.copytree(resolve_model(BASE).location, folder)
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    (folder / "config_sentence_transformers.json").write_text(json.dumps({**config, "prompts": E5}))
    return resolve_model(str(folder))


def test_whose_prompts_the_base_gets(prompted):
    base, recipe = resolve_model(BASE), EvalRecipe("m", ("t",))

    def prompts(recipe, model, base):
        return base_encoding(recipe, Encoding(), model, base).prompts

    assert own_prompts(Path(base.location)) == {}
    assert prompts(recipe, prompted, base) == E5
    assert prompts(recipe, prompted, prompted) is prompts(recipe, base, base) is None
    assert prompts(EvalRecipe("m", ("t",), query_prompt="", passage_prompt=""), prompted, base) is None
    assert prompts(EvalRecipe("m", ("t",), query_prompt="q: "), prompted, base) == E5 | {"query": "q: "}


def test_a_base_with_prompts_scores_as_a_model_that_has_them(task, prompted, tmp_path):
    base = resolve_model(BASE)
    (plain,) = evaluate(base, [task], tmp_path / "base", Encoding())
    (given,) = evaluate(base, [task], tmp_path / "base", Encoding(prompts=E5))
    (own,) = evaluate(prompted, [task], tmp_path / "prompted", Encoding())
    assert given.metrics == own.metrics
    assert given.prompts == E5
    assert Key.of(given) != Key.of(plain)
    folders = [Key.of(result).folder(tmp_path / "base") for result in (plain, given)]
    assert len({(folder / "rankings.parquet").read_bytes() for folder in folders}) == 2
    assert set(read_scores(folders[1])) == {"q1", "q2", "q3", "q4"}
