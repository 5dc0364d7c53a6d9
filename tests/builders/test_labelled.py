"""Labelled queries in place of the LLM's: what is read, what is known of them, and a build that asks no LLM."""

import gzip
import json
import logging
import re
import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from builders import build, corpus
from builders.llm import embedded
from builders.queries import labelled
from builders.queries.config import QueriesConfig
from builders.recipe import BuildRecipe, CorpusConfig, NegativesConfig
from builders.recipe_checks import check
from builders.steps import examined
from cards.verify.__main__ import verify
from foils.beir import judgements, qrels_files
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.conftest import ANIMALS, SHARED

QUERIES = {
    "q1": "who hunts mice at night",
    "q2": "which animal dances",
    "q3": "asked and judged, of passages that are gone",
    "q4": "judged not relevant to anything",
    "other": "a query of another split",
}
QRELS = [
    ("q1", "owl", 1), ("q1", "bat", 2), ("q1", "ant", 2), ("q1", "cow", 0),
    ("q2", "bee", 1), ("q2", "gone", 1),
    ("q3", "gone", 1),
    ("q4", "cow", 0),
    ("nobody", "owl", 1),
]  # fmt: skip


def labels(folder, queries=QUERIES, qrels=QRELS, split="train"):
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"_id": query_id, "text": text}) for query_id, text in queries.items()]
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    rows = "".join(f"{query_id}\t{passage}\t{score}\n" for query_id, passage, score in qrels)
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


def read(folder, animals, **settings):
    config = QueriesConfig(source=str(folder), **settings)
    return labelled.read(config, corpus.load(CorpusConfig(str(animals))), 42)


def pairs(table):
    return {(row["query-id"], row["corpus-id"], row["score"]) for row in table.to_pylist()}


def test_the_best_judged_is_the_positive_and_all_are_known(tmp_path, animals):
    found = read(labels(tmp_path / "l"), animals)
    assert found.queries.to_pylist() == [
        {"_id": "q1", "text": QUERIES["q1"], "corpus-id": "ant"},  # of bat and ant, equally good, the first by id
        {"_id": "q2", "text": QUERIES["q2"], "corpus-id": "bee"},
    ]
    assert pairs(found.qrels) == {("q1", "owl", 1), ("q1", "bat", 2), ("q1", "ant", 2), ("q2", "bee", 1)}
    drops = {(row["stage"], row["id"]): row["reason"] for row in found.drops.to_pylist()}
    assert drops == {
        ("queries", "q3"): "no-positive",
        ("queries", "q4"): "no-positive",
        ("queries", "nobody"): "query-not-found",
        ("queries", "q1 cow"): "judged-not-relevant",
        ("queries", "q2 gone"): "judged-passage-not-in-corpus",
    }
    assert (found.judged, found.with_positive) == (5, 2)


def test_of_two_scores_of_a_pair_the_higher_counts_and_the_other_is_reported(tmp_path, animals):
    qrels = [("q1", "owl", 0), ("q1", "owl", 2), ("q1", "owl", 2), ("q2", "bee", 1)]
    found = read(labels(tmp_path / "l", qrels=qrels), animals)
    assert pairs(found.qrels) == {("q1", "owl", 2), ("q2", "bee", 1)}
    drop = {"stage": "queries", "id": "q1 owl", "reason": "judged-higher-too", "detail": "score 0"}
    assert found.drops.to_pylist() == [drop]


def test_held_out_positives_are_not_known(tmp_path, animals):
    found = read(labels(tmp_path / "l"), animals, hold_out_positives=True)
    assert pairs(found.qrels) == {("q1", "ant", 2), ("q2", "bee", 1)}
    assert Counter(found.drops["reason"].to_pylist())["held-out"] == 2


def test_passages_that_cleaning_dropped(write_corpus):
    passages = [("a", "", "The same text."), ("b", "", "the SAME  text."), ("c", "", "Another text."), ("d", "", " ")]
    qrels = [("q", "b", 1), ("q", "a", 1), ("q", "d", 1), ("q", "c", 0), ("r", "y", 1)]
    # Passages of one text under other titles are not repeats: y keeps its judgement.
    passages += [("x", "Printer X100", "No, it does not."), ("y", "Toaster Y200", "No, it does not.")]
    folder = labels(write_corpus(passages), {"q": "which text", "r": "the toaster"}, qrels)
    found = read(folder, folder)
    assert pairs(found.qrels) == {("q", "a", 1), ("r", "y", 1)}  # b says what a says, so it is known under that id
    reasons = {row["id"]: row["reason"] for row in found.drops.to_pylist()}
    assert reasons == {"q d": "judged-passage-was-dropped", "q c": "judged-not-relevant"}


def test_a_sample_depends_on_ids_and_seed_alone(tmp_path, animals):
    queries = {f"q{number}": f"which is number {number}" for number in range(50)}
    qrels = [(query_id, "owl", 1) for query_id in queries]
    folder = labels(tmp_path / "l", queries, qrels)
    drawn = set(read(folder, animals, sample=10).queries["_id"].to_pylist())
    assert len(drawn) == 10
    backwards = labels(tmp_path / "b", dict(reversed(queries.items())), reversed(qrels))
    found = read(backwards, animals, sample=10)
    assert set(found.queries["_id"].to_pylist()) == drawn == set(found.qrels["query-id"].to_pylist())
    assert (found.with_positive, found.queries.num_rows) == (50, 10)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.tsv", "\ufeffquery-id\tcorpus-id\tscore\r\nq1\towl\t2\r\n".encode()),
        ("train.tsv", "query_id\tcorpus_id\tscore\nq1\towl\t2.0\n".encode("utf-16")),
        ("train.txt", b"score query-id  corpus-id\n2 q1  owl\n\n"),
        ("train.csv", b'"query-id","corpus-id","score"\n"q1","owl","2"\n'),
        ("train.tsv.gz", gzip.compress(b"q1\towl\t2\n", mtime=0)),
        ("train.tsv", b"q1 0 owl 2\n"),
        ("train.jsonl", b'{"query_id": "q1", "corpus_id": "owl", "score": 2.0}\n'),
        ("train.jsonl", b'{"qid": "q1", "docid": "owl", "relevance": 2}\n'),
        ("train.csv", b"#topic;iter;docno;rel\nq1;0;owl;2\n"),
        ("train-00000-of-00001.jsonl", b'{"query_id": "q1", "corpus_id": "owl", "score": 2}\n'),
        ("train/part.tsv", b"q1\towl\t2\n"),
        ("../default/train-0.csv", b"q1,owl,2\n"),
        ("../default/only-0.csv", b"q1,owl,2\n"),
    ],
)
def test_forms_of_judgements(tmp_path, animals, name, content):
    folder = labels(tmp_path / "l")
    (folder / "qrels" / "train.tsv").unlink()
    if ".." in name:
        (folder / "qrels").rmdir()
    (folder / "qrels" / name).resolve().parent.mkdir(exist_ok=True)
    (folder / "qrels" / name).resolve().write_bytes(content)
    assert pairs(read(folder, animals).qrels) == {("q1", "owl", 2)}


def test_queries_are_read_whatever_wrote_them(tmp_path, animals):
    folder = labels(tmp_path / "l", qrels=[("1", "owl", 1), ("2", "owl", 1), ("3", "owl", 1)])
    lines = ['{"_id": 1.0, "text": "who hunts"}', '{"_id": 2, "text": null}', '{"_id": "3", "text": "\u200b"}']
    (folder / "queries.jsonl").write_text("\ufeff" + "\n".join(lines), "utf-8")
    found = read(folder, animals)
    assert found.queries["_id"].to_pylist() == ["1"]
    assert [(row["id"], row["reason"]) for row in found.drops.to_pylist()] == [("2", "empty"), ("3", "empty")]


TWINS = {"q1": "which animal flies", "q2": "Which animal flies ?", "q3": "which animal flies\u200b", "q4": "who swims"}


@pytest.mark.parametrize(("settings", "known"), [({}, {"bat", "bee", "owl"}), ({"hold_out_positives": True}, None)])
def test_queries_of_one_text_share_their_positives(tmp_path, animals, settings, known):
    qrels = [
        ("q1", "bat", 1),
        ("q1", "owl", 1),
        ("q2", "bee", 2),
        ("q2", "bat", 0),
        ("q3", "gone", 1),
        ("q4", "cow", 1),
    ]
    found = read(labels(tmp_path / "l", TWINS, qrels), animals, **settings)
    assert found.queries["corpus-id"].to_pylist() == ["bat", "bee", "cow"]
    expected = known or {"bat", "bee"}
    assert pairs(found.qrels) == {
        *((query_id, passage, 2 if passage == "bee" else 1) for query_id in ("q1", "q2") for passage in expected),
        ("q4", "cow", 1),
    }


def test_an_unsampled_twins_positives_are_known(tmp_path, animals):
    folder = labels(tmp_path / "l", {"q1": "who flies", "q2": "Who flies?"}, [("q1", "bat", 1), ("q2", "bee", 1)])
    found = read(folder, animals, sample=1)
    assert found.queries.num_rows == 1
    assert set(found.qrels["corpus-id"].to_pylist()) == {"bat", "bee"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("queries.jsonl", '{"_id": "q1"}\n', r"no row has a column 'text' \(there are '_id'\); wanted _id and"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}\n' * 2, r"id 'q1' occurs twice; ids must be unique"),
        ("qrels/train.tsv", "topic\tpassage\tgrade\n", r"line 1: wanted .* names.*; found 'topic\\tpassage\\tgrade'"),
        ("qrels/train.tsv", "q1\towl\t0.5\n", r"line 1: wanted .*; found 'q1\\towl\\t0.5'"),
        ("qrels/train.tsv", b"query-id\tcorpus-id\tscore\n\xe9\towl\t1\n", r"line 2 is not UTF-8 at byte 0"),
        ("qrels/train.jsonl", '{"query-id": "q1", "score": 1}', r"line 1: wanted .*; found \['q1', None, '1'\]"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\n", r"holds no judgements; set queries.split to another"),
        (
            "qrels/train.tsv",
            "q1\tp77\t1\n",
            r"above 0 .* animals \(the first is of query 'q1' and passage 'p77'\)",
        ),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, animals, name, text, words):
    folder = labels(tmp_path / "l")
    if "qrels" in name:
        (folder / "qrels" / "train.tsv").unlink()
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=words):
        read(folder, animals)


def test_missing_files(tmp_path, animals):
    with pytest.raises(UserError, match=r"no such folder; wanted a folder in BEIR's layout: corpus\.jsonl, queries"):
        read(tmp_path / "nowhere", animals)
    with pytest.raises(UserError, match=r"no queries\.jsonl in it"):
        read(animals, animals)
    with pytest.raises(UserError, match=r"no qrels/dev\.tsv in it; splits there: train"):
        read(labels(tmp_path / "l"), animals, split="dev")
    (tmp_path / "l" / "qrels").rename(tmp_path / "l" / "default")
    for split in ("train2", "test-0", "._dev-0"):
        (tmp_path / "l" / "default" / f"{split}.csv").write_text("q1,owl,2\n")
    for split in ("dev", "t"):
        with pytest.raises(UserError, match=rf"no qrels/{split}\.tsv in it; splits there: test, train, train2"):
            read(tmp_path / "l", animals, split=split)
    assert pairs(read(tmp_path / "l", animals).qrels) == {
        ("q1", "owl", 1),
        ("q1", "bat", 2),
        ("q1", "ant", 2),
        ("q2", "bee", 1),
    }


@pytest.mark.parametrize(
    ("queries", "sample", "words"),
    [
        ({"source": "x", "prompt": "keywords-v1"}, 300, "queries.prompt is for queries that an LLM writes"),
        ({"source": "x", "per_passage": 2}, 300, "queries.per_passage is for queries that an LLM writes"),
        ({"split": "test"}, 300, "queries.split is for labelled queries: name their folder with queries.source"),
        ({"source": "x"}, 20, "corpus.sample 20 says how many passages an LLM writes queries for"),
    ],
)
def test_settings_that_contradict_each_other(queries, sample, words):
    negatives = NegativesConfig(kinds=("bm25",))
    recipe = BuildRecipe("x", CorpusConfig("c", sample=sample), queries=QueriesConfig(**queries), negatives=negatives)
    with pytest.raises(UserError, match=words):
        check(recipe)


def test_the_round_trip_is_off_unless_it_is_asked_for():
    assert (QueriesConfig().round_trip_k, QueriesConfig(source="x").round_trip_k) == (20, 0)
    assert QueriesConfig(source="x", round_trip_k=5).round_trip_k == 5


ASKED = {name: f"{' '.join(text.split()[:6])} in the life of this animal" for name, text in ANIMALS.items()}
NOT_OF_OWLS = {"cow", "yak"}
OF_OWLS = sorted(ANIMALS.keys() - NOT_OF_OWLS - {"owl"})


@pytest.fixture
def recipe(tmp_path, animals):
    """A recipe with labelled queries and no LLM: most animals are judged relevant to the owl's query too."""
    qrels = [(name, name, 2) for name in ASKED] + [("owl", name, 1) for name in OF_OWLS]
    path = tmp_path / "labelled.toml"
    path.write_text(
        f'name = "labelled"\n[corpus]\nsource = "{animals}"\n[queries]\n'
        f'source = "{labels(tmp_path / "labels", ASKED, qrels)}"\n[negatives]\nkinds = ["bm25", "random"]\n'
    )
    return path


@pytest.fixture
def no_llm(monkeypatch):
    """Fails a test that would start the embedded LLM."""
    monkeypatch.setattr(embedded, "language_model_folder", lambda: pytest.fail("the embedded LLM was started"))


def built(path, out, *overrides):
    build.main(load_recipe(path, overrides, BuildRecipe), out, out.parent / "calls.sqlite")
    return json.loads((out / "manifest.json").read_text())


def rows(out, config):
    return pa.concat_tables(pq.read_table(file) for file in sorted((out / config).glob("*.parquet"))).to_pylist()


@pytest.mark.usefixtures("no_llm")
def test_a_build_without_an_llm(recipe, tmp_path, caplog):
    out = tmp_path / "o" / "dataset"
    with caplog.at_level(logging.INFO):
        manifest = built(recipe, out)
    (funnel,) = [message for message in caplog.messages if message.startswith("  passages read")]
    steps = [re.split("  +", line.strip()) for line in funnel.splitlines()]
    assert steps[2:] == [
        ["queries judged", "12"],
        ["queries with a positive in the corpus", "12"],
        ["queries with negatives of every kind", "12"],
        ["rows", "bm25 12, random 12"],
    ]
    assert manifest["funnel"] == {
        "passages read": 12,
        "passages kept": 12,
        "queries judged": 12,
        "queries with a positive in the corpus": 12,
        "queries with negatives of every kind": 12,
    }
    assert manifest["inputs"]["llm"] == {"model": None, "revision": None}
    assert set(manifest["inputs"]["queries"]["files"]) == {"queries.jsonl", "qrels/train.tsv"}
    assert (manifest["prompts"], manifest["usage"]) == ({}, {})
    assert {row["corpus-id"] for row in rows(out, "train-qrels") if row["query-id"] == "owl"} == {"owl", *OF_OWLS}
    for kind in ("bm25", "random"):
        (negative,) = [row["negative_1"] for row in rows(out, kind) if row["query"] == ASKED["owl"]]
        assert negative.split()[0].lower() in NOT_OF_OWLS
    card = (out / "README.md").read_text()
    assert "with labelled queries: those of `labels`" in card
    assert "LLM: none was asked" in card
    assert "all known positives of each query" in card
    assert "an LLM wrote" not in card
    assert "## Prompts" not in card
    assert [link for link in verify(str(out)) if link.status == "broken"] == []
    with pytest.raises(UserError, match="the recipe asks nothing of an LLM"):
        examined(load_recipe(recipe, (), BuildRecipe).config)
    with pytest.raises(UserError, match=r"--dry-run: queries.source .* names labelled queries"):
        build.estimate(load_recipe(recipe, (), BuildRecipe), tmp_path / "calls.sqlite", 4)


@pytest.mark.usefixtures("no_llm")
def test_held_out_positives_and_a_round_trip_in_a_build(recipe, tmp_path):
    out = tmp_path / "o" / "dataset"
    manifest = built(recipe, out, "queries.hold_out_positives=true", "queries.round_trip_k=3")
    assert manifest["funnel"]["queries that find their passage"] == 12
    assert {row["corpus-id"] for row in rows(out, "train-qrels") if row["query-id"] == "owl"} == {"owl"}
    assert {row["id"]: row["reason"] for row in rows(out, "drops")}["owl bat"] == "held-out"
    assert "All other judgements were held out" in (out / "README.md").read_text()


def test_negatives_of_labelled_queries_can_still_be_written(recipe, tmp_path, chat_server, write_recipe):
    write_recipe()  # which gives the server its script
    llm = (f"llm.base_url={chat_server.url}", "llm.model=scripted")
    manifest = built(recipe, tmp_path / "o" / "dataset", "negatives.kinds=['llm']", *llm)
    assert set(manifest["usage"]) == {"llm"}
    assert len(chat_server.bodies) == manifest["usage"]["llm"]["calls"] >= 12
    card = (tmp_path / "o" / "dataset" / "README.md").read_text()
    assert "negatives of `llm`: temperature" in card
    assert "queries: temperature" not in card


@pytest.mark.usefixtures("no_llm")
def test_other_labels_are_another_build(recipe, tmp_path):
    out = tmp_path / "o" / "dataset"
    built(recipe, out)
    labels(tmp_path / "labels", ASKED, [(name, name, 1) for name in list(ASKED)[:6]])
    assert built(recipe, out)["funnel"]["queries judged"] == 6


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
def test_scifact_train():
    folder = SHARED / "collections" / "scifact"
    passages = corpus.load(CorpusConfig(str(folder)))
    found = labelled.read(QueriesConfig(source=str(folder)), passages, 42)
    # One claim is there twice, so that a judgement of one of them is one of both.
    assert (found.queries.num_rows, found.qrels.num_rows, found.drops.num_rows) == (809, 920, 0)
    positives = Counter(found.qrels["query-id"].to_pylist())
    assert sum(count > 1 for count in positives.values()) > 50
    known = {(query, passage) for query, passage, _ in pairs(found.qrels)}
    assert all((row["_id"], row["corpus-id"]) in known for row in found.queries.to_pylist())
    alone = labelled.read(QueriesConfig(source=str(folder), hold_out_positives=True), passages, 42)
    assert alone.queries == found.queries
    assert (alone.qrels.num_rows, alone.drops.num_rows) == (809, 110)


def test_judgements_that_datasets_saved(tmp_path):
    rows = Dataset.from_list([{"query-id": "q", "corpus-id": "c", "score": 1}])
    DatasetDict({"test": rows, "own": rows}).save_to_disk(tmp_path / "several" / "qrels")
    rows.save_to_disk(tmp_path / "one" / "default")
    for folder in ("several", "one"):
        (file,) = qrels_files(tmp_path / folder, "test", "task")
        assert list(judgements(file)) == [("q", "c", 1)]
    with pytest.raises(UserError, match="it has no split 'dev'; name one of its own: own, test"):
        qrels_files(tmp_path / "several", "dev", "task")


@pytest.mark.parametrize("form", ["zip", "gztar"])
def test_an_archive_with_a_folder_of_beirs(animals, tmp_path, form):
    (animals / "queries.jsonl").write_text(json.dumps({"_id": "t1", "text": "who hunts mice?"}))
    (animals / "qrels").mkdir()
    (animals / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nt1\towl\t1\n")
    packed = shutil.make_archive(str(tmp_path / "packed"), form, animals.parent, animals.name)
    found = corpus.load(CorpusConfig(packed))
    assert found.passages.equals(corpus.load(CorpusConfig(str(animals))).passages)
    read = labelled.read(QueriesConfig(packed), found, 1)
    assert read.queries.to_pylist() == [{"_id": "t1", "text": "who hunts mice?", "corpus-id": "owl"}]
