"""Tasks from folders: every judged id exists, and mistakes are named."""

import json

import pytest

from builders import corpus
from builders.recipe import CorpusConfig
from eval.measure.tasks import load_task
from eval.recipe import LocalTask
from foils.errors import UserError
from tests.conftest import SHARED
from tests.fixtures import ROOT
from tests.fixtures.tasks import task_folder

QUESTIONS = ROOT / "eval" / "questions" / "python-docs"


def test_only_the_passages_that_are_asked_for_are_read(animals):
    task = load_task(task_folder(animals, [("q1", "who hunts mice?")], ["q1\towl\t1"]))
    found = task.passages(["bat", "gone", "owl"])
    assert list(found) == ["owl", "bat"]
    assert found["owl"].startswith("Owl Owls hunt mice")
    assert task.queries() == {"q1": "who hunts mice?"}


def test_a_beir_folder(animals):
    queries = [("q1", "who hunts mice?"), ("q2", "unjudged"), ("q3", "of no use")]
    folder = task_folder(animals, queries, ["q1\towl\t2", "q1\tbat\t0", "q3\tpig\t0"])
    task = load_task(folder)
    assert (task.name, task.split) == ("animals", "test")
    assert task.qrels() == {"q1": {"owl": 2, "bat": 0}, "q3": {"pig": 0}}
    assert task.unanswerable() == 1
    assert task.revision.startswith("sha256:")
    changed = load_task(task_folder(animals, [("q1", "who hunts voles?")], ["q1\towl\t2"]))
    assert changed.revision != task.revision


@pytest.mark.parametrize(
    ("qrels", "words"),
    [
        (["q1\tnobody\t1"], "names passage 'nobody', which is not among the 12 passages"),
        (["q9\towl\t1"], "query 'q9' is judged but is not among the queries"),
        (["q1\towl\thigh"], r"line 2: wanted query-id, corpus-id and a whole score"),
        ([], r"split test\): no judgements above 0"),
    ],
)
def test_mistakes_in_judgements(animals, qrels, words):
    with pytest.raises(UserError, match=words):
        load_task(task_folder(animals, [("q1", "who hunts mice?")], qrels))


def test_judgements_of_what_is_not_there_are_reported(animals, caplog):
    queries = [("q1", "who hunts mice?"), ("q2", "who swims?")]
    task = load_task(task_folder(animals, queries, ["q1\towl\t1", "q1\tgone\t1", "q2\tgone\t1", "q9\towl\t1"]))
    assert task.qrels() == {"q1": {"owl": 1, "gone": 1}, "q2": {"gone": 1}}
    assert "'q9' is judged but is not among the queries; 1 judged queries of this sort are left out" in caplog.text
    assert "query 'q1' names passage 'gone', which is not among the 12 passages" in caplog.text
    assert "2 judgements of this sort count, as in MTEB, and cannot be met" in caplog.text


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("corpus.jsonl", '{"_id": "x", "title": "X", "text": null}', "line 13 has no 'text', or null in it"),
        ("corpus.jsonl", '{"_id": "owl", "text": "again"}', "line 13: id 'owl' occurs twice"),
        ("queries.jsonl", '{"_id": "q2", "text": NaN}', "line 2 has no 'text', or null in it"),
    ],
)
def test_values_that_are_no_texts_are_named_with_their_line(animals, file, line, words):
    folder = task_folder(animals, [("q1", "who hunts mice?")], ["q1\towl\t2"])
    with (animals / file).open("a") as lines:
        lines.write(line + "\n")
    with pytest.raises(UserError, match=rf"{file}: {words}"):
        load_task(folder)


def test_unknown_names_and_splits(animals):
    with pytest.raises(UserError, match="neither a folder nor a task that mteb knows"):
        load_task("SciFacts")
    with pytest.raises(UserError, match="not a retrieval task"):
        load_task("STS12")
    folder = task_folder(animals, [("q1", "who?")], ["q1\towl\t1"])
    with pytest.raises(UserError, match="splits there: test"):
        load_task(LocalTask("x", folder, folder, split="dev"))


def test_named_mteb_tasks_are_pinned():
    task = load_task("SciFact")
    assert (task.name, task.split) == ("SciFact", "test")
    assert len(task.revision) == 40


def test_every_question_about_python_names_passages_that_exist():
    loaded = corpus.load(CorpusConfig("python-docs", min_chars=60))
    ids = set(loaded.passages["_id"].to_pylist())
    questions = [json.loads(line) for line in (QUESTIONS / "queries.jsonl").read_text().splitlines()]
    lines = [line.split("\t") for line in (QUESTIONS / "qrels" / "test.tsv").read_text().splitlines()[1:]]
    assert len(questions) == len({q["text"].lower() for q in questions}) == 130
    assert not {passage for _, passage, _ in lines} - ids
    assert {q["_id"] for q in questions} == {query for query, _, score in lines if score == "2"}
    assert len({(query, passage) for query, passage, _ in lines}) == len(lines)


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
@pytest.mark.parametrize(("name", "queries", "judgements"), [("scifact", 300, 339), ("cranfield", 225, 1837)])
def test_published_counts(name, queries, judgements):
    qrels = load_task(str(SHARED / "collections" / name)).qrels()
    assert (len(qrels), sum(map(len, qrels.values()))) == (queries, judgements)
