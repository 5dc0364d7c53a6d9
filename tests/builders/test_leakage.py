"""The leakage guard: planted leaks of every sort are found, clean texts are not, and each policy does what it says."""

import json
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build, schema
from builders import texts as one_text
from builders.leakage.__main__ import examine
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import TEXTS, EvaluationSet
from builders.leakage.guard import Guard
from builders.leakage.overlap import HITS, Overlap
from builders.passages import Passages
from builders.queries import TABLE
from builders.recipe import BuildRecipe
from cards.templates import section
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.builders.audited import a_dataset, write_qrels
from tests.conftest import ANIMALS, SHARED, beir
from tests.fixtures import ROOT, commands

draw = random.Random(7)
WORDS = [f"word{n}" for n in range(5000)]


def prose(length):
    return " ".join(draw.choices(WORDS, k=length))


def edited(text, changes):
    words = text.split()
    for place in range(changes):
        words[len(words) * (2 * place + 1) // (2 * changes)] = f"edit{place}"
    return " ".join(words)


def exam(queries, passages, name="Exam"):
    tables = [pa.table({"_id": list(rows), "text": list(rows.values())}, TEXTS) for rows in (queries, passages)]
    return EvaluationSet(name, "sha256:0", *tables)


EXAM = exam(
    {"q1": "Do owls hunt at night?", "q2": prose(14), "q3": prose(12), "q4": prose(30)},
    {"d1": prose(60), "d2": prose(60), "d3": prose(60)},
)
Q, D = (dict(zip(*side.to_pydict().values(), strict=True)) for side in (EXAM.queries, EXAM.passages))
CLEAN = {f"p{n}": prose(50) for n in range(30)}


def corpus(passages):
    return Passages(pa.table({"_id": list(passages), "title": [""] * len(passages), "text": list(passages.values())}))


def asked(queries, positives=None):
    ids = list(queries)
    return pa.table([ids, list(queries.values()), positives or ["p0"] * len(ids)], schema=TABLE)


def guarded(queries, texts, /, positives=None, sets=(EXAM,), **settings_):
    return Guard(LeakageConfig(**settings_), sets).check(asked(queries, positives), corpus(texts))


def by_test(found, what):
    rows = [row for row in found.hits.to_pylist() if row["what"] == what]
    return {(row["test"], row["id"], row["evaluation-text"], row["evaluation-id"]) for row in rows}


def test_planted_queries_are_found_by_the_test_that_is_for_them():
    planted = {
        "same": "do OWLS  hunt “at night”",
        "within": f"please tell me now {' '.join(Q['q2'].split()[1:])} if you can {prose(20)}",
        "edited": edited(Q["q4"], 1),
        "short": "Do owls ever hunt at night?",  # has no runs, and is only compared whole
        "clean": prose(12),
    }
    found = guarded(planted, CLEAN)
    assert by_test(found, "query") == {
        ("exact", "same", "query", "q1"),
        ("ngram", "within", "query", "q2"),
        ("ngram", "edited", "query", "q4"),
    }
    assert set(found.queries_to_drop.to_pylist()) == {"same", "within", "edited"}
    assert by_test(found, "corpus") == set()


def test_planted_passages_are_found():
    planted = {
        "same": D["d1"].upper().replace(" ", "  "),
        "edited": edited(D["d2"], 3),
        "longer": f"{prose(90)} {' '.join(D['d3'].split()[:45])} {prose(90)}",
        "part": " ".join(D["d3"].split()[10:28]),
        "little": f"{' '.join(D['d3'].split()[:20])} {prose(40)}",
        "asks": f"{prose(20)} {Q['q2']} {prose(20)}",
    }
    found = guarded({"q": prose(9)}, CLEAN | planted, positives=["part"])
    assert by_test(found, "corpus") == {
        *((test, "same", "passage", "d1") for test in ("exact", "ngram")),
        ("ngram", "edited", "passage", "d2"),
        ("ngram", "longer", "passage", "d3"),
        ("ngram", "part", "passage", "d3"),
        ("ngram", "asks", "query", "q2"),
    }
    assert by_test(found, "positive") == {("ngram", "part", "passage", "d3")}
    assert found.totals == {"query": 1, "positive": 1, "corpus": 36}


@pytest.mark.parametrize("length", [10, 15, 20, 25, 29])
def test_one_changed_word_does_not_hide_a_short_text(length):
    """The last word, which breaks one run, or from 20 words on the one in the middle, which breaks eight."""
    sets = [exam({"q1": prose(length)}, {"d1": prose(60)})]
    words = sets[0].queries["text"][0].as_py().split()
    changed = length // 2 if length >= 20 else length - 1
    other = " ".join([*words[:changed], "edit", *words[changed + 1 :]])
    assert by_test(guarded({"near": other}, CLEAN, sets=sets), "query") == {("ngram", "near", "query", "q1")}


def runs(text, n):
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


sentences = st.lists(st.sampled_from("abc"), min_size=1, max_size=14).map(" ".join)


@settings(max_examples=60)
@given(st.lists(sentences, min_size=1, max_size=4), st.lists(sentences, min_size=1, max_size=4), st.integers(2, 4))
def test_shares_of_runs_are_those_of_a_plain_count(training, evaluation, n):
    sets = [exam({str(i): text for i, text in enumerate(evaluation)}, {"d": "a b"})]
    overlap = Overlap(sets, LeakageConfig(ngram=n, ngram_share=0.4))
    texts = pa.array(training)
    pairs = overlap._sharing(*one_text.runs(*one_text.word_hashes(texts), n), between_passages=False)
    wanted = {}
    for row, text in enumerate(training):
        for place, other in enumerate([*evaluation, "a b"]):
            theirs = set(runs(other, n))
            share = len(theirs & set(runs(text, n))) / len(theirs) if theirs else 0
            if share >= 0.7 * 0.4:  # all are short
                wanted[row, place] = share
    assert {(pair["row"], pair["found"]): pair["similarity"] for pair in pairs.to_pylist()} == wanted


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from(["lime", "sand", "tar", "glue"]), max_size=30).map(" ".join), min_size=1))
def test_texts_of_other_words_are_never_found(texts):
    found = guarded({str(i): text for i, text in enumerate(texts)}, {str(i): text for i, text in enumerate(texts)})
    assert found.hits.num_rows == 0
    assert found.training_datasets == []


@settings(max_examples=15)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_neither_order_nor_batches_change_what_is_found(order, size):
    rows = {**CLEAN, "a": D["d1"], "b": edited(D["d2"], 3), "c": D["d1"].upper()}
    items = list(rows.items())
    order.shuffle(items)
    chunks = [corpus(dict(items[start : start + size])).table for start in range(0, len(items), size)]
    by_id = [("test", "ascending"), ("id", "ascending")]
    in_pieces = Guard(LeakageConfig(), [EXAM]).check(asked({}), Passages(pa.concat_tables(chunks))).hits
    assert in_pieces.sort_by(by_id).equals(guarded({}, rows).hits.sort_by(by_id))


LEAKY = {"good": prose(10), "bad": Q["q2"], "through": prose(11)}


def test_drop_leaves_out_queries_and_says_why():
    found = guarded(LEAKY, CLEAN | {"d": D["d1"]}, positives=["p0", "p1", "d"])
    assert found.queries_to_drop.to_pylist() == ["bad"]
    assert found.passages_to_drop.to_pylist() == []
    assert found.drops.schema == schema.DROPS
    assert found.drops.to_pylist() == [
        {"stage": "leakage", "id": "bad", "reason": "query-in-Exam", "detail": "exact: query q2 (1.00)"}
    ]
    assert found.training_datasets == ["Exam"]  # the passage stays
    assert guarded(LEAKY, CLEAN).training_datasets == []
    allowed = guarded(LEAKY, CLEAN, policy="allow")
    assert (allowed.training_datasets, allowed.drops.num_rows) == (["Exam"], 0)


def test_drop_of_passages_too():
    found = guarded(LEAKY, CLEAN | {"d": D["d1"]}, positives=["p0", "p1", "d"], passages="drop")
    assert found.queries_to_drop.to_pylist() == ["bad", "through"]
    assert found.passages_to_drop.to_pylist() == ["d"]
    assert [(row["id"], row["reason"], row["detail"]) for row in found.drops.to_pylist()] == [
        ("bad", "query-in-Exam", "exact: query q2 (1.00)"),
        ("through", "positive-in-Exam", "exact: passage d1 (1.00)"),
        ("d", "passage-in-Exam", "exact: passage d1 (1.00)"),
    ]
    assert found.training_datasets == []  # a third of the set's passages, and none is left
    most = guarded({"q": prose(9)}, CLEAN | {"d": D["d1"], "e": D["d2"]}, passages="drop")
    assert most.passages_to_drop.to_pylist() == ["d", "e"]
    assert most.training_datasets == ["Exam"]  # the corpus is the set's own, whatever is dropped


def test_refusal_has_counts_examples_and_the_remedy():
    with pytest.raises(UserError) as refused:
        guarded(LEAKY, CLEAN, policy="refuse")
    assert str(refused.value) == (
        "leakage: 1 of 3 queries stand in evaluation sets, such as query 'bad' = query 'q2' of Exam (exact, 1.00). "
        "Leave them out (leakage.policy=drop when the data set is built), accept that no figure on these sets is "
        "zero-shot (allow), or take the sets out of leakage.against"
    )
    planted = CLEAN | {f"d{n}": D["d1"] for n in range(5)}
    assert guarded({"q": prose(9)}, planted, policy="refuse").training_datasets == ["Exam"]
    with pytest.raises(
        UserError, match=r"leakage: 5 passages stand .*'d0' .*'d1' .*'d2' = passage 'd1' of Exam \(exact"
    ):
        guarded({"q": prose(9)}, planted, policy="refuse", passages="drop")


def test_generated_and_chosen_negatives_are_reported_by_kind():
    guard = Guard(LeakageConfig(passages="drop"), [EXAM])
    found = guard.check(asked({"q": prose(9)}), corpus(CLEAN | {"d": D["d1"]}))
    columns = {"_id": ["q/llm1", "q/llm2"], "text": [D["d2"], prose(40)], "query-id": ["q", "q"], "call-key": ["", ""]}
    columns["broken"] = [None, None]
    found = guard.with_generated(found, pa.table(columns, schema.GENERATED))
    assert found.passages_to_drop.to_pylist() == ["d", "q/llm1"]
    assert found.drops["reason"].to_pylist() == ["passage-in-Exam"] * 2
    found = found.with_negatives(
        {"bm25": pa.table({"corpus-id": ["d", "p1", "d"]}), "llm": pa.table({"corpus-id": ["q/llm2"]})}
    )
    any_test = {row["what"]: (row["any"], row["texts"]) for row in found.summary()["counts"]}
    assert any_test == {
        "query": (0, 1), "positive": (0, 1), "corpus": (1, 31), "generated": (1, 2), "negative-bm25": (1, 2),
        "negative-llm": (0, 1),
    }  # fmt: skip


def test_without_evaluation_sets_nothing_is_done():
    found = Guard(LeakageConfig()).check(asked(LEAKY), corpus(CLEAN))
    assert (found.hits.schema, found.hits.num_rows, found.training_datasets) == (HITS, 0, [])
    assert found.summary()["counts"] == []


def test_several_sets_are_kept_apart():
    other = exam({"x": Q["q2"], "y": prose(9)}, {"z": D["d1"]}, "Other")
    found = guarded(LEAKY, CLEAN, sets=[EXAM, other], policy="allow")
    exact = {(row["evaluation-set"], row["evaluation-id"]) for row in found.hits.to_pylist() if row["test"] == "exact"}
    assert exact == {("Exam", "q2"), ("Other", "x")}
    assert found.leaked("query").num_rows == 1


def test_the_card():
    found = guarded(LEAKY, CLEAN | {"d": D["d1"]}, positives=["p0", "p1", "d"])
    manifest = json.loads(json.dumps({"leakage": found.summary()}))
    card = section("dataset_leakage.md", **manifest)
    assert "| Exam | queries | 3 | 1 | 1 | 1 | 33.33 % |" in card
    assert "| Exam | corpus passages | 31 | 1 | 1 | 1 | 3.23 % |" in card
    assert "1 query was left out" in card
    assert "**not zero-shot on Exam**" in card
    clean = section("dataset_leakage.md", leakage=guarded({}, CLEAN).summary())
    assert "Nothing of them is left in the training rows" in clean


def command(*arguments):
    words = [sys.executable, "-m", "builders.leakage", *map(str, arguments)]
    return commands.run(words, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture
def exam_folder(tmp_path):
    """Writes a BEIR folder of the given texts; every query is judged relevant to every passage."""

    def write(queries, passages):
        folder = beir(tmp_path / "animal-exam", [(str(n), "", text) for n, text in enumerate(passages)])
        lines = [json.dumps({"_id": str(n), "text": text}) for n, text in enumerate(queries)]
        (folder / "queries.jsonl").write_text("\n".join(lines))
        (folder / "qrels").mkdir(exist_ok=True)
        write_qrels(
            folder / "qrels" / "test.tsv", [(q, d, 1) for q in range(len(queries)) for d in range(len(passages))]
        )
        return folder

    return write


def test_a_built_data_set_is_checked_as_it_is(build_animals, exam_folder, tmp_path):
    folder = build_animals("data")
    asked_ = pq.read_table(folder / "train-queries")["text"].to_pylist()
    leaky = exam_folder([asked_[0].upper(), "Why is this never asked?"], [prose(40)])
    refused = command(folder, "--against", leaky, "--out", tmp_path / "found.parquet")
    assert refused.returncode == 2
    assert f"leakage: 1 of {len(asked_)} queries stand in evaluation sets, such as query" in refused.stderr
    assert f"| animal-exam | queries | {len(asked_)} | 1 |" in refused.stdout
    assert "left out" not in refused.stdout  # nothing was
    assert "**not zero-shot on animal-exam**" in refused.stdout
    assert pq.read_schema(tmp_path / "found.parquet").remove_metadata() == HITS
    assert command(folder, "--against", leaky, "--set", "policy=allow").returncode == 0
    clean = command(folder, "--against", exam_folder([prose(12)], [prose(40)]))
    assert clean.returncode == 0, clean.stderr
    assert "Nothing of them is left in the training rows" in clean.stdout
    wrong = command(folder, "--against", "x", "--set", "ngrm=1")
    assert (wrong.returncode, "unknown key ngrm; allowed here: against, policy" in wrong.stderr) == (2, True)


def test_the_command_counts_negatives_as_a_build_does(build_animals, exam_folder):
    folder = exam_folder(["a question?"], [f"{text} Such is the life of this animal." for text in ANIMALS.values()])
    built = build_animals("checked", f'leakage.against=["{folder}"]')
    counts = examine(built, LeakageConfig(against=(str(folder),))).summary()["counts"]
    assert counts == json.loads((built / "manifest.json").read_text())["leakage"]["counts"]
    assert next(row for row in counts if row["what"] == "negative-bm25")["share"] == 1


def test_a_data_set_without_negatives_is_checked_too(tmp_path, exam_folder):
    folder = a_dataset(tmp_path / "none", {"p": prose(40)}, {"q": "who?"}, [("q", "p")], {})
    found = examine(folder, LeakageConfig(against=(str(exam_folder(["Who?"], [prose(40)])),)))
    assert found.leaked("query")["id"].to_pylist() == ["q"]


def test_a_corpus_that_is_refused_costs_no_call(write_recipe, exam_folder, tmp_path, chat_server):
    path = write_recipe('["bm25"]', '[leakage]\npolicy = "refuse"\npassages = "drop"\n')
    leaky = exam_folder(["Why is this never asked?"], [f"{ANIMALS['eel']} Such is the life of this animal."])
    recipe = load_recipe(path, [f'leakage.against=["{leaky}"]'], BuildRecipe)
    with pytest.raises(UserError, match="leakage: 1 passages stand in evaluation sets, such as corpus 'eel' = passage"):
        build.main(recipe, tmp_path / "o" / "d", tmp_path / "calls.sqlite")
    assert not chat_server.bodies


def test_without_a_data_set_or_an_evaluation_set_nothing_is_checked(tmp_path):
    with pytest.raises(UserError, match="empty or not there; build it first"):
        examine(tmp_path / "none", LeakageConfig(against=("SciFact",)))
    folder = a_dataset(tmp_path / "one", {"p": "text"}, {"q": "who?"}, [("q", "p")], {})
    with pytest.raises(UserError, match="no evaluation set is named; add --against NAME or --against FOLDER"):
        examine(folder, LeakageConfig())


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
def test_scifacts_own_split_as_it_is():
    folder = f"{SHARED}/collections/scifact"
    guard = Guard(LeakageConfig(against=(f"SciFact={folder}:test",)))
    train = Guard(LeakageConfig(against=(f"{folder}:train",))).sets[0]
    passages = pa.table(
        {"_id": train.passages["_id"], "title": [""] * 565, "text": train.passages["text"]}, schema.CORPUS
    )
    queries = pa.table([train.queries["_id"], train.queries["text"], [passages["_id"][0].as_py()] * 809], schema=TABLE)
    counts = {row["what"]: row for row in guard.check(queries, Passages(passages)).summary()["counts"]}
    # Claims of both splits were written from the same sentences: some differ in one word, two in nothing at all.
    assert [counts["query"][test] for test in ("exact", "ngram", "any")] == [2, 39, 40]
    shared = set(train.passages["_id"].to_pylist()) & set(guard.sets[0].passages["_id"].to_pylist())
    assert counts["corpus"]["exact"] == counts["corpus"]["any"] == len(shared) == 181
