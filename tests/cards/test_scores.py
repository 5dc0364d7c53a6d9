"""Model cards: scores go in, and what people wrote stays."""

import msgspec
import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, parse_eval_result_entries

from cards.model import merge_model_cards, model_card
from cards.publish.versions import parse_version
from cards.scores import SCORES, Score, scored_files

WEIGHTS, OTHER = "sha256:" + "b" * 64, "sha256:" + "d" * 64
RECORD = {
    "task": "retriever",
    "base": {"name": "sentence-transformers/all-MiniLM-L6-v2", "revision": "sha256:aa", "weights": "sha256:aa"},
    "dataset": {"name": "owner/data", "revision": "c0ffee", "tag": "v1.0.0", "kind": "bm25", "rows": 12},
    "model": {"revision": WEIGHTS},
    "recipe": {"text": "kind = 'bm25'\n", "overrides": ["seed=2"]},
    "seed": 2,
    "training": {"steps": 3, "batch_size": 4},
    "seconds": 1.5,
    "peak_memory": {"mib": 2048, "of": "GPU"},
    "hardware": {"device": "cpu", "name": "x86_64", "processes": 1, "threads": 2},
    "packages": {"torch": "2"},
}


def score(task="scifact", value=0.5, metric="nDCG@10", weights=WEIGHTS, dataset="mteb/scifact"):
    return Score(
        task=task,
        revision="c" * 40,
        split="test",
        metric=metric,
        value=value,
        low=value - 0.05,
        high=value + 0.05,
        queries=300,
        precision="fp32",
        evaluated="e" * 40,
        weights=weights,
        base="base@sha256:aa",
        base_value=0.45,
        difference=value - 0.45,
        difference_low=value - 0.5,
        difference_high=value - 0.4,
        dataset=dataset,
        evidence=f"evaluation/{task}",
    )


def add(files, *scores):
    return {**files, **scored_files(files.get("README.md", b"").decode(), files.get(SCORES), "m", scores)}


def index(files):
    (model,) = yaml.safe_load(files["README.md"].decode().split("---")[1])["model-index"]
    return {(r["dataset"]["name"], m["name"]): m["value"] for r in model["results"] for m in r["metrics"]}


def test_a_card_says_what_it_was_made_of():
    card = ModelCard(model_card(RECORD, "owner/model", parse_version("v1.0.0")))
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert card.data.datasets == ["owner/data"]
    assert card.data.pipeline_tag == "sentence-similarity"
    for words in (
        "owner/data@v1.0.0, `c0ffee`", "`bm25`", "3 of batch 4, seed 2", "--set seed=2", "Not evaluated yet", WEIGHTS,
        'SentenceTransformer("owner/model", revision="v1.0.0")', "peak memory | 2.0 GiB of the GPU |",
    ):  # fmt: skip
        assert words in card.text


@pytest.mark.parametrize("task", ["retriever", "cross-encoder"])
def test_nothing_is_said_of_the_queries_that_the_record_does_not_say(task):
    card = model_card({**RECORD, "task": task}, None, None)
    assert "LLM" not in card
    assert "labels" not in card
    assert "license" not in card
    assert "language" not in card
    known = {"license": "mit", "language": ["de"], "queries": "llm"}
    card = model_card({**RECORD, "task": task, **known}, None, None)
    assert "trained without labels on queries that an LLM wrote" in card
    assert (ModelCard(card).data.license, ModelCard(card).data.language) == ("mit", ["de"])
    assert "trained on labelled queries" in model_card({**RECORD, "task": task, "queries": "labelled"}, None, None)


def test_scores_are_added_replaced_and_nothing_else_is_touched():
    card = model_card(RECORD, None, None).replace("library_name", "custom_key: kept\nlibrary_name", 1)
    files = {"README.md": (card + "\n## Limits\n\nWritten by hand.\n").encode()}
    files = add(files, score(), score(metric="Recall@100", value=0.9))
    files = add(files, score(task="cranfield", value=0.4, dataset=None))
    files = add(files, score(value=0.6))
    assert add(files, score(value=0.6)) == files  # twice is once
    assert index(files) == {
        ("scifact", "nDCG@10"): 0.6,
        ("scifact", "Recall@100"): 0.9,
        ("cranfield", "nDCG@10"): 0.4,
    }
    text = files["README.md"].decode()
    for words in (
        "custom_key: kept",
        "Written by hand.",
        "| scifact (test) | nDCG@10 | 0.6000 | 0.5500 to 0.6500 | 0.4500 | +0.1500 | +0.1000 to +0.2000 | 300 | fp32 |",
        "| cranfield (test) | nDCG@10 | 0.4000 |",
    ):
        assert text.count(words) == 1, words
    assert "Not evaluated yet" not in text
    assert text.count("## Evaluation") == 1
    assert ".eval_results/cranfield.yaml" not in files  # its data is on no Hub
    (entry,) = parse_eval_result_entries(yaml.safe_load(files[".eval_results/scifact.yaml"]))
    assert (entry.dataset_id, entry.dataset_revision, entry.value) == ("mteb/scifact", "c" * 40, 0.6)
    assert "0.5500 to 0.6500" in entry.notes
    assert "e" * 40 in entry.notes
    ModelCard(text).data.to_dict()  # the Hub's own reader takes it


def test_figures_that_others_put_into_the_card_stay():
    foreign = EvalResult("retrieval", "mteb/nq", "NQ", "ndcg_at_10", 0.7, dataset_split="test", metric_name="nDCG@10")
    data = ModelCardData(model_name="m", eval_results=[foreign])
    files = add({"README.md": f"---\n{data.to_yaml()}\n---\n\n# m\n".encode()}, score())
    assert index(files) == {("NQ", "nDCG@10"): 0.7, ("scifact", "nDCG@10"): 0.5}


def test_a_model_without_a_card_gets_one():
    files = add({}, score())
    assert index(files) == {("scifact", "nDCG@10"): 0.5}
    assert b"| scifact (test) | nDCG@10 | 0.5000 |" in files["README.md"]
    (model,) = yaml.safe_load(files["README.md"].decode().split("---")[1])["model-index"]
    arguments = model["results"][0]["metrics"][0]["args"]
    assert arguments["interval_95"] == pytest.approx([0.45, 0.55])
    assert (arguments["evaluated"], arguments["queries"]) == ("e" * 40, 300)


def test_scores_of_older_weights_go_with_them():
    files = add({"README.md": model_card(RECORD, None, None).encode()}, score(value=0.6))
    same = merge_model_cards(model_card(RECORD, "o/m", None), files["README.md"].decode(), WEIGHTS)
    assert "| 0.6000 |" in same
    assert "model-index" in same
    newer = {**RECORD, "model": {"revision": OTHER}}
    merged = merge_model_cards(model_card(newer, "o/m", None), files["README.md"].decode(), OTHER)
    assert "0.6" not in merged
    assert "model-index" not in merged
    assert "Not evaluated yet" in merged
    told = scored_files(files["README.md"].decode(), files[SCORES], "m", [score(weights=OTHER, task="cranfield")])
    assert [entry["task"] for entry in msgspec.json.decode(told[SCORES])] == ["cranfield"]


def test_figures_on_a_tasks_earlier_data_go_when_it_is_measured_anew():
    first = [msgspec.structs.replace(score(name), precision="bf16") for name in ("scifact", "nfcorpus")]
    files = add(add({}, *first), msgspec.structs.replace(score(value=0.6), revision="d" * 40))
    assert index(files) == {("scifact", "nDCG@10"): 0.6, ("nfcorpus", "nDCG@10"): 0.5}
    assert files["README.md"].decode().count("| scifact (test) |") == 1
