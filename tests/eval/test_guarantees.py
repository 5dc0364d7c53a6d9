"""What arms share: seen where they do, and named where they do not."""

import json

import pytest

from eval.guarantees import lines, read_record, shared_by
from foils.errors import UserError


def record(kind, *, negatives=1, steps=24, pairs="aa", sampler="batch_sampler", mean=100.5):
    columns = ["query", "positive", *(f"negative_{n + 1}" for n in range(negatives))]
    plan = {"prompts": dict.fromkeys(columns, ""), "sampler": sampler, "max_seq_length": 128}
    lengths = [{"column": name, "mean": mean} for name in columns]
    preflight = {"plan": plan, "batches": {"rows": 383}, "tokens": {"rows": lengths}}
    training = {"pairs": pairs, "steps": steps, "batch_size": 16, "preflight": preflight}
    return {"dataset": {"kind": kind}, "base": {"revision": "sha256:b"}, "training": training}


def held(records):
    return {each.what: each.held for each in shared_by(records).guarantees}


def test_all_alike():
    records = {"none-seed1": record("none", negatives=0), "bm25-seed1": record("bm25"), "llm-seed1": record("llm")}
    assert set(held(records).values()) == {True}
    assert shared_by(records).tokens == {"none": 201, "bm25": 302, "llm": 302}
    assert lines(shared_by(records))[-1].endswith("none 201, bm25 302, llm 302")


def test_what_differs_is_named():
    records = {"bm25-seed1": record("bm25", steps=24), "llm-seed1": record("llm", steps=25, pairs="bb", negatives=2)}
    found = held(records)
    assert [what for what, same in found.items() if same is False] == [
        "queries and positives, row by row",
        "negatives of a row",
        "steps",
    ]
    (steps,) = (each for each in shared_by(records).guarantees if each.what == "steps")
    assert steps.told == "24: bm25-seed1; 25: llm-seed1"
    assert "steps: DIFFERS (24: bm25-seed1; 25: llm-seed1)" in lines(shared_by(records))


def test_what_the_records_cannot_tell():
    records = {"a": record("bm25", pairs=None), "b": record("llm", sampler="no_duplicates")}
    found = held(records)
    assert found["queries and positives, row by row"] is None
    assert found["order of rows, by seed"] is None
    by_length = {kind: record(kind, sampler="LengthBatches") for kind in ("bm25", "llm")}  # negatives have lengths, too
    assert held(by_length)["order of rows, by seed"] is None


def test_a_broken_record_is_named(tmp_path):
    with pytest.raises(UserError, match=r"run\.json: not a run record.*run again"):
        read_record(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"training": 3}))
    with pytest.raises(UserError, match="not a run record"):
        read_record(tmp_path)
