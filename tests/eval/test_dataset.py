"""What a data set's build says of its kinds: costs, and rows to look at."""

import json

import msgspec
import pyarrow as pa
import pytest

from builders.dataset.folder import write_config
from eval.report.dataset import Account, cost, examples, of_a_query, read_account
from eval.report.wording import COST_COLUMNS, cost_cells
from eval.statistics.tables import Measured, tables
from foils.errors import UserError
from foils.manifest import Manifest
from foils.metrics import REPORTED
from foils.records import RunRecord
from foils.verdicts import BASE

USAGE = {"calls": 433, "prompt_tokens": 132364, "completion_tokens": 25024}
SETTINGS = {
    "negatives": {"variants": {"bm25-limited": "bm25"}},
    "selection": {"relative_margin": {}, "kinds": {"bm25-limited": {"relative_margin": {"cross-encoder": 0.05}}}},
}
SECONDS = {"llm negatives": 578.6, "bm25 negatives": 0.7, "scores by cross-encoder": 103.2, "selection": 9.0}


def manifest(money=None, prices=None):
    usage = {"llm": USAGE | ({} if money is None else {"money": money})}
    return {"usage": usage, "settings": SETTINGS, "prices": prices}


def account(values, seconds=None, folder=None):
    return Account(msgspec.convert(values, Manifest), seconds, folder)


def spent(arms, found):
    def training(kind, seed):
        dataset = {"name": "d", "revision": "sha256:1", "rows": 500, "kind": kind}
        about = {"seconds": 20.0 * seed, "peak_memory": {"mib": 900 + seed}}
        return msgspec.convert({"dataset": dataset, "base": {"name": "b", "revision": "sha256:2"}, **about}, RunRecord)

    return {arm: cost(arm, found, [training(arm, seed) for seed in (1, 2)]) for arm in arms}


def test_each_kind_pays_for_its_own():
    found = spent(["none", "bm25", "bm25-limited", "llm", "llm+bm25", "llm:0.7,bm25:0.3"], account(manifest(), SECONDS))
    assert {arm: cost.build_seconds for arm, cost in found.items()} == pytest.approx(
        {"none": 0, "bm25": 0.7, "bm25-limited": 103.9, "llm": 578.6, "llm+bm25": 579.3, "llm:0.7,bm25:0.3": 579.3}
    )
    assert [arm for arm, cost in found.items() if not cost.reads_corpus] == ["none", "llm"]
    assert (found["llm"].llm_calls, found["llm"].llm_tokens, found["bm25"].llm_calls) == (433, 157388, 0)
    assert (found["bm25"].training_seconds, found["bm25"].peak_memory_mib) == (30.0, 902)
    assert found["llm"].money is None
    assert found["llm"].per_thousand_rows(found["llm"].llm_calls) == 866


def test_a_trained_cross_encoder_and_answers_that_were_there_count_in_full():
    seconds = {"cross-encoder training": 500.0, "cross-encoder negatives": 290.0, "llm negatives": 1.5}
    about = manifest()
    about["usage"]["llm"] = about["usage"]["llm"] | {"busy_seconds": 1477.0}
    found = spent(["cross-encoder", "llm", "llm+cross-encoder"], account(about, seconds))
    assert {arm: cost.build_seconds for arm, cost in found.items()} == {
        "cross-encoder": 790.0, "llm": 1477.0, "llm+cross-encoder": 2267.0,
    }  # fmt: skip


def test_money_where_there_are_prices():
    found = spent(["bm25", "llm"], account(manifest(0.08, {"currency": "USD"}), SECONDS))
    assert (found["llm"].money, found["llm"].currency, found["bm25"].money) == (0.08, "USD", 0)


def test_how_well_written_negatives_are_recognised():
    about = manifest() | {"mining": {"llm": {"words": [80, 160], "separability": {"auc": 0.97}}, "bm25": {"depth": 5}}}
    found = spent(["bm25", "llm", "llm+bm25"], account(about, SECONDS))
    assert {arm: cost.separability for arm, cost in found.items()} == {"bm25": None, "llm": 0.97, "llm+bm25": 0.97}


def test_without_an_account_nothing_is_guessed(tmp_path):
    assert read_account(str(tmp_path), None) == Account()
    found = spent(["none", "llm"], Account())
    assert (found["llm"].build_seconds, found["none"].build_seconds) == (None, 0)


def test_the_account_of_a_folder(tmp_path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest()))
    assert read_account(str(folder), None).seconds is None
    (tmp_path / "dataset-costs.json").write_text(json.dumps({"seconds": SECONDS, "peak_memory_mb": 700}))
    assert read_account(str(folder), None).seconds == SECONDS
    (folder / "manifest.json").write_text('{"usage": 3}')
    with pytest.raises(UserError, match=r"manifest\.json: not a Manifest .*; build the data set again"):
        read_account(str(folder), None)


def test_cells_of_a_table():
    def scores(value):
        return {f"q{n}": dict.fromkeys(REPORTED, value + n / 100) for n in range(3)}

    runs = {BASE: {0: scores(0.5)}, "bm25": {1: scores(0.4), 2: scores(0.4)}, "llm": {1: scores(0.52), 2: scores(0.52)}}
    (table,) = tables([Measured("t", "r", runs)], 0.01, resamples=99)
    found = spent(["bm25", "llm"], account(manifest(0.08, {"currency": "USD"}), SECONDS))
    bm25, llm = (dict(zip(COST_COLUMNS, cost_cells(found[arm], table), strict=True)) for arm in ("bm25", "llm"))
    assert (llm["LLM calls"], llm["money"], llm["per point"]) == ("866", "0.16 USD", "0.08 USD")
    assert (bm25["per point"], bm25["peak memory"], bm25["build s"]) == ("\N{EN DASH}", "0.9 GiB", "1.4")


def test_rows_to_look_at(tmp_path):
    rows = {"query": ["q1", "q2", "q3"], "positive": ["word " * 100] * 3, "negative_1": ["n1", "n2", "n3"]}
    write_config(tmp_path, "bm25", pa.table(rows))
    about = account({}, folder=tmp_path)
    shown = examples(about, "bm25")
    assert [row.query for row in shown] == ["q1", "q2"]
    assert shown[0].positive.endswith("word…")
    assert shown[1].negatives == ["n2"]
    assert examples(about, "llm+bm25") == examples(Account(), "bm25") == []


def test_a_query_of_the_exam_took_the_time_of_its_answers_wherever_they_came_from():
    asked = USAGE | {"busy_seconds": 600.0, "money": 1.5}
    numbers = dict.fromkeys(("groups", "passages", "seed", "overlap", "without_overlap", "first_bm25", "words"), 1)
    exam = {"queries": 300, "source": "llm", "llm": "m", "prompts": {}, "as_negatives": False, "drops": {}} | numbers
    values = {"usage": {"exam": asked}, "exam": exam, "prices": {"currency": "EUR"}}
    found = of_a_query(account(values, {"exam": 0.3}))
    assert found == {"query_seconds": 2.0, "query_money": 0.005, "currency": "EUR"}
    assert of_a_query(account(values | {"exam": exam | {"source": "asked", "llm": None}})) == {}


@pytest.mark.parametrize(
    ("writer", "model", "source", "told"),
    [("m@1", "m", None, True), ("n@1", "m", None, False), ("m", "m", "labels", False), ("m", None, None, False)],
)
def test_an_exam_by_the_llm_of_the_training_queries(writer, model, source, told):
    numbers = dict.fromkeys(("queries", "groups", "passages", "seed", "overlap", "without_overlap", "words"), 1)
    exam = {"source": "llm", "llm": writer, "prompts": {}, "as_negatives": True, "drops": {}, "first_bm25": 1} | numbers
    corpus = {"source": "c", "revision": "r", "sha256": "s"}
    inputs = {"corpus": corpus, "prompts": {}, "llm": {"model": model, "revision": None}}
    values = {"exam": exam, "inputs": inputs, "settings": {"queries": {"source": source}}}
    assert account(values).manifest.one_llm_wrote_all is told
