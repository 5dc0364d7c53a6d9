"""Metrics against ten-line references, and results that are found by content."""

import math
import random

import msgspec
import pytest

from eval.measure.results import NAMES, Key, Measured, read_result, read_scores, scores_of, write_result
from foils.errors import UserError
from foils.evidence import read_judgements, read_rankings, write_rankings
from foils.metrics import METRICS, means, per_query_scores
from foils.records import Result


def reference(ranking, judged):
    """nDCG@10 with linear gains (as trec_eval) and the other figures, straight from the formulae."""
    best = sorted(ranking, key=lambda passage: (-ranking[passage], passage))
    dcg = sum(judged.get(passage, 0) / math.log2(rank + 2) for rank, passage in enumerate(best[:10]))
    ideal = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(sorted(judged.values(), reverse=True)[:10]))
    relevant = {passage for passage, gain in judged.items() if gain > 0}
    ranks = [rank for rank, passage in enumerate(best, start=1) if passage in relevant]
    return {
        "nDCG@10": dcg / ideal,
        "Precision@10": sum(passage in relevant for passage in best[:10]) / 10,
        "Recall@100": sum(passage in relevant for passage in best[:100]) / len(relevant),
        "MRR@10": 1 / ranks[0] if ranks and ranks[0] <= 10 else 0.0,
        "MAP": sum(number / rank for number, rank in enumerate(ranks, start=1)) / len(relevant),
        "judged@10": sum(passage in judged for passage in best[:10]) / 10,
    }


def test_metrics_equal_the_reference():
    lots = random.Random(5)
    passages = [f"p{n}" for n in range(300)]
    rankings, qrels = {}, {}
    for number in range(50):
        found = lots.sample(passages, 150)
        rankings[f"q{number}"] = {passage: 1.0 - position / 200 for position, passage in enumerate(found)}
        qrels[f"q{number}"] = {passage: lots.randint(0, 4) for passage in lots.sample(passages, lots.randint(1, 20))}
        qrels[f"q{number}"][lots.choice(passages)] = 2
    scores = scores_of(rankings, qrels)
    for query, judged in qrels.items():
        assert scores[query] == pytest.approx(reference(rankings[query], judged), abs=1e-6)
    wanted = {name: sum(reference(rankings[q], qrels[q])[name] for q in qrels) / 50 for name in NAMES}
    assert means(scores, NAMES) == pytest.approx(wanted, abs=1e-6)
    assert per_query_scores(rankings, qrels) == {query: {n: s[n] for n in METRICS} for query, s in scores.items()}


def test_a_query_without_hits_counts_as_zero():
    scores = scores_of({"a": {"p": 1.0}}, {"a": {"p": 1}, "b": {"p": 1}})
    assert scores["b"] == dict.fromkeys(NAMES, 0.0)
    assert means(scores)["nDCG@10"] == 0.5


STORED = (
    '{"model": "m", "model_revision": "r", "weights": "w", "identity": "i", "task": "t", "task_revision": "d", '
    '"split": "test", "dataset": null, "queries_of": null, "queries": 1, "unanswerable": 0, "metrics": '
    '{"nDCG@10": 0.5}, "precision": "fp32", "prompts": {"query": "Fr\\u00e4ge: "}, "pooling": null, '
    '"ignore_identical_ids": false, "seconds": 1.5, "packages": {"mteb": "2"}, "drift": null}'
)
RESULT = msgspec.json.decode(STORED, type=Result)


def test_results_are_found_by_weights_and_data(tmp_path):
    rankings, qrels = {"a": {"x": 2.0, "p": 1.0}}, {"a": {"p": 1}}
    scores = scores_of(rankings, qrels)
    result = msgspec.structs.replace(RESULT, metrics=means(scores, NAMES))
    key = Key.of(result)
    folder = key.folder(tmp_path)
    assert read_result(folder) is None
    write_result(folder, result, Measured(rankings, qrels), scores)
    assert read_result(folder) == result
    assert read_scores(folder) == scores
    changes = {
        "identity": "sha256:" + "c" * 64, "precision": "bf16", "task": "u", "task_revision": "sha256:dd",
        "pooling": "cls", "ignore_identical_ids": True,
    }  # fmt: skip
    assert folder not in {key._replace(**{name: value}).folder(tmp_path) for name, value in changes.items()}
    (folder / "per-query.parquet").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"per-query\.parquet: cannot be read .*; delete .* to have it measured again"):
        read_scores(folder)
    for content in ('{"model": "and nothing else"}', "{"):
        (folder / "result.json").write_text(content)
        with pytest.raises(UserError, match=r"not a Result as .*; delete .* to have it measured again"):
            read_result(folder)


def test_what_version_0_1_stored_is_found(tmp_path):
    key = Key("sha256:" + "a" * 64, "bf16", "t", "sha256:" + "b" * 64, {"query": "q: "}, "cls", True)
    place = key.folder(tmp_path)
    assert str(place.relative_to(tmp_path)) == "v3/aaaaaaaaaaaaaaaa-bf16-da5d6af6-cls/t-bbbbbbbbbbbbbbbb-other-ids"
    place.mkdir(parents=True)
    (place / "result.json").write_text(STORED)
    assert read_result(place).prompts == {"query": "Fr\u00e4ge: "}


def test_the_stored_ranks_give_the_same_metrics(tmp_path):
    """Cut at their depths, with many ties and scores that differ only beyond single precision."""
    lots = random.Random(8)
    passages = [f"p{n}" for n in range(1500)]
    rankings = {
        f"q{n}": {p: round(lots.random(), 1) + lots.random() * 1e-10 for p in lots.sample(passages, 1200)}
        for n in range(40)
    }
    qrels = {query: {p: lots.randint(0, 2) for p in lots.sample(passages, 15)} | {"p0": 1} for query in rankings}
    scores = scores_of(rankings, qrels)
    write_result(tmp_path, RESULT, Measured(rankings, qrels), scores)
    stored = read_rankings(tmp_path / "rankings.parquet")
    assert {len(hits) for hits in stored.values()} == {1000}
    assert read_judgements(tmp_path / "judgements.parquet") == qrels
    assert read_scores(tmp_path) == scores
    recomputed = scores_of(stored, qrels)
    assert {name: value for name, value in means(recomputed, NAMES).items() if name != "MAP"} == {
        name: value for name, value in means(scores, NAMES).items() if name != "MAP"
    }
    write_rankings(tmp_path / "published.parquet", stored)
    published = read_rankings(tmp_path / "published.parquet")
    assert {len(hits) for hits in published.values()} == {100}
    assert per_query_scores(published, qrels) == per_query_scores(rankings, qrels)
