"""What a data set's audits and rows tell of its kinds."""

import pyarrow as pa

from builders.folder import write_config
from eval.account import Account
from eval.why import Why, examples, reasons

JUDGED = {"rate": 0.1, "low": 0.02, "high": 0.72}
AUDIT = {
    "false_negatives": {
        "cross-encoder": {
            "kinds": {"bm25": {**JUDGED, "corrected": None}, "llm": {"rate": 0.5, "low": 0.4, "high": 0.6}}
        },
        "qrels": {"kinds": {"bm25": {"rate": 0.05, "low": 0.0, "high": 0.2, "true": {"rate": 0.042}}}},
    },
    "realism": {
        "generated": {"llm": {"without_titles": {"words": {"auc": 0.97}}}},
        "hardness": {"scorer": "dense", "kinds": {"bm25": {"harder": 0.25}}},
    },
}


def test_the_true_rate_before_a_judges():
    bm25, llm, none = reasons(Account({"audit": AUDIT}, None, None), ["bm25", "llm", "none"])
    assert bm25 == Why("bm25", "4.2 % (true)", None, 0.25, "dense")
    assert llm == Why("llm", "50.0 % (40.0 to 60.0), by cross-encoder", 0.97, None, "dense")
    assert (none.false_negatives, none.told_apart, none.harder) == (None, None, None)


def test_no_audit_no_reasons():
    assert reasons(None, ["bm25"]) == []
    assert reasons(Account({"usage": {}}, None, None), ["bm25"]) == []


def test_rows_to_look_at(tmp_path):
    rows = {"query": ["q1", "q2", "q3"], "positive": ["word " * 100] * 3, "negative_1": ["n1", "n2", "n3"]}
    write_config(tmp_path, "bm25", pa.table(rows))
    shown = examples(Account({}, None, tmp_path), ["bm25", "llm+bm25"])
    assert list(shown) == ["bm25"]
    assert [row.query for row in shown["bm25"]] == ["q1", "q2"]
    assert shown["bm25"][0].positive.endswith("word ...")
    assert shown["bm25"][1].negatives == ["n2"]
    assert examples(None, ["bm25"]) == {}
