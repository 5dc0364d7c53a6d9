"""`dense`: candidates by cosine, scores of any pair, and rounds with a model that is really trained between them."""

import json

import numpy as np
import pyarrow as pa
import pytest
from sentence_transformers import SentenceTransformer

from builders import queries as written
from builders import schema
from builders.corpus import load
from builders.dataset.contents import inputs_of
from builders.leakage.guard import Guard
from builders.negatives import MINERS, config_of, dense
from builders.negatives.dense import DenseConfig
from builders.negatives.material import Material, Mined
from builders.passages import Passages
from builders.recipe import BuildRecipe
from builders.recipe_checks import check
from builders.remining import mine_again, others_of, overlap, recipe_of, rows_of
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
def material(tmp_path):
    return Material(CORPUS, "en", 42, converse=None, cache=tmp_path / "cache")


@pytest.fixture(scope="module")
def similar():
    """Cosine of every query (rows) and passage (columns), by sentence-transformers alone."""
    model = SentenceTransformer(resolve_model(BASE).location)
    texts = [f"{name} {ANIMALS[name]}" for name in IDS]
    asked, answers = model.encode_query(list(QUESTIONS.values())), model.encode_document(texts)
    return np.asarray(model.similarity(asked, answers))


def test_candidates_are_the_nearest_passages(material, similar):
    mined = MINERS["dense"](QUERIES, material, CONFIG)
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


def test_every_positive_is_scored_found_or_not(material, similar):
    far = np.argmin(similar, axis=1)  # the passage furthest from each query plays its positive
    queries = QUERIES.set_column(2, "corpus-id", pa.array([IDS[position] for position in far]))
    mixed = pa.concat_tables([queries.slice(0, 3), QUERIES.slice(3)])
    mined = dense.mine(mixed, material, CONFIG)
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


def test_the_order_of_queries_and_passages_changes_no_candidate(material, tmp_path):
    turned = Material(CORPUS.take(list(range(len(IDS)))[::-1]), "en", 42, converse=None, cache=tmp_path / "other")
    one = dense.mine(QUERIES, material, CONFIG).candidates
    other = dense.mine(QUERIES.take(list(range(len(IDS)))[::-1]), turned, CONFIG).candidates
    order = [("query-id", "ascending"), ("rank", "ascending")]
    assert one.sort_by(order) == other.sort_by(order)


def test_a_depth_beyond_the_corpus_takes_all_of_it(material):
    deep = dense.mine(QUERIES, material, DenseConfig(model=BASE, depth=500))
    assert deep.candidates.num_rows == deep.scores.num_rows == len(IDS) ** 2
    assert dense.mine(QUERIES.slice(0, 0), material, CONFIG).candidates.num_rows == 0


def test_any_pair_is_scored_generated_ones_too(material, similar):
    generated = pa.table(
        {"_id": ["g1"], "text": [QUESTIONS["owl"]], "query-id": ["owl/q1"], "call-key": ["k"]}, schema.GENERATED
    )
    pairs = pa.table({"query-id": ["owl/q1", "bee/q1", "owl/q1"], "corpus-id": ["g1", "eel", "g1"]})
    found = dense.score(pairs, QUERIES, material.corpus.and_generated(generated), material, CONFIG)
    assert found.schema == schema.SCORES
    assert found.select(["query-id", "corpus-id"]) == pairs
    bee_eel = similar[IDS.index("bee"), IDS.index("eel")]
    assert found["score"].to_pylist() == [1.0, pytest.approx(bee_eel, abs=2e-6), 1.0]
    mined = dense.mine(QUERIES, material, CONFIG).scores
    again = dense.score(mined, QUERIES, material.corpus, material, CONFIG)
    assert again == mined  # the miner's scores are the scorer's, bit by bit
    with pytest.raises(ValueError, match="'nobody' is among neither"):
        dense.score(
            pa.table({"query-id": ["nobody"], "corpus-id": ["eel"]}), QUERIES, Passages(CORPUS), material, CONFIG
        )


@pytest.fixture
def trainer(tmp_path):
    """A training recipe of two steps."""
    path = tmp_path / "retriever.toml"
    path.write_text(
        f'dataset = "x"\nkind = "x"\nbase = "{BASE}"\nmax_seq_length = 32\n'
        "[trainer]\nmax_steps = 2\nper_device_train_batch_size = 4\nlearning_rate = 1e-3\n"
    )
    return path


def test_a_round_is_mined_by_a_model_that_was_trained_on_the_last(material, trainer, tmp_path):
    prompted = {"query_prompt": "query: ", "passage_prompt": 'passage "x": '}
    config = DenseConfig(model=BASE, depth=4, rounds=2, train_with=str(trainer), **prompted)
    mined = dense.mine(QUERIES, material, config)
    (folder,) = (tmp_path / "cache" / "dense-rounds").iterdir()
    record = json.loads((folder / "model" / "run.json").read_text())
    first, second = mined.record["rounds"]
    assert first == {**first, "model": resolve_model(BASE).name, "weights": resolve_model(BASE).weights}
    assert [first["trained_with"], first["trained_on"], first["overlap"]] == [None, None, None]
    assert second["weights"] == record["model"]["revision"] != first["weights"]
    assert second["trained_on"] == record["dataset"]["rows"] == len(IDS)
    assert second["trained_with"] == recipe_of(str(trainer))
    assert 0 < second["overlap"] <= 1
    assert record["training"]["steps"] == 2
    assert SentenceTransformer(str(folder / "model")).prompts == {"query": "query: ", "document": 'passage "x": '}
    # Its candidates are those of the tuned model, mined alone.
    tuned = dense.mine(QUERIES, material, DenseConfig(model=str(folder / "model"), depth=4, **prompted))
    assert tuned.candidates == mined.candidates
    assert tuned.scores == mined.scores
    assert second["gap"] == tuned.record["rounds"][0]["gap"]
    assert str(tmp_path) not in json.dumps(mined.record)
    # Started again, nothing is trained again; other candidates are trained on elsewhere.
    written_at = (folder / "model" / "run.json").stat().st_mtime_ns
    assert dense.mine(QUERIES, material, config) == mined
    assert (folder / "model" / "run.json").stat().st_mtime_ns == written_at


def test_a_training_that_fails_is_named(material, trainer):
    trainer.write_text(trainer.read_text() + "no_such_argument = 1\n")
    config = DenseConfig(model=BASE, depth=4, rounds=2, train_with=str(trainer))
    with pytest.raises(UserError, match=r"negatives.dense.train_with .*retriever.toml: training ended with exit code"):
        dense.mine(QUERIES, material, config)


def hits(*rows):
    names = schema.CANDIDATES.names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema.CANDIDATES)


def test_training_rows_hold_no_positive_by_id_or_text():
    corpus = Passages(
        pa.table(
            {
                "_id": ["a", "b", "c", "d"],
                "title": ["", "", "T", ""],
                "text": ["Own  text", "own text", "other", "third"],
            },
            schema.CORPUS,
        )
    )
    queries = pa.table(
        {"_id": ["q1", "q2", "q3"], "text": ["one", "two", "three"], "corpus-id": ["a", "c", "a"]}, written.TABLE
    )
    candidates = hits(
        *(("q3", "b", 1, 0.5), ("q2", "d", 2, 0.4), ("q1", "c", 3, 0.7)),
        *(("q1", "a", 1, 0.9), ("q1", "b", 2, 0.8), ("q2", "c", 1, 0.6)),
    )
    scores = candidates.select(schema.SCORES.names)
    scores = pa.concat_tables([scores, pa.table({"query-id": ["q3"], "corpus-id": ["a"], "score": [0.7]})])
    found = Mined(candidates, scores=scores)
    others = others_of(queries, found, corpus)
    assert rows_of(queries, others, corpus).to_pylist() == [
        {"query": "one", "positive": "Own  text", "negative_1": "T other"},
        {"query": "two", "positive": "T other", "negative_1": "third"},
    ]
    assert overlap(others, others) == 1.0
    record = mine_again(queries, Material(corpus.table, "en", 1, converse=None), CONFIG, lambda *_: found).record
    assert record["rounds"][0]["gap"] == round((0.1 + 0.2 + 0.2) / 3, 6)
    alone = others_of(queries.slice(2), Mined(candidates.slice(0, 1)), corpus)
    with pytest.raises(UserError, match="no query has a candidate beside its positive to train on"):
        rows_of(queries.slice(2), alone, corpus)


RECIPE = 'name = "x"\n[corpus]\nsource = "{corpus}"\n[negatives]\nkinds = ["dense"]\n[negatives.dense]\n'


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("", r"negatives\.dense\.model is missing; wanted an embedding model"),
        ('model = "m"\nrounds = 2\n', r"rounds 2 with train_with None: wanted a training recipe for more than one"),
        ('model = "m"\ntrain_with = "t"\n', "rounds 1 with train_with t: .*none for one round"),
        ('model = "m"\nrounds = 0\n', "negatives.dense.rounds"),
        ('model = "m"\nprecision = "int8"\n', "negatives.dense.precision"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, keys, words):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(corpus="python-docs") + keys)
    with pytest.raises(UserError, match=words):
        check(load_recipe(path, [], BuildRecipe).config)


def test_a_missing_or_wrong_training_recipe_is_noticed_before_anything_is_paid(animals, tmp_path, trainer):
    def inputs(train_with, model=BASE):
        path = tmp_path / "recipe.toml"
        keys = f'model = "{model}"\nrounds = 2\ntrain_with = "{train_with}"\n'
        path.write_text(RECIPE.format(corpus=animals) + keys)
        config = load_recipe(path, ["llm.base_url=http://127.0.0.1:9/v1", "llm.model=m"], BuildRecipe).config
        check(config)
        assert config_of(config.negatives, "dense").rounds == 2
        return inputs_of(config, load(config.corpus), config.llm, None, Guard(config.leakage))

    models = inputs(trainer)["models"]
    assert models["dense"]["revision"] == resolve_model(BASE).weights
    assert models["dense-training"] == {"name": "retriever.toml", "revision": recipe_of(str(trainer))}
    with pytest.raises(UserError, match=r"negatives\.dense\.train_with nowhere\.toml: no such file"):
        inputs("nowhere.toml")
    with pytest.raises(UserError, match="not a model folder"):
        inputs(trainer, animals)
    trainer.write_text('task = "cross-encoder"\n')
    with pytest.raises(UserError, match=r"its task is 'cross-encoder'; wanted a recipe with task = \"retriever\""):
        inputs(trainer)
    trainer.write_text("task = \n")
    with pytest.raises(UserError, match=r"train_with .*retriever.toml: cannot be read"):
        inputs(trainer)
