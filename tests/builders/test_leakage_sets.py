"""Evaluation sets: BEIR folders with and without a split, MTEB tasks, and every mistake by name."""

import json
import subprocess
import sys

import mteb
import pytest
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval

from builders.leakage.evaluation_sets import load_set, load_sets, of_task
from foils.errors import UserError
from tests.conftest import beir
from tests.fixtures import ROOT

PASSAGES = [("d1", "Owls", "Owls hunt mice."), ("d2", "", "Bees dance."), ("d3", "", "Eels swim."), ("d4", None, "x")]
QUERIES = {"q1": "Who hunts mice?", "q2": "Who dances?", "q3": "Never judged?", "q4": "Judged irrelevant?"}


@pytest.fixture
def folder(tmp_path):
    folder = beir(tmp_path / "exam", PASSAGES)
    (folder / "queries.jsonl").write_text("".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in QUERIES.items()))
    (folder / "qrels").mkdir()
    head = "query-id\tcorpus-id\tscore\n"
    (folder / "qrels" / "test.tsv").write_text(f"{head}q1\td1\t2\nq1\td3\t0\nq4\td3\t0\n")
    (folder / "qrels" / "train.tsv").write_text(f"{head}q2\td2\t1\nq2\td4\t1\n")
    return folder


def rows(table):
    return dict(zip(*table.to_pydict().values(), strict=True))


def test_only_judged_queries_and_their_relevant_passages_count(folder):
    test = load_set(f"{folder}:test")
    assert (test.name, rows(test.queries)) == ("exam", {"q1": "Who hunts mice?"})
    assert rows(test.passages) == {"d1": "Owls Owls hunt mice."}
    with (folder / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d3", "text": "Never relevant, twice there."}\n')
    both = load_set(str(folder))
    assert rows(both.queries) == {"q1": "Who hunts mice?", "q2": "Who dances?"}
    assert rows(both.passages) == {"d1": "Owls Owls hunt mice.", "d2": "Bees dance.", "d4": "x"}
    assert test.revision.startswith("sha256:")
    assert test.revision != both.revision
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "Who hunts voles?"}\n')
    assert load_set(f"{folder}:test").revision != test.revision


def test_a_folder_stands_in_for_a_task(folder):
    assert load_set(f"SciFact={folder}:test").name == "SciFact"
    with pytest.raises(
        UserError, match="two sets are called 'exam'; give one another name, such as OTHER=path/to/exam"
    ):
        load_sets([f"{folder}:test", f"{folder}:train"])


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("{folder}:dev", r"no qrels/dev.tsv in it; splits there: test, train"),
        ("{folder}x", "no such folder; wanted a BEIR folder, FOLDER:SPLIT, NAME=FOLDER or the name of an MTEB"),
        ("SciFact={folder}x:test", "no such folder"),
        ("SciFacts", "neither a folder nor a task that mteb knows; wanted e.g. SciFact or a BEIR folder"),
        ("STS12", "not a retrieval task; it has no queries and relevant passages"),
        ("{folder}/qrels", r"no qrels/test.tsv in it; splits there: none"),
    ],
)
def test_mistakes_in_names(folder, reference, words):
    with pytest.raises(UserError, match=words):
        load_set(reference.format(folder=folder))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t0\n", "no judgements above 0, so there is nothing to"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq9\td1\t1\n",
            "query 'q9' is judged but is not among the",
        ),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}\n' * 2, "line 2: id 'd1' occurs twice"),
        ("corpus.jsonl", None, r"no corpus\.jsonl in it; wanted a folder in BEIR's layout"),
    ],
)
def test_mistakes_in_files(folder, file, content, words):
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(UserError, match=words):
        load_set(f"{folder}:test")


def test_passages_that_are_not_there_are_said_and_left_out(folder, caplog):
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\tgone\t1\n")
    assert rows(load_set(f"{folder}:test").passages) == {"d1": "Owls Owls hunt mice."}
    assert "1 relevant passages are not in its corpus; they cannot be compared" in caplog.text


def test_an_mteb_task_by_its_splits_and_subsets():
    class Exam(AbsTaskRetrieval):
        metadata = mteb.get_task("SciFact").metadata.model_copy(update={"name": "Exam"})

    def part(queries, relevant):
        corpus = [{"id": i, "title": t or "", "text": x} for i, t, x in PASSAGES]
        asked = [{"id": i, "text": QUERIES[i]} for i in queries]
        return {"corpus": Dataset.from_list(corpus), "queries": Dataset.from_list(asked), "relevant_docs": relevant}

    task = Exam()
    task.dataset = {
        "a": {"test": part(["q1", "q4"], {"q1": {"d1": 1, "d2": 0}, "q4": {"d2": 0}}), "train": part(["q3"], {})},
        "b": {"test": part(["q1", "q2"], {"q1": {"d1": 1}, "q2": {"d3": 1}})},
    }
    task.data_loaded = True
    found = of_task(task)
    assert (found.name, found.revision) == ("Exam", "d56462d0e63a25450459c4f213e49ffdb866f7f9")
    assert rows(found.queries) == {"q1": "Who hunts mice?", "q2": "Who dances?"}
    assert rows(found.passages) == {"d1": "Owls Owls hunt mice.", "d3": "Eels swim."}
    assert (found.queries.num_rows, found.passages.num_rows) == (2, 2)


def test_a_task_without_network_is_one_line():
    code = (
        "from builders.leakage.evaluation_sets import load_set; from foils.errors import run_entry; import sys;"
        "sys.exit(run_entry(lambda: load_set('NFCorpus')))"
    )
    environment = {"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HF_HOME": "/nonexistent-home"}
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)  # noqa: PLW1510
    assert finished.returncode == 2
    line = finished.stderr.strip().splitlines()[-1]
    assert line.startswith(
        "error: leakage.against 'NFCorpus': its data (mteb/nfcorpus) cannot be fetched; name a folder"
    )
    assert "that holds it, such as NFCorpus=path/to/nfcorpus:test" in line
