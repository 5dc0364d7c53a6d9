"""The exam: groups that never straddle, queries that nothing was trained on, refusals, and what is frozen."""

import json
import re
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build, schema
from builders.context import Context, no_llm
from builders.exam import groups as grouping
from builders.exam.groups import NEAR, SHARED, grouped
from builders.exam.sketches import SIZE
from builders.exam.split import PER_GROUP, in_turn
from builders.exam.written import unfit
from builders.passages import Passages
from builders.publish import publish_dataset
from builders.recipe import BuildRecipe
from builders.retrieval.bm25 import shards
from builders.texts import shingle_hashes, shingles, similarity
from cards.publish.release import Target
from cards.verify.artefact import find
from cards.verify.dataset import dataset_links
from cards.verify.exam import check_exam
from cards.verify.links import BrokenError
from eval.measure.tasks import load_task, load_tasks
from foils.engine.config import EngineConfig
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.chat_server import about_animals, last_user_message
from tests.fixtures import tiny
from tests.fixtures.tasks import task_folder

EXAM = "[exam]\nqueries = 3\n"


@pytest.fixture
def make(write_recipe, tmp_path, chat_server):
    """Builds a data set of the animals with an exam and returns its folder."""

    def made(extra=EXAM, *overrides, name="d", script=about_animals):
        recipe = write_recipe('["bm25", "random"]', extra)
        chat_server.script = script
        out = tmp_path / "o" / name
        build.main(load_recipe(recipe, overrides, BuildRecipe), out, tmp_path / "o" / "calls.sqlite")
        return out

    return made


def rows(folder, config):
    return pq.read_table(folder / config).to_pylist()


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def passages(texts, titles=None):
    ids = [f"p{number}" for number in range(len(texts))]
    columns = [pa.array(each, pa.string()) for each in (ids, titles or [""] * len(texts), texts)]
    return pa.table(columns, schema=schema.CORPUS)


def named(table, documents=None):
    """Passage -> the name of its group."""
    groups = grouped(Passages(table), documents)
    return dict(zip(table["_id"].to_pylist(), groups.name_of(np.arange(table.num_rows)).to_pylist(), strict=True))


LONG = "owls hunt mice at night and turn their heads far around while bees sleep in the hive"


def test_near_duplicates_titles_and_what_hangs_together_through_them():
    table = passages(
        [LONG, f"{LONG} again", "bees dance for their sisters", "eels swim far away", LONG.replace("owls", "ravens")],
        ["", "", "Insects", "  INSECTS. ", ""],
    )
    assert named(table) == {"p0": "p0", "p1": "p0", "p4": "p0", "p2": "p2", "p3": "p2"}


def test_a_document_key_stands_in_for_titles():
    table = passages(["one text here", "two other words", "three more of them"], ["T", "T", "U"])
    documents = pa.chunked_array([pa.array(["a", None, "a"])])
    assert named(table, documents) == {"p0": "p0", "p1": "p1", "p2": "p0"}


def test_a_title_that_most_passages_have_makes_no_group(caplog):
    texts = [f"passage of matter {number} and its word{number}" for number in range(30)]
    assert len(set(named(passages(texts, ["Docs"] * 20 + [""] * 10)).values())) == 30
    assert "20 of 30 passages have the title 'docs'" in caplog.text


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["", "A", "B"])), min_size=2, max_size=40),
    st.randoms(),
    st.integers(0, 5),
)
def test_groups_never_straddle_and_no_order_matters(drawn, random, seed):
    texts = [
        f"{LONG} {kind} {kind} {kind} {kind}" if kind < 3 else f"w{at} x{at} y{at}"
        for at, (kind, _) in enumerate(drawn)
    ]
    table = passages(texts, [title for _, title in drawn])
    names, order = named(table), random.sample(range(len(drawn)), len(drawn))
    shuffled = table.take(pa.array(order))
    assert named(shuffled) == names
    turns = []
    for each in (table, shuffled):
        found = Passages(each)
        groups = grouped(found, None)
        turns.append(found.ids_at(in_turn(found, groups, np.empty(0, np.int64), seed, 1)).to_pylist())
    assert turns[0] == turns[1]
    asked_about = {names[each] for each in turns[0]}
    assert {each for each, name in names.items() if name in asked_about} == set(turns[0])  # whole groups
    assert len(turns[0]) <= len(drawn) / 2


def by_reference(texts):
    """Passage -> the name of its group, by loops over all passages."""
    ids = [f"p{at}" for at in range(len(texts))]
    text_of, name_of, holders = dict(zip(ids, texts, strict=True)), {each: each for each in ids}, {}
    sketch_of = {each: sorted({*(shingle_hashes(pa.array([text_of[each]]))[0] >> 14).tolist()})[:SIZE] for each in ids}
    for each in sorted(ids):
        for key in sketch_of[each]:
            holders.setdefault(key, []).append(each)
    pairs = [pair for found in holders.values() for pair in (*pairwise(found), *product(found[:1], found[1:]))]
    for one, other in pairs * len(ids):
        mine, theirs = sketch_of[one], sketch_of[other]
        is_close = len({*mine} & {*theirs}) >= min(len(mine), len(theirs), SHARED)
        if is_close and similarity(shingles(text_of[one]), shingles(text_of[other])) >= NEAR:
            name_of[one] = name_of[other] = min(name_of[one], name_of[other])
    return name_of


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=12), min_size=2, max_size=16), st.booleans())
def test_groups_are_those_of_the_reference_with_and_without_shards(drawn, by_shards):
    texts = [" ".join(each) for each in drawn]
    table = passages(texts)
    with TemporaryDirectory() as cache, mock.patch.object(shards, "ROWS", 5), mock.patch.object(grouping, "_ROWS", 3):
        engine = {"engine": EngineConfig()} if by_shards else {}
        context = Context(table, "en", 1, no_llm, Path(cache), **engine)
        groups = grouped(context.corpus, None, context)
        assert len([*Path(cache).glob("engine/*-sketches.lock")]) == (by_shards and len(texts) > 5)
    names = groups.name_of(np.arange(len(texts))).to_pylist()
    assert dict(zip(table["_id"].to_pylist(), names, strict=True)) == by_reference(texts)


def test_pairs_of_every_bucket_are_found():
    """Texts of one word have one hash, so that a bucket that is left out leaves pairs apart."""
    assert len(set(named(passages([f"w{at // 2}" for at in range(400)])).values())) == 200


def test_an_exam_by_shards_is_the_same_to_the_last_byte(make, monkeypatch, tmp_path):
    plain = make(name="plain")
    monkeypatch.setattr(shards, "ROWS", 5)
    shared = make(EXAM, "engine.workers=1", name="shared")
    assert list((tmp_path / "o" / "cache" / "engine").glob("*-sketches.lock"))
    for file in plain.rglob("*.parquet"):
        assert file.read_bytes() == (shared / file.relative_to(plain)).read_bytes(), file


def test_the_groups_of_labelled_positives_are_barred_and_documents_take_turns():
    table = passages([f"w{at} x{at} y{at}" for at in range(80)])
    documents = pa.chunked_array([pa.array([f"d{at // 10}" for at in range(80)])])
    found = Passages(table)
    groups = grouped(found, documents)
    turn = in_turn(found, groups, np.array([0, 15, 40, 51, 62, 73]), 1, 2)
    assert set(turn // 10) == {2, 3}
    assert len({*(turn[:PER_GROUP] // 10)}) == 1
    assert len({*(turn[: 2 * PER_GROUP] // 10)}) == 2


def test_a_group_that_would_take_much_of_the_corpus_comes_last():
    table = passages([f"w{at} x{at} y{at}" for at in range(100)])
    documents = pa.chunked_array([pa.array(["big" if at < 30 else str(at) for at in range(100)])])
    found = Passages(table)
    turn = in_turn(found, grouped(found, documents), np.empty(0, np.int64), 1, 1)
    assert turn.min() >= 30
    assert len(turn) == 50


@pytest.mark.parametrize(("size", "wanted", "taken"), [(1, 60, 60), (3, 60, 60), (50, 60, 200), (50, 10, 200)])
def test_an_exam_on_long_documents_leaves_most_of_them_to_training(size, wanted, taken):
    found = Passages(passages([f"w{at} x{at} y{at}" for at in range(1000)]))
    groups = grouped(found, pa.chunked_array([pa.array([f"d{at // size}" for at in range(1000)])]))
    turn = in_turn(found, groups, np.empty(0, np.int64), 1, wanted)
    assert groups.sizes[np.unique(groups.of[turn[:wanted]])].sum() <= taken


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("when do birds of the night look for food", None),
        ("owls turn their heads far around while flying in circles", "passage-run"),
        ("how far do heads turn and do owls sleep", None),
        ("owls mice night", "passage-words"),
        ("which animals rest by day", None),  # only BM25 cannot find it
    ],
)
def test_queries_that_make_no_exam(query, reason):
    text = "Owls hunt mice at night and turn their heads far around while bees dream."
    assert unfit(query, text, "en") == reason


def test_a_data_set_with_an_exam(make, tmp_path):
    folder = make()
    about = manifest(folder)["exam"]
    assert (about["queries"], about["source"], about["llm"], about["as_negatives"]) == (3, "llm", "scripted", True)
    assert sum(about["prompts"].values()) == 3
    assert about["passages"] >= about["groups"] == 3
    assert about["without_overlap"] == 0.0
    queries, qrels = rows(folder, "queries"), rows(folder, "default")
    assert {row["query-id"] for row in qrels} == {row["_id"] for row in queries}
    kept = {row["corpus-id"] for row in rows(folder, "exam-groups")}
    assert {row["corpus-id"] for row in qrels} <= kept
    assert not kept & {row["corpus-id"] for row in rows(folder, "train-qrels")}
    assert not kept & {row["group"] for row in rows(folder, "train-queries")}
    assert "no training row holds one of its 3 queries" in check_exam(find(str(folder)))
    loaded = load_dataset(str(folder), "queries", cache_dir=str(tmp_path / "cache"))
    assert [len(each) for each in loaded.values()] == [3]
    task = load_task(str(folder))
    assert task.split == "test"
    assert len(task.mteb.dataset["default"]["test"]["relevant_docs"]) == 3
    card = (folder / "README.md").read_text()
    assert "## The exam" in card
    assert "3 queries that `scripted` wrote" in card


def test_without_an_exam_there_is_none(make):
    folder = make("")
    assert not {"queries", "default", "exam-groups"} & {*manifest(folder)["configs"]}
    assert all(row["_id"].startswith(f"{row['group']}/") for row in rows(folder, "train-queries"))
    assert check_exam(find(str(folder))) == "it holds none"


def test_equal_inputs_give_equal_bytes_and_no_answer_is_asked_for_twice(make, chat_server):
    first = make(name="one")
    before = len(chat_server.bodies)
    second = make(name="two")
    assert len(chat_server.bodies) == before
    for file in first.rglob("*.*"):
        assert file.read_bytes() == (second / file.relative_to(first)).read_bytes(), file


def test_answers_outlive_an_end_on_the_way(make, chat_server):
    def ends(body, number):
        return (401, {}, "") if number == 2 else about_animals(body, number)

    with pytest.raises(UserError):
        make(EXAM, "llm.concurrency=1", script=ends)
    assert len(chat_server.bodies) == 3
    assert calls(make(EXAM, "llm.concurrency=1")) == len(chat_server.bodies) - 1


def calls(folder):
    return sum(stage["calls"] for stage in manifest(folder)["usage"].values())


@pytest.mark.parametrize(
    ("config", "column", "words"),
    [
        ("bm25", "query", "bm25: '.*' is a query of the exam"),
        ("random", "positive", "random: the positive '.*' is a passage of the exam"),
        ("train-queries", "text", "train-queries: '.*' is a query of the exam"),
        ("train-qrels", "corpus-id", "train-qrels: passage '.*' is the exam's"),
    ],
)
def test_what_is_planted_in_training_is_found(make, config, column, words):
    folder = make()
    (file,) = (folder / config).glob("*.parquet")
    table = pq.read_table(file)
    text = {row["_id"]: f"{row['title']} {row['text']}" for row in rows(folder, "corpus")}
    judged = rows(folder, "default")[0]["corpus-id"]
    planted = {"query": rows(folder, "queries")[0]["text"].upper(), "positive": text[judged], "corpus-id": judged}
    planted["text"] = planted["query"]
    values = [planted[column], *table[column].to_pylist()[1:]]
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values)), file)
    with pytest.raises(BrokenError, match=words):
        check_exam(find(str(folder)))


def test_exam_passages_may_be_kept_from_being_negatives(make):
    folder = make(f"{EXAM}as_negatives = false\n")
    kept = {row["corpus-id"] for row in rows(folder, "exam-groups")}
    fates = rows(folder, "fates")
    assert not kept & {row["corpus-id"] for row in fates if row["fate"].startswith("negative_")}
    assert kept & {row["corpus-id"] for row in fates}  # they were mined, so the check can fail
    assert {row["id"] for row in rows(folder, "drops") if row["reason"] == "passage-in-exam"} == kept
    check_exam(find(str(folder)))
    with_them = make(name="with")
    chosen = {row["corpus-id"] for row in rows(with_them, "fates") if row["fate"].startswith("negative_")}
    assert kept & chosen


def test_training_queries_that_repeat_the_exam_leave(make):
    """The LLM writes one text for an exam's passage and for a training passage."""
    folder = make()
    one, other = rows(folder, "queries")[0]["text"], rows(folder, "train-queries")[0]["group"]

    def repeats(body, number):
        text = last_user_message(body)
        if text.startswith(f"Passage: {other.title()}. "):
            return f"{one[:1].upper()}{one[1:]}?"
        return about_animals(body, number)

    again = make(EXAM, "corpus.sample=0", "queries.round_trip_k=0", "seed=7", name="again", script=repeats)
    lost = [row for row in rows(again, "drops") if row["reason"] == "exam-query"]
    assert [row["id"] for row in lost] == [f"{other}/q1"]
    assert f"{other}/q1" not in {row["_id"] for row in rows(again, "train-queries")}


def test_an_llm_of_its_own(make, chat_server, caplog):
    caplog.set_level("INFO")
    own = f'[exam.llm]\nbase_url = "{chat_server.url}"\nmodel = "another"\nconcurrency = 2\n'
    folder = make(EXAM + own)
    assert manifest(folder)["exam"]["llm"] == "another"
    assert {body["model"] for body in chat_server.bodies if last_user_message(body).startswith("Document")} == {
        "another"
    }
    assert [manifest(folder)["usage"]["exam"][each] for each in ("calls", "accepted")] == [3, 3]
    assert f"; {len(chat_server.bodies)} new LLM calls" in caplog.text
    assert manifest(folder)["settings"]["exam"]["llm"]["concurrency"] == 8


def test_the_card_says_that_one_llm_wrote_both_only_where_it_did(make, tmp_path):
    words = "here the same LLM wrote the training queries"
    assert words in (make() / "README.md").read_text()
    (tmp_path / "labels").mkdir()
    asked = [(name, f"what is the life of the {name}") for name in ("owl", "bee")]
    labels = task_folder(tmp_path / "labels", asked, ["owl\towl\t1", "bee\tbee\t1"])
    folder = make(
        EXAM,
        "corpus.sample=300",
        "queries.round_trip_k=0",
        "queries.split=test",
        f"queries.source={labels}",
        name="labelled",
    )
    card = (folder / "README.md").read_text()
    assert words not in card
    assert "An LLM's own style may favour" in card


def people(folder, qrels):
    queries = [("t1", "which bird sees in darkness"), ("t2", "who dances at home"), ("t3", "nothing knows this")]
    folder.mkdir(exist_ok=True)
    return task_folder(folder, queries, qrels)


def test_peoples_own_queries(make, tmp_path, caplog):
    source = people(tmp_path / "llm", ["t1\towl\t1", "t2\tbee\t2", "t2\tnowhere\t1", "t3\tnowhere\t1"])
    folder = make(f'[exam]\nsource = "{source}"\n')
    about = manifest(folder)["exam"]
    assert (about["queries"], about["source"], about["llm"], about["passages"]) == (2, "llm", None, 2)
    assert about["drops"] == {"no-positive": 1, "judged-passage-not-in-corpus": 1}
    assert "with a positive in the corpus: 1 of 3 dropped (33 %): 1 no-positive, 1 judged-passage-not" in caplog.text
    assert not {"owl", "bee"} & {row["corpus-id"] for row in rows(folder, "train-qrels")}
    assert not load_task(str(folder)).is_generated  # whatever its folder is called
    assert manifest(folder)["funnel"]["passages left for training"] == 10
    assert "passages left for training: 2 of 12 dropped (17 %): 2 exam-group" in caplog.text
    check_exam(find(str(folder)))


@pytest.mark.parametrize(
    ("qrels", "words"),
    [
        (["t1\tnowhere\t1"], "exam .*: no judgement above 0"),
        (
            [f"t1\t{name}\t1" for name in ("owl", "bee", "eel", "ant", "bat", "cow", "fox")],
            "groups of 7 passages, and at",
        ),
    ],
)
def test_peoples_own_queries_that_make_no_exam(make, animals, qrels, words):
    source = people(animals, qrels)
    with pytest.raises(UserError, match=words):
        make(f'[exam]\nsource = "{source}"\n')


def without_judgements(folder):
    people(folder, [])
    (folder / "qrels" / "test.tsv").unlink()
    return f'[exam]\nsource = "{folder}"\n'


def judging(says):
    """Judges by `says`, of query and passage; writes queries and negatives as always."""

    def script(body, number):
        text = last_user_message(body)
        if "\nPassage: " not in text:
            return about_animals(body, number)
        return says(*text.removeprefix("Query: ").split("\nPassage: "))

    return script


def knows(query, passage):
    animal, (*_, last) = passage[:3].lower(), query.split()
    if (last, animal) in {("darkness", "owl"), ("home", "bee")}:
        return f'yes: "{" ".join(passage.split()[:6])}"'
    return 'yes: "words of the moon alone"' if animal == "eel" else "no"


@pytest.mark.parametrize("beside", ["", "queries = 3\n"])
def test_an_llm_judges_peoples_queries_that_have_no_judgements(make, tmp_path, beside, chat_server):
    model = tiny.retriever("mean", tmp_path / "tiny", length=32)
    extra, script = without_judgements(tmp_path / "asked") + beside, judging(knows)
    folder = make(extra, f"queries.round_trip_model={model}", "queries.round_trip_k=11", script=script)
    about, config = manifest(folder), "default/own" if beside else "default"
    own, (judge,) = about["exam"]["own"] if beside else about["exam"], about["judges"]
    assert (own["queries"], own["source"], own["passages"], own["drops"]) == (2, "asked", 2, {"no-answer-found": 1})
    assert (judge["model"], judge["systems"], judge["relevant"], judge["failed"]) == ("scripted", 2, 2, 0)
    assert judge["false_quotes"] > 0 == judge["alarms"]
    said = rows(folder, "judgements")
    assert judge["pairs"] == sum(row["of"] == "pool" for row in said)
    split = pq.read_table(next((folder / "default").glob("own-*" if beside else "test-*"))).to_pylist()
    assert {(row["query-id"], row["corpus-id"]) for row in split if row["score"]} == {("t1", "owl"), ("t2", "bee")}
    assert sum(not row["score"] for row in split) > 9  # of no use as misses of a system: they are judged
    kept = {row["corpus-id"] for row in rows(folder, "exam-groups")}
    assert len(kept) == (5 if beside else 2)  # what is judged as not relevant is left for training
    assert not kept & {row["corpus-id"] for row in rows(folder, "train-qrels")}
    task = load_task(f"{folder}#own" if beside else str(folder))
    assert ({*task.queries()}, task.is_generated) == ({"t1", "t2"}, not beside)  # its answers are BM25's hits, too
    card = (folder / "README.md").read_text()
    assert "queries of people, with the hits that an LLM judged (below), from `asked`" in card
    assert "of the ten best hits of 2 systems: 2 are relevant" in card
    assert f"It called 0 of {judge['random']} passages at random relevant" in card
    assert about["configs"][config]["rows"] == len(split)
    assert "broken" not in {link.status for link in dataset_links(find(str(folder)))}
    asked = len(chat_server.bodies)
    make(extra, f"queries.round_trip_model={model}", "queries.round_trip_k=11", name="again", script=script)
    assert len(chat_server.bodies) == asked  # all answers were stored


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (lambda _, passage: f'yes: "{" ".join(passage.split()[:6])}"', "so it judges no better than chance; name ano"),
        (lambda *_: "no", r"calls 0 of \d+ hits relevant and 0 of 3 passages at random"),
    ],
)
def test_a_judge_of_peoples_queries_that_says_always_the_same(make, tmp_path, says, words):
    with pytest.raises(UserError, match=words):
        make(without_judgements(tmp_path / "asked"), script=judging(says))


def test_the_exams_judging_has_a_bill_of_its_own(make, tmp_path, chat_server, caplog):
    caplog.set_level("INFO")
    extra = without_judgements(tmp_path / "asked") + "[selection]\nceiling = { llm-judge = 0.5 }\n"
    asked = tmp_path / "asked" / "queries.jsonl"
    asked.write_text(asked.read_text() + '{"_id": "t4", "text": "Who dances at home?"}\n{"_id": "t5", "text": " "}\n')
    calls = {}
    for name, own in (("same", ()), ("other", (f"exam.llm.base_url={chat_server.url}", "exam.llm.model=another"))):
        usage = manifest(make(extra, *own, name=name, script=judging(knows)))["usage"]
        calls[name] = {stage: each["calls"] for stage, each in usage.items()}
        if name == "same":
            assert sum(calls[name].values()) == len(chat_server.bodies)
            assert re.search(r"exam queries judged +3  1 duplicate, 1 empty\n", caplog.text)
            assert re.search(r"with a positive in the corpus: \d of 3 dropped .*: \d no-answer-found\n", caplog.text)
    assert calls["same"] == calls["other"]
    assert {"exam-judge", "llm-judge"} < calls["other"].keys()


def test_a_judge_without_verdicts_is_told_apart_from_candidates(make, tmp_path):
    with pytest.raises(
        UserError, match=r"exam-judge: none of .*: no-verdict \d+ \(another LLM, with \[exam.llm\], may"
    ):
        make(without_judgements(tmp_path / "asked"), script=judging(lambda *_: "ja"))


def test_an_exam_without_room_is_refused_before_people_are_judged(make, tmp_path, chat_server):
    with pytest.raises(UserError, match=r"exam.queries 7: the corpus has 12 passages .* set it to 6 or lower"):
        make(without_judgements(tmp_path / "asked") + "queries = 7\n", script=judging(knows))
    assert not chat_server.bodies


def test_answers_in_too_much_of_the_corpus_name_how_many_were_asked(make, tmp_path):
    def says(query, passage):
        return f'yes: "{" ".join(passage.split()[:6])}"' if query.endswith("darkness") else "no"

    more = f"queries.round_trip_model={tiny.retriever('mean', tmp_path / 'tiny', length=32)}"
    with pytest.raises(UserError, match=r"groups of \d+ passages, and at .*; set exam.sample lower than 3$"):
        make(without_judgements(tmp_path / "asked"), more, "queries.round_trip_k=11", script=judging(says))


def test_queries_without_a_text(make, tmp_path):
    extra = without_judgements(tmp_path / "asked")
    (tmp_path / "asked" / "queries.jsonl").write_text('{"_id": "a", "text": " "}\n')
    with pytest.raises(UserError, match=r"no query in queries.jsonl has a text; wanted _id and text"):
        make(extra)


def test_an_llm_that_has_nothing_to_judge(make, animals):
    source = people(animals, ["t1\towl\t1"])
    with pytest.raises(UserError, match=r"exam.llm is for queries that an LLM writes or judges, and exam.source .*"):
        make(f'[exam]\nsource = "{source}"\n[exam.llm]\nmodel = "scripted"\nbase_url = "http://127.0.0.1:1/v1"\n')


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[exam]\nqueries = 7\n", "exam.queries 7: the corpus has 12 passages in 12 groups, and the exam may have 6"),
        ('[exam]\ntypes = {"question-v1" = 1}\n', "exam.types: 'question-v1' writes the training queries too"),
        ('[exam]\nsource = "x"\ntypes = {"exam-search-v1" = 1}\n', "exam.types is for queries that an LLM writes"),
        ("[exam]\nsample = 7\n", "exam.sample is for people's own queries: name their folder with exam.source"),
        ("[exam]\nquerys = 7\n", "unknown key exam.querys; allowed here: queries, types"),
        ('[exam]\ntypes = {"exam-x" = 1}\n', "prompt 'exam-x': no such prompt"),
    ],
)
def test_refusals(make, extra, words):
    with pytest.raises(UserError, match=words):
        make(extra)


def in_documents(animals, document_of):
    """Gives each passage of the animals its document; returns their ids."""
    lines = [json.loads(line) for line in (animals / "corpus.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["document"] = document_of(number)
    (animals / "corpus.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return [line["_id"] for line in lines]


def test_where_no_group_is_free_the_reason_is_named(make, animals):
    ids = in_documents(animals, lambda _: "all of it")
    words = f"has 12 passages in 1 groups, and none is free for the exam: the largest, that of '{min(ids)}', has more"
    with pytest.raises(UserError, match=f"{words} than half; name each passage's document with corpus.group_column"):
        make(EXAM, "corpus.group_column=document")
    in_documents(animals, lambda number: number // 6)
    labels = people(animals, [f"t1\t{ids[0]}\t1", f"t2\t{ids[6]}\t1"])
    with pytest.raises(UserError, match=r"12 passages in 2 groups, .*: labelled queries are answered by all of them;"):
        make(
            EXAM, "corpus.group_column=document", "corpus.sample=300", "queries.split=test", f"queries.source={labels}"
        )


def test_a_group_column(make, animals, caplog):
    with pytest.raises(UserError, match=r"no row has a column 'document' \(there are '_id', 'title', 'text'\)"):
        make(EXAM, "corpus.group_column=document")
    ids = in_documents(animals, lambda number: None if number == 0 else number // 4)
    folder = make(EXAM, "corpus.group_column=document")
    assert "1 of 12 passages have nothing in 'document'" in caplog.text
    groups = {row["group"] for row in rows(folder, "exam-groups")}
    number_of = {name: number for number, name in enumerate(ids)}
    kept = {row["corpus-id"] for row in rows(folder, "exam-groups")}
    for name in kept - {ids[0]}:
        same = {each for each in ids[1:] if number_of[each] // 4 == number_of[name] // 4}
        assert same <= kept
    assert len(groups) < len(kept)


def test_peoples_queries_beside_the_generated_exam(make, tmp_path):
    source = people(tmp_path / "asked", ["t1\towl\t1", "t2\tbee\t2", "t3\tnowhere\t1"])
    model = tiny.retriever("mean", tmp_path / "tiny", length=32)
    folder = make(f'{EXAM}source = "{source}"\n', f"queries.round_trip_model={model}", "queries.round_trip_k=11")
    about = manifest(folder)["exam"]
    assert (about["queries"], about["llm"]) == (3, "scripted")
    assert (about["own"]["queries"], about["own"]["source"], about["own"]["llm"]) == (2, "asked", None)
    own = {row["query-id"] for row in pq.read_table(next((folder / "default").glob("own-*"))).to_pylist()}
    judged = {row["query-id"] for row in pq.read_table(next((folder / "default").glob("test-*"))).to_pylist()}
    assert (own, len(judged)) == ({"t1", "t2"}, 3)
    assert own | judged == {row["_id"] for row in rows(folder, "queries")}
    kept = {row["corpus-id"] for row in rows(folder, "exam-groups")}
    assert (len(kept), about["passages"] + about["own"]["passages"]) == (5, 5)  # no passage is in both
    assert not kept & {row["corpus-id"] for row in rows(folder, "train-qrels")}
    assert manifest(folder)["funnel"]["passages left for training"] == 7
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(each) for split, each in loaded.items()} == {"test": 3, "own": 2}
    both = load_tasks([str(folder), f"{folder}#own"])
    assert [(task.name, task.split, {*task.queries()}, task.is_generated) for task in both] == [
        ("animals", "test", judged, True),
        ("animals-own", "own", own, False),
    ]
    card = (folder / "README.md").read_text()
    assert "3 queries that `scripted` wrote" in card
    assert "split `own` of `default` has 2 queries of people, with their judgements, from `asked`" in card
    assert "5 passages in 5 groups" in card
    assert "| | `test` | `own` |" in card
    assert re.search(r"queries that `\w+` ranks a relevant passage first for \| \d+ % \| \d+ % \|", card)
    assert {link.status for link in dataset_links(find(str(folder)))} == {"verified", "unverifiable"}
    (file,) = (folder / "bm25").glob("*.parquet")
    table = pq.read_table(file)
    planted = ["Who dances at home?", *table["query"].to_pylist()[1:]]
    pq.write_table(table.set_column(0, "query", pa.array(planted)), file)
    with pytest.raises(BrokenError, match="'Who dances at home\\?' is a query of the exam"):
        check_exam(find(str(folder)))


@pytest.mark.usefixtures("hub")
def test_both_splits_are_published_and_found_on_the_hub(make, tmp_path):
    source = people(tmp_path / "asked", ["t1\towl\t1", "t2\tbee\t2"])
    publish_dataset(make(f'{EXAM}source = "{source}"\n'), Target("alice/sides", "v1.0.0"))
    tasks = load_tasks(["alice/sides@v1.0.0", "alice/sides@v1.0.0#own"])
    assert [(task.name, len(task.queries()), task.is_generated) for task in tasks] == [
        ("sides", 3, True),
        ("sides-own", 2, False),
    ]
    assert "broken" not in {link.status for link in dataset_links(find("datasets/alice/sides@v1.0.0"))}


def test_an_exam_and_peoples_queries_share_half_of_the_corpus(make, animals):
    source = people(animals, ["t1\towl\t1", "t2\tbee\t1"])
    words = "queries 5: the corpus has 12 passages in 12 groups, 2 of them for exam.source, and the exam may have 4"
    with pytest.raises(UserError, match=words):
        make(f'[exam]\nsource = "{source}"\nqueries = 5\n')
    people(animals, [f"t1\t{name}\t1" for name in ("owl", "bee", "eel", "ant", "bat", "cow")])
    with pytest.raises(UserError, match=r"6 of them for exam.source, and none is free .*; set exam.sample lower"):
        make(f'[exam]\nsource = "{source}"\nqueries = 1\n')
    people(animals, ["t1\towl\t1", "t2\tbee\t1"])
    assert manifest(make(f'[exam]\nsource = "{source}"\nsample = 1\n'))["exam"]["queries"] == 1
