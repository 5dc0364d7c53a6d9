"""Evaluation: real models through mteb, identities kept apart, published figures met."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from eval import run
from eval.measure.baselines import bm25, ceiling, reranked
from eval.measure.encoder import Encoder
from eval.measure.encoding import Encoding
from eval.measure.results import Key
from eval.measure.search import evaluate, measure
from eval.measure.tasks import load_task
from eval.recipe import EvalRecipe
from foils.errors import UserError
from foils.evidence import read_rankings
from foils.models import resolve_model
from foils.recipe import Recipe
from tests.conftest import BASE, SHARED
from tests.fixtures.tiny import word_ranker

ENCODING = Encoding()


@pytest.fixture
def spoilt(tmp_path):
    """A local copy of the base with its weights shuffled: it must score much worse."""
    folder = tmp_path / "spoilt"
    shutil.copytree(resolve_model(BASE).location, folder)
    model = SentenceTransformer(str(folder))
    generator = torch.Generator().manual_seed(1)
    embeddings = model[0].model.embeddings.word_embeddings.weight
    embeddings.data = embeddings.data[torch.randperm(len(embeddings), generator=generator)]
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def test_two_local_models_keep_their_own_scores(task, spoilt, tmp_path):
    base, other = resolve_model(BASE), resolve_model(str(spoilt))
    assert base.revision != other.revision
    (good,) = evaluate(base, [task], tmp_path / "results", ENCODING)
    (bad,) = evaluate(other, [task], tmp_path / "results", ENCODING)
    assert good.metrics["nDCG@10"] > bad.metrics["nDCG@10"] + 0.1
    assert good.queries == 4
    assert evaluate(base, [task], tmp_path / "results", ENCODING) == [good]  # read, not measured again


def test_a_model_whose_scores_are_no_numbers_is_refused(task):
    reference = resolve_model(BASE)
    model = SentenceTransformer(reference.location)
    model[0].model.encoder.layer[0].output.dense.weight.data[:] = float("nan")
    with pytest.raises(UserError, match=r"score of passage '\w+' for query 'q1' of animals is not a finite number"):
        measure(Encoder(model, "fp32", task.sample()), reference, task)


def test_bm25_below_and_a_cross_encoder_on_top(task, animals, tmp_path, capsys):
    ranker = word_ranker(tmp_path / "ranker")
    recipe = EvalRecipe(
        BASE, (str(animals),), results=str(tmp_path / "r"), baselines=("bm25",), cross_encoder=str(ranker)
    )
    run.main(Recipe(recipe, ""))
    table = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert table == ["BM25", "untouched base", "base + ranker"]

    (lexical,) = bm25([task], tmp_path / "r")
    assert lexical.metrics["Recall@100"] > 0.5
    (base,) = evaluate(resolve_model(BASE), [task], tmp_path / "r", ENCODING)
    label, (top,) = ceiling(str(ranker), [task], [base], tmp_path / "r")
    assert (label, top.model) == ("base + ranker", "sentence-transformers/all-MiniLM-L6-v2 + ranker")
    assert top.metrics["Recall@100"] == base.metrics["Recall@100"]  # the same passages in another order
    ranked = read_rankings(Key.of(top).folder(tmp_path / "r") / "rankings.parquet")["q1"]
    query, passages = task.queries()["q1"], task.passages(ranked)
    scores = CrossEncoder(str(ranker)).predict([(query, passages[passage]) for passage in ranked])
    assert list(ranked.values()) == pytest.approx(scores.tolist(), abs=1e-5)


def test_hits_below_the_reranked_ones_keep_their_order(task, monkeypatch):
    monkeypatch.setattr("eval.measure.baselines.RERANKED", 2)
    rankings = {"q1": {"owl": 0.9, "bat": 0.8, "pig": 0.7, "bee": 0.6}}
    backwards = SimpleNamespace(predict=lambda pairs: np.arange(len(pairs), dtype=float))
    found = reranked(backwards, rankings, task)["q1"]
    assert sorted(found, key=found.get, reverse=True) == ["bat", "owl", "pig", "bee"]


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
@pytest.mark.parametrize(
    ("collection", "queries", "published"),
    [("cranfield", 225, 0.427), pytest.param("scifact", 300, 0.645, marks=pytest.mark.nightly)],
)
def test_the_base_meets_its_published_figure(collection, queries, published, tmp_path):
    (result,) = evaluate(resolve_model(BASE), [load_task(str(SHARED / "collections" / collection))], tmp_path, ENCODING)
    assert result.queries == queries
    assert result.metrics["nDCG@10"] == pytest.approx(published, abs=0.002)
