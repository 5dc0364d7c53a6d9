"""Mistakes in a recipe: one line that names the key, what is allowed and the remedy."""

import pytest

from builders.recipe import BuildRecipe, identity_hash
from builders.recipe_checks import check
from foils.errors import UserError
from foils.recipe import load_recipe

GOOD = 'name = "x"\n[corpus]\nsource = "python-docs"\n[negatives]\nkinds = ["bm25"]\n'


def load(tmp_path, text, *overrides):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    recipe = load_recipe(path, overrides, BuildRecipe)
    check(recipe.config)
    return recipe


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\n', ["missing key corpus"]),
        (GOOD + 'kindz = ["llm"]\n', ["unknown key negatives.kindz", "allowed here: kinds, per_query"]),
        (GOOD + "[corpos]\na = 1\n", ["unknown key corpos", "corpus"]),
        (GOOD + "[queries]\nper_passage = 0\n", ["queries.per_passage", ">= 1"]),
        (GOOD + '[queries]\nround_trip_k = "many"\n', ["queries.round_trip_k", "expected `int`"]),
        (GOOD.replace("bm25", "bm52"), ["negatives.kinds", "bm52"]),
        (GOOD.replace('["bm25"]', '["bm25", "bm25"]'), ["negatives.kinds", "each once"]),
        (GOOD.replace("bm25", "cross-encoder"), ["negatives.cross-encoder", "exactly one of model", "train_with"]),
        (GOOD + '[llm]\nbase_url = "http://me:secret@host/v1"\n', ["llm.base_url", "api_key_env"]),
        (GOOD.replace('"x"', '"Bad Name"'), ["name 'Bad Name'", "lower-case"]),
        (GOOD + '[selection]\nshortfall = "fill"\n', ["removed key selection.shortfall", "per_query lower"]),
        (GOOD + "[leakage]\nminhash = 0.7\n", ["removed key leakage.minhash", "leakage.ngram_share finds what"]),
        (GOOD + '[llm]\nserver = "vllm"\n', ["removed key llm.server: leave it out"]),
        (GOOD + '[llm]\nendpoint = "me/mine"\n', ["removed key llm.endpoint: set llm.base_url to"]),
        (GOOD + '[llm]\nbase_url = ["http://a/v1"]\n', ["llm.base_url: expected", "name one address; nginx"]),
        ("name = \n", ["cannot be read"]),
    ],
)
def test_each_mistake_is_named(tmp_path, text, words):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_invalid_utf8_says_where(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(UserError, match="not UTF-8 at byte 8"):
        load_recipe(path, [], BuildRecipe)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_recipe(tmp_path / "none.toml", [], BuildRecipe)


def test_set_replaces_values_and_is_checked(tmp_path):
    recipe = load(tmp_path, GOOD, "llm.concurrency=64", "corpus.sample=7")
    assert recipe.config.llm.concurrency == 64
    assert recipe.config.corpus.sample == 7
    assert recipe.overrides == ("llm.concurrency=64", "corpus.sample=7")
    with pytest.raises(UserError, match=r"unknown key llm\.konkurrency"):
        load(tmp_path, GOOD, "llm.konkurrency=64")
    with pytest.raises(UserError, match="wanted KEY=VALUE"):
        load(tmp_path, GOOD, "llm.concurrency")


def test_identity_ignores_transport_and_comments_but_not_content(tmp_path):
    plain = identity_hash(load(tmp_path, GOOD).config)
    assert identity_hash(load(tmp_path, "# a comment\n" + GOOD, "llm.concurrency=3").config) == plain
    assert identity_hash(load(tmp_path, GOOD, "seed=7").config) != plain
    assert identity_hash(load(tmp_path, GOOD, "llm.model=other", "llm.base_url=http://127.0.0.1:1/v1").config) != plain


@pytest.mark.parametrize(
    ("overrides", "searches"),
    [
        (['negatives.kinds=["dense"]', "queries.round_trip_k=0"], False),
        (['negatives.kinds=["llm"]', "queries.round_trip_model=m"], False),
        (['negatives.kinds=["dense"]'], True),
        (['negatives.kinds=["bm25"]', "queries.round_trip_k=0"], True),
        (['negatives.kinds=["cross-encoder"]', "queries.round_trip_k=0", "negatives.cross-encoder.model=m"], True),
    ],
)
def test_a_language_must_suit_bm25_only_where_it_searches(tmp_path, overrides, searches):
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    assert load_recipe(path, overrides, BuildRecipe).config.searches_words is searches
