"""How tasks are read: queries in the corpus, language, names; and how bases are that do not say how they pool."""

import json
import logging

import msgspec
import mteb
import pytest
from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from eval import run
from eval.measure.baselines import bm25, ceiling
from eval.measure.encoding import Encoding
from eval.measure.results import Key
from eval.measure.search import evaluate
from eval.measure.tasks import load_task, load_tasks
from eval.plan import make_plan
from eval.recipe import CompareRecipe, EvalRecipe, LocalTask
from foils.errors import UserError
from foils.evidence import read_judgements, read_rankings
from foils.metrics import means, per_query_scores
from foils.models import resolve_model
from foils.recipe import Recipe
from tests.conftest import ANIMALS, BASE, as_corpus, beir
from tests.fixtures import tiny
from tests.fixtures.tasks import task_folder

ENCODING = Encoding()
GERMAN = [("a", "", "Das Haus steht am Fluss."), ("b", "", "Viele Katzen schlafen nachts."),
          ("c", "", "Die die die und und der.")]  # fmt: skip


# Of the query itself, of a passage that is not there, and of a query without a relevant passage.
JUDGED = [("owl", "bat", 1), ("bee", "ant", 1), ("eel", "fox", 2), ("ant", "ant", 1), ("ant", "bee", 1),
          ("bee", "gone", 1), ("bat", "cow", 0)]  # fmt: skip


@pytest.fixture
def model(tmp_path):
    return resolve_model(str(tiny.retriever("mean", tmp_path / "tiny")))


@pytest.fixture
def themselves(tmp_path):
    """Passages that are asked for by others like them, each under its own id; the judgements have every oddity."""
    folder = as_corpus(tmp_path / "themselves", ANIMALS)
    passages = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    queries = [(row["_id"], row["text"]) for row in passages[:6]]
    return task_folder(folder, queries, ["\t".join(map(str, each)) for each in JUDGED])


@pytest.fixture
def german(tmp_path):
    folder = beir(tmp_path / "german", GERMAN)
    return task_folder(folder, [("q1", "die Häuser"), ("q2", "und der Katze")], ["q1\ta\t1", "q2\tb\t1"])


@pytest.mark.parametrize("ignored", [True, False])
def test_figures_are_mtebs_where_queries_stand_in_the_corpus(themselves, model, tmp_path, ignored):
    task = load_task(themselves, ignored)
    assert {(query, *each) for query, judged in task.qrels().items() for each in judged.items()} == set(JUDGED)
    (ours,) = evaluate(model, [task], tmp_path / "r", ENCODING)
    assert (ours.queries, ours.unanswerable) == (5, 1)
    wrapper = SentenceTransformerEncoderWrapper(SentenceTransformer(model.location, device="cpu"))
    found = mteb.evaluate(wrapper, task.mteb, cache=None, overwrite_strategy="always", co2_tracker=False)
    theirs = found.task_results[0].scores["test"][0]
    names = {
        "nDCG@10": "ndcg_at_10", "Precision@10": "precision_at_10", "Recall@100": "recall_at_100",
        "MRR@10": "mrr_at_10", "MAP": "map_at_1000",
    }  # fmt: skip
    assert [ours.metrics[name] for name in names] == pytest.approx([theirs[name] for name in names.values()], abs=1e-4)
    folder = Key.of(ours).folder(tmp_path / "r")
    stored = read_rankings(folder / "rankings.parquet")
    assert any(query in hits for query, hits in stored.items()) is not ignored
    again = means(per_query_scores(stored, read_judgements(folder / "judgements.parquet")))  # as cards.verify does
    assert again["nDCG@10"] == pytest.approx(ours.metrics["nDCG@10"], abs=1e-9)


def test_both_ways_are_kept_apart_and_baselines_follow(themselves, model, tmp_path, caplog):
    ranker = str(tiny.cross_encoder(tmp_path / "ranker"))
    plain, own = load_task(themselves), load_task(themselves, True)
    assert "6 of its queries stand in the corpus" not in caplog.text  # 5 are judged
    assert "5 of its queries stand in the corpus under their own ids, and each finds itself" in caplog.text
    (first,), (second,) = (evaluate(model, [task], tmp_path / "r", ENCODING) for task in (plain, own))
    assert second.ignore_identical_ids
    assert Key.of(first).folder(tmp_path) != Key.of(second).folder(tmp_path)
    (lexical,) = bm25([own], tmp_path / "r")
    _, (top,) = ceiling(ranker, [own], [second], tmp_path / "r")
    for result in (lexical, top):
        stored = read_rankings(Key.of(result).folder(tmp_path / "r") / "rankings.parquet")
        assert not any(query in hits for query, hits in stored.items())


def test_mtebs_own_tasks_keep_mtebs_rule():
    names = ("ArguAna", "SciFact")
    assert [load_task(name, ignored).ignores_identical_ids for ignored in (False, True) for name in names] == [
        *(True, False),
        *(True, False),
    ]


def test_bm25_reads_a_task_in_its_language(german, tmp_path, caplog):
    def lexical(language=None):
        (result,) = bm25([load_task(LocalTask("german", german, german, language=language))], tmp_path / "r")
        return result

    detected = lexical()
    assert "task german: nothing says its language; BM25 takes German, as its passages seem to be" in caplog.text
    caplog.clear()
    english = lexical("en")  # the kept result is another one's
    assert english.metrics["nDCG@10"] < 0.6 < detected.metrics["nDCG@10"] == 1.0
    stated = lexical("deu")
    assert Key.of(lexical("de")) == Key.of(stated) == Key.of(detected)
    assert "BM25 takes" not in caplog.text
    (tmp_path / "german" / "README.md").write_text("---\nlanguage:\n- de\n---\n# Fragen\n")
    assert Key.of(lexical()) == Key.of(stated)
    with pytest.raises(UserError, match="language 'xx': not a language code; wanted one of ISO 639"):
        lexical("xx")


def test_a_build_says_its_language(build_animals):
    folder = build_animals("german", "exam.queries=3")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "language": "de"}))
    assert load_task(str(folder)).mteb.metadata.eval_langs == ["deu-Latn"]


@pytest.fixture
def namesakes(tmp_path):
    folders = []
    for parent, passage in (("a", "owl"), ("b", "bee")):
        (tmp_path / parent).mkdir()
        folder = as_corpus(tmp_path / parent / "beir", ANIMALS)
        folders.append(task_folder(folder, [("q1", "who hunts mice?")], [f"q1\t{passage}\t1"]))
    return folders


def test_tasks_of_one_name_are_told_apart(namesakes, tmp_path, capsys):
    tasks = load_tasks([*namesakes, "SciFact"])
    assert [task.name for task in tasks] == ["a-beir", "b-beir", "SciFact"]
    assert len({Key("sha256:1", "fp32", task.name, task.revision).folder(tmp_path) for task in tasks}) == 3
    for twice in ([namesakes[0], namesakes[0]], ["SciFact", LocalTask("scifact", *namesakes)]):
        with pytest.raises(
            UserError, match=r"recipe: tasks: two of them are called .*; name each once, and folders by"
        ):
            load_tasks(twice)
    trained = tiny.retriever("cls", tmp_path / "trained")
    recipe = EvalRecipe(
        str(trained), tuple(namesakes), base=str(tiny.retriever("mean", tmp_path / "base")), results=str(tmp_path / "r")
    )
    run.main(Recipe(recipe, ""))
    assert {"a-beir (test, 1 queries)", "b-beir (test, 1 queries)"} <= set(capsys.readouterr().out.splitlines())
    scores = json.loads((trained / "evaluation" / "scores.json").read_text())
    assert {score["task"] for score in scores} == {"a-beir", "b-beir"}
    assert all(text in (trained / "README.md").read_text() for text in ("| a-beir (test) |", "| b-beir (test) |"))


def test_a_change_of_the_first_namesakes_data_is_seen(namesakes, tmp_path):
    training = tmp_path / "t.toml"
    training.write_text(f'base = "{BASE}"\n')

    def fingerprint(**keys):
        recipe = CompareRecipe("c", "none", str(training), tuple(namesakes), **keys)
        tasks = load_tasks(namesakes, recipe.ignore_identical_ids)
        return make_plan(recipe, str(training), tasks).fingerprint

    before = fingerprint()
    assert before == fingerprint() != fingerprint(ignore_identical_ids=True)
    task_folder(tmp_path / "a" / "beir", [("q1", "who hunts mice?")], ["q1\tpig\t1"])
    assert fingerprint() != before


def test_a_raw_base_pools_as_the_model_that_was_trained_from_it(animals, tmp_path, caplog):
    trained = tiny.retriever("cls", tmp_path / "made")
    raw = resolve_model(str(tmp_path / "made" / "raw"))
    folder = task_folder(animals, [("q1", "who hunts mice?"), ("q2", "insect dance")], ["q1\towl\t1", "q2\tbee\t1"])
    recipe = EvalRecipe(str(trained), (folder,), base=raw.location, results=str(tmp_path / "r"))
    with caplog.at_level(logging.INFO):
        run.main(Recipe(recipe, ""))
    (base,) = evaluate(raw, [load_task(folder)], tmp_path / "r", Encoding(pooling="cls"))
    assert base.pooling == "cls"
    kept = sum("raw on animals" in message for message in caplog.messages)
    assert kept == 1  # the last was read, so it is what the base was measured with
    (mean,) = evaluate(raw, [load_task(folder)], tmp_path / "r", Encoding(pooling="mean"))
    assert Key.of(mean) != Key.of(base)
    ranks = [read_rankings(Key.of(result).folder(tmp_path / "r") / "rankings.parquet")["q1"] for result in (base, mean)]
    assert ranks[0] != ranks[1]
    pooled = msgspec.structs.replace(recipe, base=str(trained), pooling="cls")
    with pytest.raises(UserError, match=r"recipe: pooling 'cls': base .* says how it pools; remove the key"):
        run.main(Recipe(pooled, ""))


def test_a_base_that_has_changed_since_is_not_taken_for_the_untouched_one(animals, tmp_path):
    trained, base = tiny.retriever("cls", tmp_path / "trained"), tiny.retriever("mean", tmp_path / "base")
    found = resolve_model(str(base))
    about = {"name": "model", "revision": found.revision, "weights": found.weights, "reference": str(base)}
    record = {"dataset": {"name": "rows", "revision": "sha256:1"}, "base": about}
    (trained / "run.json").write_text(json.dumps(record))
    folder = task_folder(animals, [("q1", "who hunts mice?")], ["q1\towl\t1"])
    recipe = EvalRecipe(str(trained), (folder,), results=str(tmp_path / "r"))
    run.main(Recipe(recipe, ""))
    (base / "1_Pooling" / "config.json").write_text((trained / "1_Pooling" / "config.json").read_text())
    with pytest.raises(UserError, match=r"base .*: has changed since the model was trained from it .*--set base="):
        run.main(Recipe(recipe, ""))
    version_0_1 = {**record, "base": {**about, "revision": found.weights}}
    (trained / "run.json").write_text(json.dumps(version_0_1))
    run.main(Recipe(recipe, ""))


def test_a_cross_encoder_is_no_model_to_measure(animals, tmp_path):
    ranker = tiny.cross_encoder(tmp_path / "ranker")
    folder = task_folder(animals, [("q1", "who hunts mice?")], ["q1\towl\t1"])
    with pytest.raises(UserError, match=r"is a cross-encoder, which scores pairs, .*; name it as cross_encoder"):
        run.main(Recipe(EvalRecipe(str(ranker), (folder,), results=str(tmp_path / "r")), ""))
    recipe = EvalRecipe(BASE, (folder,), results=str(tmp_path / "r"), cross_encoder=BASE)
    with pytest.raises(UserError, match=r"cross_encoder .*: not a cross-encoder"):
        run.main(Recipe(recipe, ""))


def test_models_that_share_weights_are_measured_apart(animals, tmp_path, capsys):
    folder = task_folder(animals, [("q1", "who hunts mice?"), ("q2", "insect dance")], ["q1\towl\t1", "q2\tbee\t1"])
    base = tiny.retriever("mean", tmp_path / "base")
    other = tiny.retriever("mean", tmp_path / "other")
    about = other / "config_sentence_transformers.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "truncate_dim": 4}))
    run.main(Recipe(EvalRecipe(str(other), (folder,), base=str(base), results=str(tmp_path / "r")), ""))
    assert len(capsys.readouterr().out.splitlines()) == 4  # a row each
    (score, *_) = json.loads((other / "evaluation" / "scores.json").read_text())
    assert score["identity"] == score["evaluated"] == resolve_model(str(other)).identity
    assert score["weights"] == resolve_model(str(base)).weights
