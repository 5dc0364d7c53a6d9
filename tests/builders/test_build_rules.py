"""Builds with rules of selection: scorers that score what the rules look at, the guard, mixes, and refusals in time."""

import json

import pyarrow.parquet as pq
import pytest

from builders import build
from builders.recipe import BuildRecipe
from builders.selection import __main__ as reselection
from cards.verify.artefact import Artefact
from cards.verify.dataset import dataset_links
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.chat_server import about_animals
from tests.conftest import ANIMALS, BASE


def run(path, out, *overrides):
    build.main(load_recipe(path, overrides, BuildRecipe), out, out.parent / "calls.sqlite")
    return json.loads((out / "manifest.json").read_text())


def rows(folder, config):
    return [row for path in sorted((folder / config).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def verified(folder):
    """Broken links of a folder, which a build must not have."""
    found = dataset_links(Artefact("d", "dataset", folder))
    return [link for link in found if link.status == "broken"]


def test_the_llm_judges_candidates_and_what_it_calls_relevant_is_no_negative(write_recipe, tmp_path, chat_server):
    def script(body, number):
        if not body["messages"][0]["content"].startswith("You judge"):
            return about_animals(body, number)
        return "yes" if "bees dance" in body["messages"][-1]["content"].partition("Passage:")[2] else "no"

    chat_server.script = script
    path, out = write_recipe('["bm25", "random"]'), tmp_path / "o" / "d"
    rules = ["selection.relabel={llm-judge=0.5}", "selection.rank_max=3"]
    manifest = run(path, out, *rules)
    scores = {(row["query-id"], row["corpus-id"]): row["score"] for row in rows(out, "scores-llm-judge")}
    assert set(scores.values()) == {0.0, 1.0}
    fates = [row for row in rows(out, "fates") if row["fate"] == "relabelled-as-positive"]
    assert {row["corpus-id"] for row in fates} == {"bee"}
    assert all(scores[row["query-id"], "bee"] == 1.0 for row in fates)
    qrels = {(row["query-id"], row["corpus-id"]) for row in rows(out, "train-qrels")}
    assert {(row["query-id"], "bee") for row in fates} < qrels
    assert all("Bees" not in row["negative_1"] for kind in ("bm25", "random") for row in rows(out, kind))
    assert manifest["usage"]["llm-judge"]["calls"] == len(scores)
    card = (out / "README.md").read_text()
    assert "Candidates that the LLM's\n  verdicts rule out are left out" in card
    assert "has not been judged" not in card
    assert "relevance-judge-v1" in manifest["prompts"]
    assert verified(out) == []
    asked = len(chat_server.bodies)
    run(path, tmp_path / "o" / "again", *rules)
    assert len(chat_server.bodies) == asked


def test_a_limit_by_embeddings_scores_every_kind_that_it_holds_for(write_recipe, tmp_path):
    kinds = 'negatives.kinds=["llm", "bm25", "bm25-safe", "random", "bm25+random", "none"]'
    settings = [
        *(kinds, 'negatives.variants={"bm25-safe" = "bm25"}', f"negatives.dense.model={BASE}"),
        'selection.kinds={"bm25-safe" = {relative_margin = {dense = 0.05}}, llm = {ceiling = {dense = 0.999}}}',
    ]
    out = tmp_path / "o" / "d"
    manifest = run(write_recipe(), out, *settings)
    scored = {(row["query-id"], row["corpus-id"]): row["score"] for row in rows(out, "scores-dense")}
    assert {(row["query-id"], row["corpus-id"]) for row in rows(out, "candidates-llm")} <= scored.keys()
    for row in rows(out, "fates"):
        if row["kind"] == "bm25-safe" and row["fate"] == "negative_1":
            positive = scored[row["query-id"], row["query-id"].partition("/")[0]]
            assert scored[row["query-id"], row["corpus-id"]] <= 0.95 * positive
    assert manifest["models"]["dense"]["name"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert manifest["configs"]["none"]["columns"] == ["query", "positive"]
    card = (out / "README.md").read_text()
    assert "| `bm25-safe` |" in card
    assert "negatives of `bm25` and `random`, mixed by share" in card
    assert "| chosen | " in card
    assert verified(out) == []


def test_leaked_queries_are_dropped_and_the_set_is_no_zero_shot_one(write_recipe, tmp_path, write_corpus):
    path, out = write_recipe(), tmp_path / "o" / "d"
    run(path, tmp_path / "o" / "clean")
    asked = rows(tmp_path / "o" / "clean", "train-queries")[0]
    folder = write_corpus([("x", "", "A passage about something else entirely, of no animal.")], "exam")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "e1", "text": asked["text"].upper()}) + "\n")
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\ne1\tx\t1\n")
    manifest = run(path, out, f'leakage.against=["Exam={folder}"]')
    assert asked["_id"] not in {row["_id"] for row in rows(out, "train-queries")}
    (drop,) = [row for row in rows(out, "drops") if row["stage"] == "leakage"]
    assert (drop["id"], drop["reason"]) == (asked["_id"], "query-in-Exam")
    assert manifest["funnel"]["queries in no evaluation set"] == len(ANIMALS) - 4 - 1
    assert manifest["leakage"]["training_datasets"] == []  # the leaked query is gone
    assert manifest["inputs"]["leakage"].keys() == {"Exam"}
    assert {row["id"] for row in rows(out, "leakage")} == {asked["_id"]}
    assert verified(out) == []
    allowed = run(path, tmp_path / "o" / "allowed", f'leakage.against=["Exam={folder}"]', "leakage.policy=allow")
    assert allowed["leakage"]["training_datasets"] == ["Exam"]
    with pytest.raises(UserError, match=r"leakage: 1 of 8 queries stand in evaluation sets"):
        run(path, tmp_path / "o" / "refused", f'leakage.against=["Exam={folder}"]', "leakage.policy=refuse")


def test_a_barred_passage_stays_barred_when_selected_again(write_recipe, tmp_path, write_corpus):
    folder = write_corpus([("x", "", f"{ANIMALS['eel']} Such is the life of this animal.")], "exam")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "e1", "text": "where do they all go to spawn?"}) + "\n")
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\ne1\tx\t1\n")
    out = tmp_path / "o" / "d"
    guard = [f'leakage.against=["Exam={folder}"]', 'leakage.passages="drop"']
    manifest = run(write_recipe('["bm25", "random"]'), out, *guard)
    assert manifest["leakage"]["training_datasets"] == ["Exam"]  # all that is relevant there stands in the corpus
    for kinds in ('["bm25"]', '["bm25", "random"]'):
        reselection.main(out, [f"negatives.kinds={kinds}", "negatives.per_query=1"])
        told = {row["fate"] for row in rows(out, "fates") if row["corpus-id"] == "eel"}
        assert told <= {"in-an-evaluation-set"}
    assert told
    assert verified(out) == []


def test_a_data_set_without_negatives(build_animals):
    out = build_animals("none-alone", 'negatives.kinds=["none"]')
    assert pq.read_table(next((out / "none").glob("*.parquet"))).column_names == ["query", "positive"]
    assert "`none`" in (out / "README.md").read_text()
    assert verified(out) == []
