"""Model cards: scores go in, and what people wrote stays."""

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from cards.model import Score, add_scores, write_model_card

RECORD = {
    "task": "retriever",
    "base": {"name": "sentence-transformers/all-MiniLM-L6-v2", "revision": "sha256:aa"},
    "dataset": {"name": "owner/data", "revision": "c0ffee", "kind": "bm25", "rows": 12},
    "model": {"revision": "sha256:bb"},
    "recipe": {"text": "kind = 'bm25'\n", "overrides": ["seed=2"]},
    "seed": 2,
    "training": {"steps": 3, "batch_size": 4, "mean_loss": 0.5},
    "seconds": 1.5,
    "hardware": {"device": "cpu", "name": "x86_64", "processes": 1, "threads": 2},
    "packages": {"torch": "2"},
}


def score(task="scifact", value=0.5, metric="nDCG@10"):
    return Score(task, "sha256:cc", "test", metric, value, 300, base_value=0.45)


def index(folder):
    (model,) = ModelCard.load(folder / "README.md").data.to_dict()["model-index"]
    return {(r["dataset"]["name"], m["type"]): m["value"] for r in model["results"] for m in r["metrics"]}


def test_a_card_says_what_it_was_made_of(tmp_path):
    write_model_card(tmp_path, RECORD)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert card.data.datasets == ["owner/data"]
    assert card.data.pipeline_tag == "sentence-similarity"
    for words in ("c0ffee", "`bm25`", "3 of batch 4, seed 2", "--set seed=2", "Not evaluated yet"):
        assert words in card.text


def test_scores_are_added_replaced_and_nothing_else_is_touched(tmp_path):
    write_model_card(tmp_path, RECORD)
    path = tmp_path / "README.md"
    by_hand = (
        path.read_text().replace("---\n\n#", "custom_key: kept\n---\n\n#", 1) + "\n## Limits\n\nWritten by hand.\n"
    )
    path.write_text(by_hand)
    add_scores(tmp_path, "m", [score(), score(metric="Recall@100", value=0.9)])
    add_scores(tmp_path, "m", [score(task="cranfield", value=0.4)])
    add_scores(tmp_path, "m", [score(value=0.6)])
    assert index(tmp_path) == {
        ("scifact", "nDCG@10"): 0.6,
        ("scifact", "Recall@100"): 0.9,
        ("cranfield", "nDCG@10"): 0.4,
    }
    text = path.read_text()
    assert "custom_key: kept" in text
    assert "Written by hand." in text
    assert "Not evaluated yet" not in text
    assert "| scifact (test) | nDCG@10 | 0.6000 | 0.4500 | 300 | fp32 |" in text
    assert "| cranfield (test) | nDCG@10 | 0.4000 | 0.4500 | 300 | fp32 |" in text
    assert text.count("## Evaluation") == 1


def test_figures_that_others_put_into_the_card_stay(tmp_path):
    foreign = EvalResult("retrieval", "mteb/nq", "NQ", "ndcg_at_10", 0.7, dataset_split="test")
    data = ModelCardData(model_name="m", eval_results=[foreign])
    (tmp_path / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n\n# m\n")
    add_scores(tmp_path, "m", [score()])
    assert index(tmp_path) == {("NQ", "ndcg_at_10"): 0.7, ("scifact", "nDCG@10"): 0.5}


def test_a_model_without_a_card_gets_one(tmp_path):
    add_scores(tmp_path, "m", [score()])
    assert index(tmp_path) == {("scifact", "nDCG@10"): 0.5}
    assert "| scifact (test) | nDCG@10 | 0.5000 | 0.4500 | 300 | fp32 |" in (tmp_path / "README.md").read_text()
