"""Mistakes in a recipe: one line that names the key, what is allowed and the remedy."""

import subprocess
import sys

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
        (
            GOOD + "[negatives.llm.checks]\nquoted = 0.9\n",
            ["removed key negatives.llm.checks: leave it out; all checks are made"],
        ),
        (GOOD + "[leakage]\nminhash = 0.7\n", ["removed key leakage.minhash", "leakage.ngram_share finds what"]),
        (GOOD + '[llm]\nserver = "vllm"\n', ["llm.server: leave it out; requests have OpenAI's form"]),
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


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            'negatives={kinds = ["random"], per_query = 40}',
            r"per_query 40: kind random has at most 20 candidates for a query; set negatives.random.depth to 41",
        ),
        (
            'negatives={kinds = ["bm25"], per_query = 50}',
            r"per_query 50: kind bm25 has at most 49 candidates for a query; set negatives.bm25.depth to 51",
        ),
        (
            "selection.kinds={bm25 = {rank_min = 51}}",
            r"selection for bm25: rank_min 51 and the last rank, 50, leave 0 of a query's candidates, .*per_query is 1",
        ),
        (
            "negatives.per_query=12",
            r"per_query 12: kind llm has at most 1 candidates for a query; set negatives.llm.count to 12 or more",
        ),
        ("seed=-1", r"seed: expected `int` >= 0"),
        ("queries={min_words = 9, max_words = 4}", r"queries.min_words 9 is above queries.max_words 4"),
        ("llm.extra_body={stream = true}", r"llm.extra_body.stream: set by Foils itself"),
        ("llm.extra_body={since = 2026-01-01}", r"llm.extra_body: .*; wanted values that JSON has"),
        ("llm.base_url=http://127.0.0.1:99999/v1", r"llm.base_url: wanted http://host:port/v1"),
        ("llm.base_url=https://h/v1?api_key=SECRET", r"llm.base_url: wanted http://host:port/v1"),
        ("llm.budget=3.0", r"llm.budget 3: needs prices to count with"),
        ("selection.ceiling={bm52=1}", r"scores of 'bm52'; this build has those of bm25, cross-encoder, dense"),
        ("selection.ceiling={cross-encoder=1}", r"negatives\.cross-encoder: wanted exactly one of model"),
        ("selection.ceiling={bm25=1}", r"a rule for (llm|random) looks at scores of bm25, which scores only what it"),
        (
            'negatives.variants={corpus = "bm25"}',
            r"variants\.corpus: 'bm25': wanted a new name .* no configuration has",
        ),
        ('negatives.variants={x = "bm25+random"}', r"variants\.x: 'bm25\+random': wanted a new name"),
        ('negatives.variants={x = "bm25"}', r"variants\.x: not among negatives\.kinds; add it there"),
        ("selection.ceiling={dense=1}", r"negatives\.dense\.model is missing"),
        ('negatives.kinds=["bm25", "bm25+dense"]', r"'bm25\+dense': allowed are .* of kinds that are listed too"),
        ('negatives.kinds=["bm25", "none", "bm25+none"]', r"'bm25\+none': allowed are .* of kinds that are listed too"),
        ('negatives.kinds=["bm25", "bm25+bm25"]', r"'bm25\+bm25' names a kind twice"),
        ("negatives.kinds=[]", r"wanted one or more kinds of negatives"),
        ('negatives.shares={"bm25+random" = {bm25 = 1, random = 1}}', r"no mix of that name among negatives\.kinds"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, override, words):
    with pytest.raises(UserError, match=words) as caught:
        load(tmp_path, GOOD, 'negatives.kinds=["llm", "bm25", "random"]', override)
    assert "SECRET" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(UserError, match="not UTF-8 at byte 8"):
        load_recipe(path, [], BuildRecipe)
    with pytest.raises(UserError, match="no such file"):
        load_recipe(tmp_path / "none.toml", [], BuildRecipe)


def test_a_mistake_is_reported_before_anything_heavy_is_imported(tmp_path):
    (tmp_path / "recipe.toml").write_text(GOOD + 'kindz = ["llm"]\n')
    command = [sys.executable, "-X", "importtime", "-m", "builders.build", str(tmp_path / "recipe.toml")]
    errors = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "unknown key negatives.kindz" in errors
    loaded = {line.rpartition("|")[2].strip() for line in errors.splitlines() if line.startswith("import time:")}
    assert "builders.recipe" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "pandas", "bm25s", "sklearn", "aiohttp", "builders.steps"}


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
