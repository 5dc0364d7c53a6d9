"""Metrics against ten-line references, and results that are found by content."""

import math
import random

import pytest

from cards.evidence import read_judgements, read_rankings
from cards.metrics import METRICS, means, per_query_scores
from eval.results import Measured, Result, read_result, read_scores, write_result


def reference(ranking, judged):
    """nDCG@10 with linear gains (as trec_eval), Precision@10 and Recall@100, straight from the formulae."""
    best = sorted(ranking, key=lambda passage: (-ranking[passage], passage))
    dcg = sum(judged.get(passage, 0) / math.log2(rank + 2) for rank, passage in enumerate(best[:10]))
    ideal = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(sorted(judged.values(), reverse=True)[:10]))
    return {
        "nDCG@10": dcg / ideal,
        "Precision@10": sum(passage in judged for passage in best[:10]) / 10,
        "Recall@100": sum(passage in judged for passage in best[:100]) / len(judged),
    }


def test_metrics_equal_the_reference():
    lots = random.Random(5)
    passages = [f"p{n}" for n in range(300)]
    rankings, qrels = {}, {}
    for number in range(50):
        found = lots.sample(passages, 150)
        rankings[f"q{number}"] = {passage: 1.0 - position / 200 for position, passage in enumerate(found)}
        qrels[f"q{number}"] = {passage: lots.randint(1, 4) for passage in lots.sample(passages, lots.randint(1, 20))}
    scores = per_query_scores(rankings, qrels)
    for query, judged in qrels.items():
        assert scores[query] == pytest.approx(reference(rankings[query], judged), abs=1e-6)
    wanted = {name: sum(reference(rankings[q], qrels[q])[name] for q in qrels) / 50 for name in METRICS}
    assert means(scores) == pytest.approx(wanted, abs=1e-6)


def test_a_query_without_hits_counts_as_zero():
    scores = per_query_scores({"a": {"p": 1.0}}, {"a": {"p": 1}, "b": {"p": 1}})
    assert scores["b"] == {"nDCG@10": 0.0, "Precision@10": 0.0, "Recall@100": 0.0}
    assert means(scores)["nDCG@10"] == 0.5


def test_results_are_found_by_weights_and_data(tmp_path):
    scores = {"a": {"nDCG@10": 0.25, "Precision@10": 0.1, "Recall@100": 1.0}}
    result = Result(
        model="m",
        model_revision="e" * 40,
        weights="sha256:" + "a" * 64,
        task="t",
        task_revision="sha256:" + "b" * 64,
        split="test",
        dataset=None,
        queries_of=None,
        queries=1,
        metrics=means(scores),
        precision="fp32",
        prompts=None,
        seconds=1.0,
        packages={"mteb": "2"},
    )
    key = result.key()
    folder = key.folder(tmp_path)
    assert read_result(folder) is None
    write_result(folder, result, Measured({"a": {"p": 1.0}}, {"a": {"p": 1}}, scores, {}))
    assert read_result(folder) == result
    assert read_scores(folder) == scores
    changes = {"weights": "sha256:" + "c" * 64, "precision": "bf16", "task": "u", "task_revision": "sha256:dd"}
    assert folder not in {key._replace(**{name: value}).folder(tmp_path) for name, value in changes.items()}
    (folder / "result.json").write_text('{"model": "of an older form"}')
    assert read_result(folder) is None


def test_the_stored_ranks_give_the_same_metrics(tmp_path):
    """Cut at the metrics' depth, with many ties and scores that differ only beyond single precision."""
    lots = random.Random(8)
    passages = [f"p{n}" for n in range(400)]
    rankings = {
        f"q{n}": {p: round(lots.random(), 1) + lots.random() * 1e-10 for p in lots.sample(passages, 300)}
        for n in range(40)
    }
    qrels = {query: {p: lots.randint(0, 2) for p in lots.sample(passages, 15)} for query in rankings}
    result = Result("m", "r", "w", "t", "d", "test", None, None, 40, {}, "fp32", None, 0.0, {})
    scores = per_query_scores(rankings, qrels)
    write_result(tmp_path, result, Measured(rankings, qrels, scores, {}))
    stored = read_rankings(tmp_path / "rankings.parquet")
    assert {len(hits) for hits in stored.values()} == {100}
    assert read_judgements(tmp_path / "judgements.parquet") == qrels
    assert per_query_scores(stored, qrels) == scores
