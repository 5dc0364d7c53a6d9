"""`dense`: candidates by cosine, and scores of any pair."""

import numpy as np
import pyarrow as pa
import pytest
from sentence_transformers import SentenceTransformer

from builders import queries as written
from builders import schema
from builders.context import Context
from builders.mining import MINERS
from builders.negatives import dense
from builders.negatives.dense import DenseConfig
from builders.passages import Passages
from builders.recipe import BuildRecipe
from builders.recipe_checks import check
from foils.errors import UserError
from foils.models import resolve_model
from foils.recipe import load_recipe
from tests.conftest import ANIMALS, BASE

IDS = sorted(ANIMALS)
CORPUS = pa.table({"_id": IDS, "title": IDS, "text": [ANIMALS[name] for name in IDS]}, schema.CORPUS)
QUESTIONS = {name: f"which animal is it that {' '.join(ANIMALS[name].split()[1:6])}?" for name in IDS}
QUERIES = pa.table(
    {"_id": [f"{name}/q1" for name in IDS], "text": list(QUESTIONS.values()), "corpus-id": IDS}, written.TABLE
)
CONFIG = DenseConfig(model=BASE, depth=4)


@pytest.fixture
def context(tmp_path):
    return Context(CORPUS, "en", 42, converse=None, cache=tmp_path / "cache")


@pytest.fixture(scope="module")
def similar():
    """Cosine of every query (rows) and passage (columns), by sentence-transformers alone."""
    model = SentenceTransformer(resolve_model(BASE).location)
    texts = [f"{name} {ANIMALS[name]}" for name in IDS]
    asked, answers = model.encode_query(list(QUESTIONS.values())), model.encode_document(texts)
    return np.asarray(model.similarity(asked, answers))


def test_candidates_are_the_nearest_passages(context, similar):
    mined = MINERS["dense"](QUERIES, context, CONFIG)
    assert mined.candidates.schema == schema.CANDIDATES
    table = mined.candidates.to_pylist()
    assert len(table) == 4 * len(IDS)
    for number, query_id in enumerate(QUERIES["_id"].to_pylist()):
        own = [row for row in table if row["query-id"] == query_id]
        assert [row["rank"] for row in own] == [1, 2, 3, 4]
        best = np.argsort(-similar[number])[:4]
        assert [row["corpus-id"] for row in own] == [IDS[position] for position in best]
        assert [row["score"] for row in own] == pytest.approx(similar[number][best], abs=2e-6)
        assert all(row["score"] == round(row["score"], 6) for row in own)


def test_every_positive_is_scored_found_or_not(context, similar):
    far = np.argmin(similar, axis=1)  # the passage furthest from each query plays its positive
    queries = QUERIES.set_column(2, "corpus-id", pa.array([IDS[position] for position in far]))
    mixed = pa.concat_tables([queries.slice(0, 3), QUERIES.slice(3)])
    mined = dense.mine(mixed, context, CONFIG)
    assert mined.scores.schema == schema.SCORES
    pairs = {(row["query-id"], row["corpus-id"]): row["score"] for row in mined.scores.to_pylist()}
    assert len(pairs) == mined.scores.num_rows == 4 * len(IDS) + 3
    for number, row in enumerate(mixed.to_pylist()):
        expected = similar[number][IDS.index(row["corpus-id"])]
        assert pairs[row["_id"], row["corpus-id"]] == pytest.approx(expected, abs=2e-6)
    assert (
        pairs.items()
        >= {(row["query-id"], row["corpus-id"]): row["score"] for row in mined.candidates.to_pylist()}.items()
    )


def test_the_order_of_queries_and_passages_changes_no_candidate(context, tmp_path):
    turned = Context(CORPUS.take(list(range(len(IDS)))[::-1]), "en", 42, converse=None, cache=tmp_path / "other")
    one = dense.mine(QUERIES, context, CONFIG).candidates
    other = dense.mine(QUERIES.take(list(range(len(IDS)))[::-1]), turned, CONFIG).candidates
    order = [("query-id", "ascending"), ("rank", "ascending")]
    assert one.sort_by(order) == other.sort_by(order)


def test_a_depth_beyond_the_corpus_takes_all_of_it(context):
    elsewhere = QUERIES.set_column(2, "corpus-id", pa.array(["elsewhere", *IDS[1:]]))
    assert dense.mine(elsewhere, context, CONFIG).scores["query-id"].to_pylist().count(f"{IDS[0]}/q1") == 4
    deep = dense.mine(QUERIES, context, DenseConfig(model=BASE, depth=500))
    assert deep.candidates.num_rows == deep.scores.num_rows == len(IDS) ** 2
    assert dense.mine(QUERIES.slice(0, 0), context, CONFIG).candidates.num_rows == 0


def test_any_pair_is_scored_generated_ones_too(context, similar):
    row = ("g1", QUESTIONS["owl"], "owl/q1", "k", None)
    generated = pa.table([[each] for each in row], schema=schema.GENERATED)
    pairs = pa.table({"query-id": ["owl/q1", "bee/q1", "owl/q1"], "corpus-id": ["g1", "eel", "g1"]})
    found = dense.score(pairs, QUERIES, context.corpus.and_generated(generated), context, CONFIG)
    assert found.schema == schema.SCORES
    assert found.select(["query-id", "corpus-id"]) == pairs
    bee_eel = similar[IDS.index("bee"), IDS.index("eel")]
    assert found["score"].to_pylist() == [1.0, pytest.approx(bee_eel, abs=2e-6), 1.0]
    mined = dense.mine(QUERIES, context, CONFIG).scores
    again = dense.score(mined, QUERIES, context.corpus, context, CONFIG)
    assert again == mined  # the miner's scores are the scorer's, bit by bit
    with pytest.raises(UserError, match="query-id 'nobody' is not among the queries"):
        dense.score(
            pa.table({"query-id": ["nobody"], "corpus-id": ["eel"]}), QUERIES, Passages(CORPUS), context, CONFIG
        )


RECIPE = 'name = "x"\n[corpus]\nsource = "{corpus}"\n[negatives]\nkinds = ["dense"]\n[negatives.dense]\n'


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("", r"negatives\.dense\.model is missing; wanted an embedding model"),
        ('model = "m"\nrounds = 2\n', r"removed key negatives\.dense\.rounds: .* --set negatives\.dense\.model=MODEL"),
        ('model = "m"\nprecision = "int8"\n', "negatives.dense.precision"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, keys, words):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(corpus="python-docs") + keys)
    with pytest.raises(UserError, match=words):
        check(load_recipe(path, [], BuildRecipe).config)
