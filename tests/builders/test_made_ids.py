"""A corpus whose ids are those that the build makes is refused, and any other is not."""

import pyarrow as pa
import pytest

from builders import build, schema
from builders.queries import TABLE
from builders.queries.config import QueriesConfig
from builders.recipe import BuildRecipe, CorpusConfig, NegativesConfig
from builders.recipe_checks import check_ids
from foils.errors import UserError
from foils.recipe import load_recipe


def checked(ids, kinds=("llm", "bm25"), queries=None, per_passage=1):
    corpus = pa.Table.from_pylist([{"_id": each, "title": "", "text": each} for each in ids], schema.CORPUS)
    config = BuildRecipe(
        "x", CorpusConfig("c"), queries=QueriesConfig(per_passage=per_passage), negatives=NegativesConfig(kinds)
    )
    asked = None if queries is None else pa.table({"_id": queries, "text": queries, "corpus-id": queries}, TABLE)
    check_ids(config, corpus, asked)


@pytest.mark.parametrize(
    ("ids", "settings", "clash"),
    [
        (["p0", "p0/q1/llm1"], {}, "p0/q1/llm1"),
        (["p0", "p0/q1"], {"kinds": ("bm25",)}, "p0/q1"),
        (["a/b", "p\n0", "p\n0/q2"], {"per_passage": 2}, "p\\\\n0/q2"),
        (["p0", "p0/q1/llm-with-positive1"], {"kinds": ("llm-with-positive",)}, "p0/q1/llm-with-positive1"),
        (["p0", "7/llm1"], {"queries": ["7"]}, "7/llm1"),
    ],
)
def test_clashes(ids, settings, clash):
    with pytest.raises(UserError, match=rf"a passage with id '{clash}', which is the id of what the build writes for"):
        checked(ids, **settings)


@pytest.mark.parametrize(
    ("ids", "settings"),
    [
        (["p0", "p0/q2", "p0/q1/llm2", "p1/q1", "p0/q01", "q1", "p0/q1/bm251"], {}),
        (["p0", "p0/q1/llm1"], {"kinds": ("bm25",)}),
        (["p0", "p0/q1", "8/llm1"], {"queries": ["7"]}),
        (["7", "7/llm1"], {"queries": ["7"], "kinds": ("bm25", "none")}),
    ],
)
def test_other_ids(ids, settings):
    checked(ids, **settings)


def test_a_build_is_refused_before_the_llm_is_asked(write_corpus, write_recipe, chat_server, tmp_path):
    ids = ["owl", "bat", "ant", "bee", "owl/q1/llm1"]
    folder = write_corpus([(each, "", f"A passage about the {each} and its ways.") for each in ids])
    recipe = load_recipe(write_recipe(), [f"corpus.source={str(folder)!r}"], BuildRecipe)
    with pytest.raises(UserError, match="id 'owl/q1/llm1'"):
        build.main(recipe, tmp_path / "out", tmp_path / "calls.sqlite")
    assert not chat_server.bodies
