"""The leakage guard: planted leaks of every sort are found, clean texts are not, and each policy does what it says."""

import json
import random
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build, schema
from builders import texts as one_text
from builders.leakage import overlap
from builders.leakage.__main__ import examine
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import TEXTS, EvaluationSet
from builders.leakage.found import Found
from builders.leakage.guard import Guard
from builders.leakage.overlap import HITS, Overlap
from builders.leakage.report import summary
from builders.passages import Passages
from builders.queries import TABLE
from builders.recipe import BuildRecipe
from cards.templates import section
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.builders.audited import a_dataset
from tests.conftest import ANIMALS, BASE, SHARED
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
        "short": "Do owls hunt by day?",
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


def test_short_texts_have_no_runs_and_are_only_compared_whole():
    found = guarded({"q": "Do owls ever hunt at night?"}, CLEAN)
    assert by_test(found, "query") == set()
    assert {row[0] for row in by_test(guarded({"q": Q["q1"]}, CLEAN), "query")} == {"exact"}


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
    pairs = overlap._sharing(*one_text.runs(*one_text.word_hashes(texts), n), None)
    wanted = {}
    for row, text in enumerate(training):
        for place, other in enumerate([*evaluation, "a b"]):
            theirs = set(runs(other, n))
            share = len(theirs & set(runs(text, n))) / len(theirs) if theirs else 0
            if share >= 0.7 * 0.4:  # all are short
                wanted[row, place] = share
    assert (
        dict(zip(zip(pairs.rows.tolist(), pairs.found.tolist(), strict=True), pairs.similarity, strict=True)) == wanted
    )


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from(["lime", "sand", "tar", "glue"]), max_size=30).map(" ".join), min_size=1))
def test_texts_of_other_words_are_never_found(texts):
    found = guarded({str(i): text for i, text in enumerate(texts)}, {str(i): text for i, text in enumerate(texts)})
    assert found.hits.num_rows == 0
    assert found.training_datasets == []


@settings(max_examples=15)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_neither_order_nor_batches_change_what_is_found(order, size):
    rows = list({**CLEAN, "a": D["d1"], "b": edited(D["d2"], 3), "c": D["d1"].upper()}.items())
    order.shuffle(rows)
    ids, texts = (pa.array(side) for side in zip(*rows, strict=True))
    guard = Guard(LeakageConfig(), [EXAM])
    pieces = ((ids[i : i + size], texts[i : i + size]) for i in range(0, len(ids), size))
    in_pieces = guard.hits("corpus", pieces, len(ids)).sort_by([("test", "ascending"), ("id", "ascending")])
    whole = guarded({}, dict(CLEAN) | {"a": D["d1"], "b": edited(D["d2"], 3), "c": D["d1"].upper()}).hits
    assert in_pieces.equals(whole.sort_by([("test", "ascending"), ("id", "ascending")]))


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


def test_the_same_corpus_is_no_zero_shot_even_if_what_leaked_is_dropped():
    found = guarded({"q": prose(9)}, CLEAN | {"d": D["d1"], "e": D["d2"]}, passages="drop")
    assert found.passages_to_drop.to_pylist() == ["d", "e"]
    assert found.training_datasets == ["Exam"]


def test_dropped_queries_leave_a_set_unseen_and_allowed_ones_do_not():
    assert guarded(LEAKY, CLEAN).training_datasets == []
    allowed = guarded(LEAKY, CLEAN, policy="allow")
    assert allowed.training_datasets == ["Exam"]
    assert (len(allowed.queries_to_drop), allowed.drops.num_rows) == (0, 0)


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
    found = guard.and_generated(found, pa.table(columns, schema.GENERATED))
    assert found.passages_to_drop.to_pylist() == ["d", "q/llm1"]
    assert found.drops["reason"].to_pylist() == ["passage-in-Exam"] * 2
    found = found.and_negatives(
        {"bm25": pa.table({"corpus-id": ["d", "p1", "d"]}), "llm": pa.table({"corpus-id": ["q/llm2"]})}
    )
    any_test = {row["what"]: (row["any"], row["texts"]) for row in summary(found)["counts"]}
    assert any_test == {
        "query": (0, 1), "positive": (0, 1), "corpus": (1, 31), "generated": (1, 2), "negative-bm25": (1, 2),
        "negative-llm": (0, 1),
    }  # fmt: skip


def test_an_embedding_model_finds_what_shares_no_runs():
    sets = [exam({"q1": "Which bird hunts mice in the dark?"}, {"d1": D["d1"]})]
    asked_ = {"close": "What bird hunts mice when it is dark?", "far": "How do eels spawn in the sea?"}
    assert guarded(asked_, CLEAN, sets=sets).hits.num_rows == 0
    found = guarded(asked_, CLEAN, sets=sets, model=BASE, cosine=0.8)
    assert by_test(found, "query") == {("embedding", "close", "query", "q1")}
    assert summary(found)["tests"]["embedding"] == 0.8


def test_without_evaluation_sets_nothing_is_done():
    found = Guard(LeakageConfig()).check(asked(LEAKY), corpus(CLEAN))
    assert (found.hits.schema, found.hits.num_rows, found.training_datasets) == (HITS, 0, [])
    assert summary(found)["counts"] == []


def test_several_sets_are_told_apart():
    other = exam({"x": Q["q2"], "y": prose(9)}, {"z": D["d1"]}, "Other")
    found = guarded(LEAKY, CLEAN, sets=[EXAM, other], policy="allow")
    exact = {(row["evaluation-set"], row["evaluation-id"]) for row in found.hits.to_pylist() if row["test"] == "exact"}
    assert exact == {("Exam", "q2"), ("Other", "x")}
    assert found.leaked("query").num_rows == 1


def test_the_card():
    found = guarded(LEAKY, CLEAN | {"d": D["d1"]}, positives=["p0", "p1", "d"])
    manifest = json.loads(json.dumps({"leakage": summary(found)}))
    card = section("dataset_leakage.md", **manifest)
    assert "| Exam | queries | 3 | 1 | 1 | 1 | 33.33 % |" in card
    assert "| Exam | corpus passages | 31 | 1 | 1 | 1 | 3.23 % |" in card
    assert "1 query was left out" in card
    assert "**not zero-shot on Exam**" in card
    clean = section("dataset_leakage.md", leakage=summary(guarded({}, CLEAN)))
    assert "Nothing of them is left in the training rows" in clean


def command(*arguments):
    words = [sys.executable, "-m", "builders.leakage", *map(str, arguments)]
    return commands.run(words, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture
def exam_folder(tmp_path):
    """Reads like a BEIR folder and holds whatever texts it is given."""

    def write(queries, passages, name="animal-exam"):
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        for file, rows in (("queries", queries), ("corpus", passages)):
            lines = [json.dumps({"_id": str(i), "text": text}) for i, text in enumerate(rows)]
            (folder / f"{file}.jsonl").write_text("\n".join(lines) + "\n")
        pairs = [f"{q}\t{d}\t1\n" for q in range(len(queries)) for d in range(len(passages))]
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(pairs))
        return folder

    return write


def test_a_built_data_set_is_checked_by_command(build_animals, exam_folder, tmp_path):
    folder = build_animals("data")
    asked_ = pq.read_table(folder / "queries")["text"].to_pylist()
    negative = pq.read_table(folder / "bm25")["negative_1"].to_pylist()[0]
    leaky = exam_folder([asked_[0].upper(), "Why is this never asked?"], [negative, prose(40)])
    found = examine(folder, LeakageConfig(against=(str(leaky),)))
    counts = {row["what"]: row for row in summary(found)["counts"]}
    assert counts["query"]["exact"] == 1
    assert counts["negative-bm25"]["exact"] >= 1
    assert counts["corpus"]["any"] >= 1
    refused = command(folder, "--against", leaky, "--out", tmp_path / "found.parquet")
    assert refused.returncode == 2
    assert f"leakage: 1 of {len(asked_)} queries stand in evaluation sets, such as query" in refused.stderr
    assert "animal-exam" in refused.stdout
    assert "**not zero-shot on animal-exam**" in refused.stdout
    assert pq.read_schema(tmp_path / "found.parquet").remove_metadata() == HITS
    assert command(folder, "--against", leaky, "--set", "policy=allow").returncode == 0


def test_negatives_of_two_queries_of_one_text_keep_their_ids(tmp_path, exam_folder):
    """Labelled queries may ask the same: what leaked belongs to the one that has it."""
    passages = {f"p{n}": prose(40) for n in range(4)}
    asked_ = {"q1": "what do owls hunt at night?", "q2": "what do owls hunt at night?"}
    chosen = {"bm25": [("q1", "p2"), ("q2", "p3")]}
    folder = tmp_path / "twins"
    a_dataset(folder, passages, asked_, [("q1", "p0"), ("q2", "p1")], chosen)
    found = examine(folder, LeakageConfig(against=(str(exam_folder(["a question?"], [passages["p3"]])),)))
    assert found.hits.filter(pc.equal(found.hits["what"], "negative-bm25"))["id"].unique().to_pylist() == [
        "q2/negative_1"
    ]


def test_a_corpus_that_is_refused_costs_no_call(write_recipe, exam_folder, tmp_path, chat_server):
    path = write_recipe('["bm25"]', '[leakage]\npolicy = "refuse"\npassages = "drop"\n')
    leaky = exam_folder(["Why is this never asked?"], [f"{ANIMALS['eel']} Such is the life of this animal."])
    recipe = load_recipe(path, [f'leakage.against=["{leaky}"]'], BuildRecipe)
    with pytest.raises(UserError, match="leakage: 1 passages stand in evaluation sets, such as corpus 'eel' = passage"):
        build.main(recipe, tmp_path / "o" / "d", tmp_path / "calls.sqlite")
    assert not chat_server.bodies


def test_the_embedding_model_is_loaded_once_and_compares_in_parts(monkeypatch):
    monkeypatch.setattr(overlap, "_COSINES", 3)  # a row of the batch at a time
    index = Overlap([EXAM], LeakageConfig(model=BASE, cosine=0.8))
    ids, texts = pa.array(["a", "b"]), pa.array(["Is fog wet?", "do owls hunt by night?"])
    first, model = index.hits("query", ids, texts), index._model
    told = {(row["id"], row["evaluation-id"], row["test"]) for row in first.to_pylist()}
    assert ("b", "q1", "embedding") in told
    index.hits("query", ids, texts)
    assert index._model is model


def test_a_clean_data_set_and_mistakes_by_command(build_animals, exam_folder, tmp_path):
    folder = build_animals("data")
    clean = command(folder, "--against", exam_folder([prose(12)], [prose(40)]))
    assert clean.returncode == 0, clean.stderr
    assert "Nothing of them is left in the training rows" in clean.stdout
    with pytest.raises(UserError, match="no evaluation set is named; add --against NAME or --against FOLDER"):
        examine(folder, LeakageConfig())
    with pytest.raises(UserError, match="there is nothing in it; wanted a folder that"):
        examine(tmp_path / "none", LeakageConfig(against=("SciFact",)))
    wrong = command(folder, "--against", "x", "--set", "ngrm=1")
    assert (wrong.returncode, "unknown key ngrm; allowed here: against, policy" in wrong.stderr) == (2, True)


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
def test_scifact_claims_among_generated_queries_are_found_and_dropped():
    test = f"{SHARED}/collections/scifact:test"
    guard = Guard(LeakageConfig(against=(test,)))
    claims = dict(zip(*guard.sets[0].queries.to_pydict().values(), strict=True))
    planted = {f"leak{i}": claims[i].upper() for i in list(claims)[::10]}
    own = {f"own{n}": prose(12) for n in range(200)}
    found = guard.check(asked(planted | own), corpus(CLEAN))
    assert set(found.queries_to_drop.to_pylist()) == set(planted)
    assert isinstance(found, Found)


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
def test_scifacts_own_split_as_it_is():
    folder = f"{SHARED}/collections/scifact"
    guard = Guard(LeakageConfig(against=(f"SciFact={folder}:test",)))
    train = Guard(LeakageConfig(against=(f"{folder}:train",))).sets[0]
    passages = pa.table(
        {"_id": train.passages["_id"], "title": [""] * 565, "text": train.passages["text"]}, schema.CORPUS
    )
    queries = pa.table([train.queries["_id"], train.queries["text"], [passages["_id"][0].as_py()] * 809], schema=TABLE)
    counts = {row["what"]: row for row in summary(guard.check(queries, Passages(passages)))["counts"]}
    # Claims of both splits were written from the same sentences: some differ in one word, two in nothing at all.
    assert [counts["query"][test] for test in ("exact", "ngram", "any")] == [2, 39, 40]
    shared = set(train.passages["_id"].to_pylist()) & set(guard.sets[0].passages["_id"].to_pylist())
    assert counts["corpus"]["exact"] == counts["corpus"]["any"] == len(shared) == 181
