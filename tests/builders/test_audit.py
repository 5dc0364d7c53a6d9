"""The audit of false negatives: the draw, the figures, the command, the manifest and the card."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.audit.__main__ import Options, _files, main
from builders.audit.false_negatives import audit, draw, sampled_pairs
from builders.audit.judges import Judge, Truth, qrels
from builders.audit.pairs import distinct, ids, shuffled
from builders.dataset.folder import MANIFEST, read_manifest
from builders.dataset.read import DataSet
from cards.templates import section
from foils.errors import UserError
from tests.builders.audited import a_dataset, fill, numbered, pairs, write_qrels
from tests.fixtures import commands

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def houses(tmp_path):
    """300 queries, kinds bm25 (a fifth is relevant) and random (none is), and what is relevant."""
    return numbered(tmp_path / "houses")


def judge_that_errs(relevant, misses=0, alarms=0):
    """A judge that misses every `misses`-th relevant pair, and is alarmed by every `alarms`-th other one."""
    relevant = set(relevant)

    def verdict(pair):
        error = misses if pair in relevant else alarms
        return float((pair in relevant) != bool(error and int(pair[0][1:]) // 5 % error == 0))

    return Judge("llm", {}, "it says so", lambda asked: np.array([*map(verdict, ids(asked))]), can_judge_more=True)


def test_the_random_order_depends_on_the_seed(houses):
    dataset = DataSet(houses[0])
    first, again, other = (draw(dataset, seed) for seed in (42, 42, 43))
    assert {kind: pairs.num_rows for kind, pairs in first.items()} == {"bm25": 300, "random": 300}
    assert first == again
    assert first["bm25"] != other["bm25"]


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=1, unique=True), st.randoms())
def test_the_random_order_does_not_depend_on_the_order_of_rows(rows, dice):
    others = dice.sample(rows, len(rows))
    ordered = shuffled(pairs(*rows), "bm25", 1)
    assert ordered.equals(shuffled(pairs(*others), "bm25", 1))
    assert sorted(map(tuple, map(dict.values, ordered.to_pylist()))) == sorted(rows)


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cd")), min_size=1), min_size=1))
def test_distinct_pairs_are_each_once_in_the_order_they_come(tables):
    found = distinct([pairs(*rows) for rows in tables]).to_pylist()
    wanted = list(dict.fromkeys(row for rows in tables for row in rows))
    assert [tuple(row.values()) for row in found] == wanted


@pytest.fixture
def truth(houses, tmp_path):
    """The judgements of all that is relevant."""
    return Truth([write_qrels(tmp_path / "truth.tsv", [(*row, 1) for row in houses[1]])])


def test_the_estimate_is_the_share_that_the_judge_calls_relevant(houses, truth):
    result = audit(DataSet(houses[0]), qrels(truth), truth)
    bm25, random = result["kinds"]["bm25"], result["kinds"]["random"]
    assert bm25["true"] == {"known": 300, "relevant": 60, "rate": 0.2}
    assert (bm25["pairs"], bm25["sampled"], bm25["judged"], bm25["unjudged"]) == (300, 100, 100, 0)
    assert bm25["low"] <= 0.2 <= bm25["high"]
    assert bm25["rate"] == bm25["relevant"] / 100
    assert (random["relevant"], random["true"]["rate"]) == (0, 0.0)
    assert (result["reference"], random["difference"]) == ("random", None)
    assert bm25["difference"]["rate"] == bm25["rate"]
    assert bm25["difference"]["low"] > 0
    assert bm25["accuracy"] is bm25["corrected"] is None  # judgements are not measured by themselves


def test_judgements_say_nothing_of_passages_that_an_llm_wrote(tmp_path, capsys):
    queries, passages = {"q0": "who hunts?", "q1": "who dances?"}, {"p0": "Owls hunt.", "p1": "Bees dance."}
    written = [("q0/llm1", "Owls sleep.", "q0"), ("q1/llm1", "Bees dance, too.", "q1")]
    chosen = {"llm": [("q0", "q0/llm1"), ("q1", "q1/llm1")], "bm25": [("q0", "p1"), ("q1", "p0")]}
    folder = a_dataset(tmp_path / "set", passages, queries, [("q0", "p0"), ("q1", "p1")], chosen, written)
    file = write_qrels(tmp_path / "test.tsv", [("q0", "p0", 1), ("q1", "p1", 1)])
    result = main(folder, Options(qrels=(file,)))
    assert result["kinds"]["llm"]["true"] == {"known": 0, "relevant": 0, "rate": None}
    assert (result["kinds"]["llm"]["rate"], result["kinds"]["llm"]["unjudged"]) == (None, 2)
    assert result["kinds"]["bm25"]["true"] == {"known": 2, "relevant": 0, "rate": 0.0}
    assert "Passages that an LLM wrote are in no judgement and have none." in capsys.readouterr().out
    assert "in no judgement and have none" in (folder / "README.md").read_text()


def test_the_interval_holds_the_true_rate_over_seeds(houses, truth):
    results = [audit(DataSet(houses[0]), qrels(truth), truth, seed=seed)["kinds"]["bm25"] for seed in range(60)]
    assert sum(found["low"] <= 0.2 <= found["high"] for found in results) >= 54


def test_a_judge_that_errs_is_measured_and_corrected(houses, tmp_path):
    folder, relevant = houses
    extra = [(query, passage.replace("also", "other")) for query, passage in relevant if passage.startswith("also")]
    truth = Truth([write_qrels(tmp_path / "test.tsv", [(*row, 1) for row in relevant + extra])])
    judge = judge_that_errs([*relevant, *extra], misses=4, alarms=3)
    found = audit(DataSet(folder), judge, truth)
    bm25 = found["kinds"]["bm25"]
    assert found["sensitivity"]["rate"] == pytest.approx(0.75, abs=0.1)
    assert bm25["specificity"]["rate"] == pytest.approx(2 / 3, abs=0.12)
    assert bm25["rate"] > 0.3  # many false alarms
    assert bm25["corrected"]["low"] <= 0.2 <= bm25["corrected"]["high"]
    assert abs(bm25["corrected"]["rate"] - 0.2) < abs(bm25["rate"] - 0.2)
    assert bm25["accuracy"]["rate"] == pytest.approx(0.2 * 0.75 + 0.8 * 2 / 3, abs=0.12)


def test_the_judge_is_asked_once_and_never_about_the_sample_when_it_is_measured(houses, truth):
    folder, relevant = houses
    asked = []
    honest = judge_that_errs(relevant)
    judge = honest._replace(verdicts=lambda table: asked.append(table) or honest.verdicts(table))
    audit(DataSet(folder), judge, truth, sample=40)
    ((*rows,),) = (ids(table) for table in asked)
    assert len(set(rows)) == len(rows)
    positives = {("q" + passage[4:], passage) for _, passage in relevant if passage.startswith("also")}
    sample = set(ids(sampled_pairs(draw(DataSet(folder), 42), 40)))
    checked = set(rows) - sample
    assert len(checked & positives) == min(40, len(positives - sample))
    assert len(checked - positives) == 80  # rejects of two kinds


def test_without_judgements_the_judge_is_tried_on_known_positives(houses):
    folder, relevant = houses
    found = audit(DataSet(folder), judge_that_errs(relevant, misses=4), sample=50)
    assert found["sensitivity"]["judged"] == 50
    assert found["sensitivity"]["rate"] == pytest.approx(0.75, abs=0.15)
    assert found["qrels"] is None
    assert all(about["true"] is about["accuracy"] is about["corrected"] is None for about in found["kinds"].values())


def test_queries_that_nobody_judged_are_no_evidence(houses, tmp_path):
    folder, relevant = houses
    half = [(query, passage, 1) for query, passage in relevant if int(query[1:]) < 150]
    truth = Truth([write_qrels(tmp_path / "test.tsv", half)])
    bm25 = audit(DataSet(folder), qrels(truth), truth)["kinds"]["bm25"]
    assert bm25["true"] == {"known": 150, "relevant": 30, "rate": 0.2}
    assert 30 < bm25["unjudged"] < 70
    assert bm25["judged"] + bm25["unjudged"] == 100


def test_several_files_of_judgements_are_one_truth(tmp_path):
    (tmp_path / "qrels").mkdir()
    first = write_qrels(tmp_path / "qrels" / "test.tsv", [("q", "d0", 1)])
    write_qrels(tmp_path / "qrels" / "train.tsv", [("q", "d1", 2)])
    truth = Truth([*_files([tmp_path]), write_qrels(tmp_path / "test.tsv", [("q", "d3", 1)])])
    assert list(truth.sources) == ["test.tsv", "train.tsv", f"{tmp_path.name}/test.tsv"]
    assert _files([first]) == [first]
    judged = truth.of(pairs(("q", "d0"), ("q", "d1"), ("q", "d2"), ("q", "d3"), ("p", "d0"))).tolist()
    assert judged[:4] == [1.0, 1.0, 0.0, 1.0]
    assert np.isnan(judged[4])


def test_a_sample_of_everything_says_so(tmp_path):
    folder, relevant = numbered(tmp_path / "few", count=20)
    truth = Truth([write_qrels(tmp_path / "test.tsv", [(*row, 1) for row in relevant])])
    bm25 = audit(DataSet(folder), qrels(truth))["kinds"]["bm25"]
    assert bm25["whole"]
    assert (bm25["rate"], bm25["judged"]) == (0.2, 20)


def test_the_result_is_in_the_manifest_beside_other_judges_and_the_table_is_printed(houses, tmp_path, capsys):
    folder, relevant = houses
    file = write_qrels(tmp_path / "test.tsv", [(*row, 1) for row in relevant])
    before = json.loads((folder / MANIFEST).read_text())
    result = main(folder, Options(qrels=(file,)))
    printed = capsys.readouterr().out
    sample = tmp_path / "sample.csv"
    main(folder, Options(export_to=sample))
    fill(sample, lambda row: "yes" if "owners" in row["passage"] else "no")
    person = main(folder, Options(import_from=sample, qrels=(file,)))
    stored = read_manifest(folder)
    assert stored["audit"] == {"false_negatives": {"person": person, "qrels": result}}
    assert {key: value for key, value in stored.items() if key != "audit"} == before
    assert not list(folder.glob("*.partial"))
    header, _, bm25, random = [line for line in printed.splitlines() if line.startswith("|")]
    assert header.startswith("| kind | pairs |")
    assert bm25.startswith("| `bm25` | 300 | 100 | 0 |")
    assert random.startswith("| `random` |")
    assert person["kinds"]["bm25"]["accuracy"]["rate"] == 1.0
    card = section("dataset_audit.md", **stored)
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in rows[:4]] == [rows[0].count("|")] * 4
    assert "**Judge: person**, sample.csv `sha256:" in card
    assert "| `bm25` | 300 | 100 | 0 |" in card
    assert "20.0 %" in card
    tables = [part.strip().splitlines() for part in card.split("\n\n") if part.strip().startswith("|")]
    assert [len(table) for table in tables] == [4, 4]  # none is torn apart by an empty line
    assert all(set(table[1]) <= set("|-:") for table in tables)


def test_the_card_has_corrections_and_what_is_not_known(houses, truth):
    folder, relevant = houses
    judge = judge_that_errs(relevant, misses=4, alarms=3)
    yardstick = judge._replace(own_positive_is_yardstick=True)
    found = {
        "a": audit(DataSet(folder), judge, truth, sample=50),
        "b": audit(DataSet(folder), yardstick, sample=500),
    }
    card = section("dataset_audit.md", audit={"false_negatives": found})
    assert "corrected for the judge's errors" in card
    assert "no query has a second known positive" in card
    assert "Every pair of `bm25` was judged" in card


def test_the_command_line(houses, tmp_path):
    folder, relevant = houses
    file = write_qrels(tmp_path / "test.tsv", [(*row, 1) for row in relevant])
    done, refused = (
        commands.module("builders.audit", folder, "--qrels", file, *more)
        for more in (("--sample", "50", "--seed", "3"), ("--export", "a.csv", "--import", "a.csv"))
    )
    assert done.returncode == 0, done.stderr
    assert "difference to `random`" in done.stdout
    assert read_manifest(folder)["audit"]["false_negatives"]["qrels"]["seed"] == 3
    assert refused.returncode == 2
    assert "argument --import: not allowed with argument --export" in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"no judge is named; wanted --judge cross-encoder, --judge llm, --qrels, --export or --import"),
        ({"judge": "llm"}, r"--recipe is missing; wanted --judge cross-encoder --model DIR, or --judge llm"),
        ({"judge": "cross-encoder"}, r"--model is missing; wanted"),
        ({"judge": "llm", "recipe": Path("r"), "model": "m"}, r"--model belongs to --judge cross-encoder; wanted"),
        ({"qrels": (Path("q.tsv"),), "sample": 0}, r"--sample 0: wanted 1 or more pairs"),
        ({"qrels": (Path("none.tsv"),)}, r"judgements none.tsv: no such file; name another"),
        ({"qrels": (ROOT / "builders",)}, r"--qrels .*builders: no \*.tsv in it; wanted files in BEIR's form"),
        ({"export_to": Path("a.txt")}, r"--export a.txt: wanted a name that ends in .csv"),
    ],
)
def test_options_that_contradict_each_other_are_refused(houses, options, message):
    with pytest.raises(UserError, match=message):
        main(houses[0], Options(**options))


def test_data_sets_that_cannot_be_audited_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"empty or not there; build it first: python -m builders\.build RECIPE"):
        DataSet(tmp_path / "none")
    folder = a_dataset(tmp_path / "bare", {"d": "text"}, {"q": "text"}, [("q", "d")], {})
    about = json.loads((folder / "manifest.json").read_text())
    del about["configs"]["fates"]  # as another tool may have written it
    (folder / "manifest.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="it has no configuration fates, which says what passages the negatives are"):
        DataSet(folder)
    folder = a_dataset(tmp_path / "empty", {"d": "text"}, {"q": "text"}, [("q", "d")], {"bm25": []})
    with pytest.raises(UserError, match="no candidate became a negative, so there is nothing to audit"):
        draw(DataSet(folder), 42)
