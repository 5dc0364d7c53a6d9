"""Every recipe of the checkout: read strictly, and run for two steps on its base, or a tiny one of the same shape."""

import json

import pyarrow as pa
import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer

from builders.dataset.folder import write_config
from foils.errors import UserError
from foils.loading import own_prompts
from foils.models import EMBEDDED_MODELS
from foils.recipe import load_recipe
from tests.fixtures import ROOT, tiny
from tests.fixtures.training import ROWS, TEXTS
from training import train
from training.model.base import load_retriever, prompts_of, read_at_most
from training.recipe import TrainRecipe

RECIPES = sorted((ROOT / "training" / "recipes").glob("*.toml"))
# Recipe -> prompts of queries and passages, and the pooling that the saved model must have.
WANTED = {
    "e5-base-v2": ("query: ", "passage: ", "mean"),
    "gte-base": ("", "", "mean"),
    "bge-base": ("Represent this sentence for searching relevant passages: ", "", "cls"),
    "distilbert": ("", "", "mean"),
    "modernbert": ("", "", "mean"),
    "static": ("", "", None),
    "cross-encoder": None,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "dataset"
    for kind in ("bm25", "llm", "random"):
        write_config(folder, kind, pa.table(ROWS))
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    mean = tiny.retriever("mean", folder / "mean")
    return {
        "e5-base-v2": mean,
        "gte-base": mean,
        "bge-base": tiny.retriever("cls", folder / "cls"),
        "distilbert": tiny.raw("distilbert", folder / "distilbert"),
        "modernbert": tiny.raw("modernbert", folder / "modernbert"),
        "static": tiny.static(folder / "static"),
        "cross-encoder": tiny.cross_encoder(folder / "cross"),
    }


def trained(recipe, base, dataset, out, *overrides):
    short = [f"dataset={dataset}", f"base={base}", "trainer.max_steps=2", "trainer.per_device_train_batch_size=3"]
    train.main(load_recipe(recipe, [*short, *overrides], TrainRecipe), out)
    return out


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read_strictly_and_tells_how_it_is_run(recipe):
    config = load_recipe(recipe, [], TrainRecipe).config
    assert recipe.stem in {*WANTED, "mixture"} or config.base.removeprefix("package:") in EMBEDDED_MODELS
    assert config.trainer["learning_rate"] > 0
    text = recipe.read_text("utf-8")
    assert f"training/recipes/{recipe.name}" in text or recipe.stem == "domain-ranker"
    if not config.base.startswith("package:") and recipe.stem != "mixture":
        assert len(config.base.partition("@")[2]) == 40


@pytest.mark.parametrize("name", [name for name, wanted in WANTED.items() if wanted])
def test_a_retrievers_recipe_runs_and_prompts_and_pooling_are_saved(name, bases, dataset, tmp_path):
    query_prompt, passage_prompt, pooling = WANTED[name]
    recipe = ROOT / "training" / "recipes" / f"{name}.toml"
    folder = trained(recipe, bases[name], dataset, tmp_path / "model")
    model, base = SentenceTransformer(str(folder)), SentenceTransformer(str(bases[name]))
    assert model.max_seq_length == base.max_seq_length
    assert abs(model.encode(TEXTS) - base.encode(TEXTS)).max() > 1e-6
    stored = json.loads((folder / "config_sentence_transformers.json").read_text())["prompts"]
    assert stored == {"query": query_prompt, "document": passage_prompt}
    assert own_prompts(folder) == {role: text for role, text in stored.items() if text}  # what mining puts before texts
    same = model.encode([query_prompt + TEXTS[0]]) - model.encode_query([TEXTS[0]])
    assert abs(same).max() < 1e-6
    assert (getattr(model[1], "pooling_mode", None) if len(model) > 1 else None) == pooling


def test_prompts_are_put_before_texts_in_training(bases, dataset, tmp_path):
    recipe = ROOT / "training" / "recipes" / "e5-base-v2.toml"
    run = [trained(recipe, bases["e5-base-v2"], dataset, tmp_path / "with")]
    run.append(trained(recipe, bases["e5-base-v2"], dataset, tmp_path / "without", "query_prompt=", "passage_prompt="))
    with_prompts, without = (
        json.loads((folder / "run.json").read_text())["training"]["history"][-1]["loss"] for folder in run
    )
    assert with_prompts != without
    # A base that has prompts of its own is trained with them where the recipe is silent.
    again = trained(ROOT / "training" / "recipes" / "minilm.toml", run[0], dataset, tmp_path / "again", "kind=bm25")
    assert own_prompts(again) == {"query": "query: ", "document": "passage: "}


def test_the_cross_encoders_recipe_runs(bases, dataset, tmp_path):
    recipe = ROOT / "training" / "recipes" / "cross-encoder.toml"
    folder = trained(recipe, bases["cross-encoder"], dataset, tmp_path / "model")
    pairs = [(ROWS["query"][0], text) for text in TEXTS]
    model, base = CrossEncoder(str(folder)), CrossEncoder(str(bases["cross-encoder"]))
    assert abs(model.predict(pairs) - base.predict(pairs)).max() > 1e-6


def test_offline_recipes_run(dataset, tmp_path):
    offline = [path for path in RECIPES if load_recipe(path, [], TrainRecipe).config.base.startswith("package:")]
    assert [path.stem for path in offline] == ["domain-ranker", "minilm-lora", "minilm", "one-epoch", "quickstart"]
    base = load_recipe(offline[0], [], TrainRecipe).config.base
    trained(ROOT / "training" / "recipes" / "minilm.toml", base, dataset, tmp_path / "minilm")


def test_pooling_attention_and_length_are_refused_where_they_mean_nothing(bases):
    with pytest.raises(UserError, match=r"the base says itself how it pools \(Transformer, Pooling, Normalize"):
        load_retriever(str(bases["bge-base"]), pooling="mean")
    with pytest.raises(UserError, match="is a table of vectors without any"):
        load_retriever(str(bases["static"]), attention="sdpa")
    with pytest.raises(UserError, match='attention "flash_attention_2": cannot be had for this base here'):
        load_retriever(str(bases["bge-base"]), attention="flash_attention_2")
    with pytest.raises(UserError, match="reads texts of any length"):
        read_at_most(load_retriever(str(bases["static"])), 64)


def test_attention_and_pooling_are_those_that_were_asked_for(bases):
    eager = load_retriever(str(bases["bge-base"]), attention="eager")
    assert eager[0].model.config._attn_implementation == "eager"
    assert abs(eager.encode(TEXTS) - load_retriever(str(bases["bge-base"])).encode(TEXTS)).max() < 1e-5
    assert load_retriever(str(bases["distilbert"]), pooling="cls")[1].pooling_mode == "cls"
    assert load_retriever(str(bases["distilbert"]))[1].pooling_mode == "mean"


def test_the_bases_own_prompts_unless_the_recipe_has_others(bases):
    model = load_retriever(str(bases["bge-base"]))
    model.prompts = {"query": "q: ", "document": "", "passage": "p: "}
    assert prompts_of(model, None, None) == {"query": "q: ", "document": "p: ", "passage": "p: "}
    assert prompts_of(model, "", "x: ") == {"query": "", "document": "x: ", "passage": "x: "}
