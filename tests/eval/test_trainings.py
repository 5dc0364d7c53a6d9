"""What arms share and differ in, from run records; and what records cannot say."""

import msgspec
import pytest

from eval.report.trainings import pairings, tokens_of_a_row
from foils.errors import UserError
from foils.records import RunRecord, read_record


def record(kind, *, negatives=1, steps=24, pairs="aa", sampler="batch_sampler", rows=None, **recipe):
    columns = ["query", "positive", *(f"negative_{n + 1}" for n in range(negatives))]
    plan = {"prompts": dict.fromkeys(columns, ""), "sampler": sampler, "max_seq_length": 128}
    lengths = [{"column": name, "mean": 100.5} for name in columns]
    preflight = {"plan": plan, "batches": {"rows": 383}, "tokens": {"rows": lengths}}
    training = {"pairs": pairs, "steps": steps, "batch_size": 16, "preflight": preflight}
    dataset = {"name": "data", "revision": "sha256:d", "kind": kind}
    values = {"dataset": dataset, "base": {"name": "mini", "revision": "sha256:b"}, "training": training}
    values["inputs"] = {"recipe": {"kind": kind, "seed": 1, **recipe}, "rows": rows or [kind]}
    return msgspec.convert(values, RunRecord)


def pair(one, other, first=None, second=None):
    (found,) = pairings({"a": [one], "b": [other]}, {"a": first or {"kind": "bm25"}, "b": second or {"kind": "llm"}})
    return found


def test_all_alike():
    records = {"none": record("none", negatives=0), "bm25": record("bm25"), "llm": record("llm")}
    found = pairings({kind: [each] for kind, each in records.items()}, {kind: {"kind": kind} for kind in records})
    assert [(each.first, each.second) for each in found] == [("bm25", "none"), ("llm", "none"), ("llm", "bm25")]
    assert [each.differ for each in found] == [["kind"]] * 3
    assert not [each for each in found if each.unnamed]
    assert found[0].unknown == ["negatives of a row"]  # which one arm has none of
    assert "negatives of a row" in found[2].equal
    assert tokens_of_a_row({kind: [each] for kind, each in records.items()}) == {"none": 201, "bm25": 302, "llm": 302}


def test_what_differs_is_named():
    found = pair(record("bm25", steps=24), record("llm", steps=25, pairs="bb", negatives=2))
    assert found.differ == ["kind", "queries and positives", "negatives of a row", "steps"]
    assert found.unnamed == ["queries and positives", "negatives of a row", "steps"]


def test_what_the_recipe_names_is_controlled():
    loss = pair(record("bm25"), record("bm25", loss="gist"), {"kind": "bm25"}, {"kind": "bm25", "loss": "gist"})
    assert (loss.differ, loss.unnamed) == (["loss"], [])
    steps = record("bm25", trainer={"max_steps": 5}, steps=5)
    named = {"kind": "bm25", "trainer": {"max_steps": 5}}
    assert pair(record("bm25"), steps, {"kind": "bm25"}, named).unnamed == []
    rows = pair(record("bm25"), record("bm25", rows=["x"]), {"kind": "bm25"}, {"kind": "bm25", "dataset": "other"})
    assert (rows.differ, rows.unnamed) == (["negatives"], [])
    longer = pair(
        record("bm25"), record("bm25", pairs="bb", steps=30), {"kind": "bm25"}, {"kind": "bm25", "dataset": "x"}
    )
    assert (longer.differ, longer.unnamed) == (["queries and positives", "steps"], ["steps"])


def test_what_the_records_cannot_tell():
    found = pair(record("bm25", pairs=None), record("llm", sampler="no_duplicates"))
    assert found.unknown == ["queries and positives", "order of rows"]
    by_length = [record(kind, sampler="LengthBatches") for kind in ("bm25", "llm")]  # negatives have lengths, too
    assert "order of rows" in pair(*by_length).unknown
    (elsewhere,) = pairings({"a": [record("bm25")], "mine": []}, {"a": {"kind": "bm25"}, "mine": {"model": "x"}})
    assert elsewhere.differ == elsewhere.unnamed == ["training (elsewhere, not known)"]


@pytest.mark.parametrize("content", ['{"training": 3}', "{", "[]", "\udc80"])
def test_a_broken_record_is_named(tmp_path, content):
    file = tmp_path / "run.json"
    assert read_record(file, RunRecord, "run again") is None
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"run\.json: not a RunRecord as this version writes it \(.*\); run again"):
        read_record(file, RunRecord, "run again")
