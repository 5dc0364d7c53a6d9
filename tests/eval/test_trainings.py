"""What arms share, from run records; and what records cannot say."""

import msgspec
import pytest

from eval.report.trainings import guarantees, tokens_of_a_row
from foils.errors import UserError
from foils.records import RunRecord, read_record


def record(kind, *, negatives=1, steps=24, pairs="aa", sampler="batch_sampler", mean=100.5, **more):
    columns = ["query", "positive", *(f"negative_{n + 1}" for n in range(negatives))]
    plan = {"prompts": dict.fromkeys(columns, ""), "sampler": sampler, "max_seq_length": 128}
    lengths = [{"column": name, "mean": mean} for name in columns]
    preflight = {"plan": plan, "batches": {"rows": 383}, "tokens": {"rows": lengths}}
    training = {"pairs": pairs, "steps": steps, "batch_size": 16, "preflight": preflight, **more}
    dataset = {"name": "data", "revision": "sha256:d", "kind": kind}
    values = {"dataset": dataset, "base": {"name": "mini", "revision": "sha256:b"}, "training": training}
    return msgspec.convert(values, RunRecord)


def held(records):
    return {each.what: each.held for each in guarantees(records)}


def test_all_alike():
    records = {"none-seed1": record("none", negatives=0), "bm25-seed1": record("bm25"), "llm-seed1": record("llm")}
    assert set(held(records).values()) == {True}
    by_arm = {name.partition("-")[0]: [each] for name, each in records.items()}
    assert tokens_of_a_row(by_arm) == {"none": 201, "bm25": 302, "llm": 302}


def test_what_differs_is_named():
    records = {"bm25-seed1": record("bm25", steps=24), "llm-seed1": record("llm", steps=25, pairs="bb", negatives=2)}
    assert [what for what, same in held(records).items() if same is False] == [
        "queries and positives, row by row",
        "negatives of a row",
        "steps",
    ]
    (steps,) = (each for each in guarantees(records) if each.what == "steps")
    assert steps.told == "24: bm25-seed1; 25: llm-seed1"


def test_what_the_records_cannot_tell():
    records = {"a": record("bm25", pairs=None), "b": record("llm", sampler="no_duplicates")}
    found = held(records)
    assert found["queries and positives, row by row"] is None
    assert found["order of rows, by seed"] is None
    by_length = {kind: record(kind, sampler="LengthBatches") for kind in ("bm25", "llm")}  # negatives have lengths, too
    assert held(by_length)["order of rows, by seed"] is None


@pytest.mark.parametrize("content", ['{"training": 3}', "{", "[]", "\udc80"])
def test_a_broken_record_is_named(tmp_path, content):
    file = tmp_path / "run.json"
    assert read_record(file, RunRecord, "run again") is None
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"run\.json: not a RunRecord as this version writes it \(.*\); run again"):
        read_record(file, RunRecord, "run again")
