"""Builds whose stages run by engines: the data set is the same to the last byte, whoever computes."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.recipe import BuildRecipe, identity_hash
from builders.retrieval import encoding
from builders.retrieval.bm25 import shards
from builders.retrieval.bm25.index import figures_of, kept_words
from builders.retrieval.bm25.search import Bm25Index
from builders.retrieval.embeddings import Embedder
from builders.retrieval.encoding import Reading, as_texts
from builders.scores import cross_encoder, lanes
from builders.scores.config import CrossEncoderConfig
from builders.scores.pairs import Pairs
from cards.verify.artefact import find
from cards.verify.dataset import dataset_links
from foils.engine.config import EngineConfig
from foils.engine.parts import state_of
from foils.engine.plan import read_plan
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.conftest import beir
from tests.fixtures import ROOT, tiny
from tests.fixtures.engine_builds import Build, kill_a_worker
from tests.fixtures.ray_nodes import needs_ray, two_nodes

TWO = EngineConfig(workers=2)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Processes of engines import this checkout, wherever an installation points."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    return tiny.retriever("mean", tmp_path_factory.mktemp("retriever"))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    return tiny.word_ranker(tmp_path_factory.mktemp("reranker") / "model")


def texts(count, seed=1):
    dice = random.Random(seed)
    return [" ".join(dice.choices(tiny.WORDS, k=dice.randint(1, 30))) for _ in range(count)]


def corpus(count):
    """Passages, some of them twice in the same range of rows or in two."""
    found = texts(count)
    found[3], found[-1] = found[1], found[2]
    return as_texts([f"p{number:03}" for number in range(count)], found)


@pytest.fixture
def ranges(monkeypatch):
    """Shards of 300 texts and 300 pairs: more than are encoded at once. One thread, as each worker has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    assert encoding.AT_ONCE["cpu"] == lanes.AT_ONCE["cpu"] == 256
    monkeypatch.setattr("builders.retrieval.embeddings.ROWS", 300)
    monkeypatch.setattr("builders.scores.cross_encoder.BLOCK", 300)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("ranges")
def test_vectors_are_the_same_to_the_last_bit(retriever, tmp_path):
    passages, reading = corpus(700), Reading(str(retriever))
    plain = Embedder(reading, tmp_path / "plain").embed(passages, "document")
    for name, engine in (("one", EngineConfig()), ("two", TWO)):
        shared = Embedder(reading, tmp_path / name, engine).embed(passages, "document")
        assert (shared.take(np.arange(700)) == plain.take(np.arange(700))).all()
        assert not list((tmp_path / name / "engine").glob("*/"))  # what is in the store need not lie there twice


@pytest.mark.usefixtures("ranges")
def test_a_begun_plan_is_finished_by_whoever_comes(retriever, tmp_path, monkeypatch):
    passages, reading = corpus(700), Reading(str(retriever))
    plain = Embedder(reading, tmp_path / "plain").embed(passages, "document")
    with pytest.raises(UserError, match=r"embedding passages: 3 of 3 shards are left; run the commands above"):
        Embedder(reading, tmp_path / "other", EngineConfig("slurm")).embed(passages, "document")
    (plan,) = (tmp_path / "other" / "engine").glob("*/")
    done = subprocess.run([sys.executable, "-m", "foils", "shard", plan, "--shards", "0,2"], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert state_of(plan, read_plan(plan)).done == [0, 2]
    begun = []
    real = encoding.Encoder.encoded
    monkeypatch.setattr(encoding.Encoder, "encoded", lambda *given: begun.append(1) or real(*given))
    found = Embedder(reading, tmp_path / "other").embed(passages, "document")
    assert (found.take(np.arange(700)) == plain.take(np.arange(700))).all()
    assert len(begun) == 1  # the shard without a marker


@pytest.mark.usefixtures("ranges")
def test_rows_that_a_begun_plan_does_not_cover_are_computed_too(retriever, tmp_path):
    """The store knew some when the plan was made, and its folder, which is a cache, was deleted since."""
    passages, reading, cache = corpus(700), Reading(str(retriever)), tmp_path / "other"
    plain = Embedder(reading, tmp_path / "plain").embed(passages, "document")
    known = Embedder(reading, cache)
    known.embed(passages, "document", np.arange(300, 450))
    with pytest.raises(UserError, match="3 of 3 shards are left"):
        Embedder(reading, cache, EngineConfig("slurm")).embed(passages, "document")
    shutil.rmtree(known.folder("document"))
    found = Embedder(reading, cache).embed(passages, "document")
    assert (found.places >= 0).all()
    assert np.allclose(found.take(np.arange(700)), plain.take(np.arange(700)), atol=1e-6)


def pairs(count=800):
    passages = corpus(60)
    dice = random.Random(3)
    asked = np.array([dice.randrange(30) for _ in range(count)])
    answering = np.array([dice.randrange(60) for _ in range(count)])
    return Pairs(pa.chunked_array([texts(30, 9)]), passages, asked, answering)


@pytest.mark.usefixtures("ranges")
def test_scores_are_the_same_to_the_last_bit(reranker, tmp_path):
    config = CrossEncoderConfig(model=str(reranker))
    plain = cross_encoder.Scorer(config, "fp32", tmp_path / "plain")
    wanted = plain.scores(pairs())
    for name, engine in (("one", EngineConfig()), ("two", TWO)):
        scorer = cross_encoder.Scorer(config, "fp32", tmp_path / name, engine)
        # Some are known already, so that shards have gaps.
        scorer.scores(pairs().at(np.arange(270)))
        half = cross_encoder.Scorer(config, "fp32", tmp_path / f"{name}-plain")
        half.scores(pairs().at(np.arange(270)))
        assert (scorer.scores(pairs()) == half.scores(pairs())).all()
        shared = cross_encoder.Scorer(config, "fp32", tmp_path / f"{name}-fresh", engine)
        assert (shared.scores(pairs()) == wanted).all()
        assert rows(shared.folder) == rows(plain.folder)
        assert list((tmp_path / f"{name}-fresh" / "engine").glob("*.lock"))


def rows(folder):
    """The rows of a store by key: they may come in any order."""
    keys = np.fromfile(folder / "keys.bin", np.uint64).reshape(-1, 2).tolist()
    return dict(zip(map(tuple, keys), np.fromfile(folder / "rows.bin", np.float32).tolist(), strict=True))


@pytest.mark.usefixtures("ranges")
@pytest.mark.parametrize("engine", [EngineConfig(), TWO])
def test_the_nearest_passages_of_shards_are_those_of_the_whole(engine, retriever, tmp_path, monkeypatch):
    passages, reading = corpus(130), Reading(str(retriever))
    asked = as_texts([f"q{number}" for number in range(7)], texts(7, 5))

    def search(name, how=None):
        embedder = Embedder(reading, tmp_path / name, how)
        asking, answering = embedder.embed(asked, "query"), embedder.embed(passages, "document")
        return embedder.search(asking, passages, answering, 12)

    plain = search("plain")
    monkeypatch.setattr("builders.retrieval.embeddings.SEARCHED", 30)
    shared = search("shared", engine)
    assert list((tmp_path / "shared" / "engine").glob("nearest-*.lock"))
    for name in ("offsets", "positions", "scores"):
        assert (getattr(plain, name) == getattr(shared, name)).all()


WORDS = st.text(alphabet="ab c", max_size=12)


@settings(max_examples=40)
@given(
    bodies=st.lists(WORDS, min_size=1, max_size=12),
    asked=st.lists(st.tuples(WORDS, st.integers(-1, 11)), min_size=1, max_size=4),
    k=st.integers(1, 15),
    rows=st.integers(1, 5),
    few=st.sampled_from([0, 1000]),
)
def test_bm25_of_shards_is_that_of_one_index_to_the_bit(bodies, asked, k, rows, few):
    # Ids in another order than positions: ties go by id, across shards too.
    ids = [f"{hashlib.sha256(str(number).encode()).hexdigest()[:6]}" for number in range(len(bodies))]
    passages = as_texts(ids, [body.replace("a", "owl ").replace("b", "bee") for body in bodies])
    queries = pa.array([text.replace("a", "owl ").replace("b", "bee") for text, _ in asked], pa.string())
    at = np.array([place if place < len(bodies) else -1 for _, place in asked])
    with TemporaryDirectory() as folder, mock.patch.object(shards, "ROWS", rows), mock.patch.object(shards, "FEW", few):
        plain = Bm25Index(passages, "en", Path(folder) / "plain").search_arrow(queries, k, at)
        index = shards.ShardedIndex(passages, "en", Path(folder), EngineConfig())
        found = index.search_arrow(queries, k, at)
    assert found.scores.dtype == plain.scores.dtype
    for name in ("offsets", "positions", "scores"):
        assert getattr(found, name).tolist() == getattr(plain, name).tolist()
    np.testing.assert_array_equal(found.given, plain.given)


def test_bm25_by_processes_and_its_interface(tmp_path, monkeypatch):
    passages, queries = corpus(130), texts(9, 4)
    plain = Bm25Index(passages, "en", tmp_path / "plain")
    monkeypatch.setattr(shards, "ROWS", 40)
    for few in (0, 1000):
        monkeypatch.setattr(shards, "FEW", few)
        assert shards.ShardedIndex(passages, "en", tmp_path, TWO).search(queries, 20) == plain.search(queries, 20)


def test_bm25_indexes_that_were_deleted_are_made_again(tmp_path, monkeypatch):
    passages, queries = corpus(130), texts(9, 4)
    monkeypatch.setattr(shards, "ROWS", 40)
    monkeypatch.setattr(shards, "FEW", 0)
    plain = shards.ShardedIndex(passages, "en", tmp_path, EngineConfig()).search(queries, 20)
    assert not [*(tmp_path / "bm25").glob("*-words")]
    for folder in (tmp_path / "bm25").glob("*-40-40"):
        shutil.rmtree(folder)
    index = shards.ShardedIndex(passages, "en", tmp_path, EngineConfig())
    assert index.search(queries, 20) == plain
    assert not [*(tmp_path / "bm25").glob("*-words")]
    shutil.rmtree(tmp_path / "bm25")
    with pytest.raises(UserError, match="missing; put that folder where all workers see it"):
        index.search(queries, 20)
    assert shards.ShardedIndex(passages, "en", tmp_path, EngineConfig()).search(queries, 20) == plain


def test_words_that_were_cut_short_are_refused(tmp_path):
    place = tmp_path / "index"
    figures = figures_of(corpus(130), "en", place)
    with (kept_words(place) / "ids").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(UserError, match=r"index-words: cut short; delete it, and run the same command again"):
        Bm25Index(corpus(130), "en", tmp_path, figures, "index")


def test_the_engine_is_not_part_of_a_recipes_identity(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('name = "x"\n[corpus]\nsource = "y"\n')
    plain = load_recipe(path, [], BuildRecipe).config
    spread = load_recipe(path, ["engine.kind=ray", "engine.workers=8", "engine.address=auto"], BuildRecipe).config
    assert spread.engine == EngineConfig("ray", 8, address="auto")
    assert identity_hash(plain) == identity_hash(spread)
    for wrong, said in (
        ("engine.kind=spark", r"engine.kind: .*allowed: local, ray, slurm, hf-jobs"),
        ("engine.nodes=2", r"unknown key engine.nodes; allowed here: kind, workers"),
        ("engine.workers=0", r"engine.workers: "),
        ("engine.address=auto", r"address 'auto' is for kind \"ray\" or \"hf-jobs\""),
    ):
        with pytest.raises(UserError, match=said):
            load_recipe(path, [wrong], BuildRecipe)


@pytest.fixture
def recipe(tmp_path, retriever, reranker):
    """A recipe without an LLM: labelled queries, and candidates by both models."""
    passages = [(f"p{number:03}", f"w{number % 60}", text) for number, text in enumerate(texts(130))]
    folder = beir(tmp_path / "corpus", passages)
    queries = [{"_id": f"q{number:02}", "text": " ".join(passages[number * 3][2].split()[:4])} for number in range(30)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    (folder / "qrels").mkdir()
    judged = "".join(f"q{number:02}\tp{number * 3:03}\t1\n" for number in range(30))
    (folder / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'name = "spread"\n[corpus]\nsource = "{folder}"\nlicense = "cc0-1.0"\nlanguage = "en"\nmin_chars = 1\n'
        f'[queries]\nsource = "{folder}"\nround_trip_k = 0\n'
        '[negatives]\nkinds = ["dense", "bm25", "cross-encoder"]\n'
        f'[negatives.dense]\nmodel = "{retriever}"\ndepth = 10\n'
        f'[negatives.cross-encoder]\nmodel = "{reranker}"\npool = 10\ndepth = 5\n'
    )
    return path


def build(recipe, name, *engine):
    """Builds and returns the SHA-256 of every Parquet file."""
    out = recipe.parent / name
    found = Build(recipe, out, 40, *engine).end()
    assert not list((out / "cache").glob("engine/*/plan.json"))
    plans = [lock.name.partition("-")[0] for lock in (out / "cache").glob("engine/*.lock")]  # each was made
    assert len(plans) == (6 if engine else 0), plans
    assert "broken" not in {link.status for link in dataset_links(find(str(out / "dataset")))}
    return found


def test_a_build_by_two_processes_is_the_same_to_the_last_byte(recipe):
    plain = build(recipe, "plain")
    assert build(recipe, "one", "engine.workers=1") == plain
    assert build(recipe, "two", "engine.workers=2") == plain


@needs_ray
def test_a_build_on_two_nodes_is_the_same_to_the_last_byte(recipe):
    plain = build(recipe, "plain")
    with two_nodes() as (cluster, _):
        address = f"engine.address={cluster.address}"
        assert build(recipe, "nodes", "engine.kind=ray", "engine.workers=2", address) == plain


@needs_ray
def test_a_build_over_which_all_is_killed_is_the_same_and_makes_no_marked_shard_again(recipe):
    kinds, out = 'negatives.kinds=["bm25", "random"]', recipe.parent / "killed"
    plain = Build(recipe, recipe.parent / "plain", 15, kinds).end()
    with two_nodes() as (cluster, node):
        first = Build(
            recipe, out, 15, kinds, "engine.kind=ray", "engine.workers=2", f"engine.address={cluster.address}"
        )
        marked = first.midway()
        kill_a_worker()
        cluster.remove_node(node, allow_graceful=False)
        last = first.midway()
        first.process.kill()
        first.process.wait()
    second = Build(recipe, out, 15, kinds, "engine.workers=2")
    assert second.end() == plain
    assert not [path for path in marked if len(first.written[path]) > 1]
    assert not [path for path in last if len(first.written[path] | second.written[path]) > 1]
