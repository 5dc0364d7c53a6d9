"""Rows that ask the LLM: order, window, second tries, refusals and budget, against a real HTTP server."""

import json
import random
import threading
import time
from itertools import count

import pytest

from builders.llm.client import Llm
from builders.llm.config import LlmConfig, PricesConfig
from builders.llm.ledger import Ledger, Spans
from builders.llm.messages import REFUSED, ChatRequest, Endpoint, body_of
from builders.llm.store import CallStore, keyed
from foils.errors import UserError
from tests.chat_server import completion, last_user_message


class Row:
    """Asks for a text until it starts with "good"."""

    def __init__(self, number):
        self.number = number
        self.text = None
        self.reasons = []

    def request(self, attempt):
        return ChatRequest(({"role": "user", "content": f"row {self.number} try {attempt}"},), 16, 0.5, attempt)

    def take(self, answer):
        if answer.text.startswith("good"):
            self.text = answer.text
            return None
        self.reasons.append(answer.text)
        return "bad"

    def refused(self, detail):
        self.reasons.append(f"{REFUSED}: {detail}")


@pytest.fixture
def run(chat_server, tmp_path):
    """Has rows answered and returns them as they came out; keeps the ledger."""

    def rows(some, attempts=3, total=None, **settings):
        config = LlmConfig(base_url=chat_server.url, model="scripted", **{"timeout_s": 10.0, **settings})
        some = [Row(number) for number in range(some)] if isinstance(some, int) else some
        out = []
        run.ledger = Ledger(config.prices, config.budget)
        with CallStore(tmp_path / "calls.sqlite") as store:
            llm = Llm(config, store, lambda: Endpoint(chat_server.url, "scripted"), run.ledger)
            llm.run("rows", some, total=total or len(some), attempts=attempts, done=out.append)
        return out

    run = rows
    return run


def account(run):
    return run.ledger.summary()["rows"]


def test_rows_leave_in_their_order_whatever_the_answers_do(run, chat_server):
    dice = random.Random(1)

    def script(body, _):
        time.sleep(dice.random() / 50)
        number, attempt = last_user_message(body).split()[1::2]
        return "good" if int(number) % 3 or attempt == "1" else "hm"

    chat_server.script = script
    out = run(100, concurrency=8)
    assert [row.number for row in out] == list(range(100))
    assert all(row.text == "good" for row in out)
    assert [len(row.reasons) for row in out] == [int(number % 3 == 0) for number in range(100)]
    assert len(chat_server.bodies) == 134
    assert account(run)["calls"] == 134
    assert account(run)["accepted"] == 100


def test_a_row_that_is_never_good_is_asked_a_bounded_number_of_times(run, chat_server):
    chat_server.script = lambda body, _: "bad" if "row 3 " in last_user_message(body) else "good"
    out = run(6, attempts=4)
    assert out[3].reasons == ["bad"] * 4
    assert len(chat_server.bodies) == 5 + 4


def test_what_is_stored_is_not_asked_again_and_tells_the_same(run, chat_server):
    chat_server.script = lambda _, number: "good" if number % 2 else "bad"
    first = [(row.number, row.text, row.reasons) for row in run(50)]
    asked, told = len(chat_server.bodies), account(run)
    chat_server.script = lambda *_: pytest.fail("asked again")
    assert [(row.number, row.text, row.reasons) for row in run(50)] == first
    assert len(chat_server.bodies) == asked
    assert account(run) == told
    assert run.ledger.new_calls == 0


def test_a_request_that_hangs_stalls_no_other_row(run, chat_server, tmp_path):
    rows = [Row(number) for number in range(3000)]
    config, answer = LlmConfig(model="scripted"), {"text": "good", "finish_reason": "stop", "seconds": 0.1}
    answer |= {"prompt_tokens": 7, "completion_tokens": 3}
    known = [(*keyed(body_of(row.request(0), config)), answer) for row in rows[1:2900]]
    with CallStore(tmp_path / "calls.sqlite") as store:
        store.put_many(known)  # so that this takes a moment
    seen = []

    def script(body, _):
        if last_user_message(body).startswith("row 0 "):
            until = time.monotonic() + 8
            while len(chat_server.bodies) < 101 and time.monotonic() < until:
                time.sleep(0.01)
            seen.append(len(chat_server.bodies))
        return "good"

    chat_server.script = script
    out = run(rows, concurrency=4)
    assert [row.number for row in out] == list(range(3000))
    assert seen == [101]  # all others were asked while it hung


def test_a_bounded_number_of_rows_is_open(run, chat_server):
    taken, answered, most = [0], [0], [0]

    def rows():
        for number in range(200):
            taken[0] += 1
            most[0] = max(most[0], taken[0] - answered[0])
            yield Row(number)

    def script(*_):
        answered[0] += 1
        return "good"

    chat_server.script = script
    assert len(run(rows(), total=200, concurrency=4)) == 200
    assert most[0] <= 2 * 4


def test_a_request_that_the_endpoint_objects_to_costs_its_row_and_no_other(run, chat_server, caplog):
    objection = (400, {}, json.dumps({"error": {"message": "This prompt violates our content rules."}}))
    chat_server.script = lambda body, _: objection if "row 7 " in last_user_message(body) else "good"
    out = run(30)
    assert [row.number for row in out if row.text is None] == [7]
    assert out[7].reasons == [f"{REFUSED}: answered 400 (bad request)"]  # the server's own words may differ each time
    assert "This prompt violates our content rules." in caplog.text


def test_refused_rows_stay_refused_and_stop_no_later_run(run, chat_server):
    def script(body, number):
        words = f"content filter, request {number}"
        return (400, {}, json.dumps({"error": words})) if "7 " in last_user_message(body) else "good"

    chat_server.script = script
    first = [(row.number, row.text, row.reasons) for row in run(130)]
    assert sum(text is None for _, text, _ in first) == 13  # more than may be refused before the first answer
    asked = len(chat_server.bodies)
    assert [(row.number, row.text, row.reasons) for row in run(130)] == first
    assert len(chat_server.bodies) == asked + 13


def test_a_key_that_the_server_repeats_is_struck_out(run, chat_server, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("MY_LLM_AUTH", "swordfish")
    chat_server.script = lambda *_: (400, {}, json.dumps({"error": {"message": "no rights for swordfish"}}))
    with pytest.raises(UserError, match=r"no rights for \*\*\*") as caught:
        run(9, api_key_env="MY_LLM_AUTH")
    assert "swordfish" not in str(caught.value) + caplog.text
    assert not [file for file in tmp_path.iterdir() if b"swordfish" in file.read_bytes()]


def test_a_failure_in_taking_rows_in_ends_the_run(run, chat_server):
    def rows():
        for number in range(300):
            if number == 200:
                raise UserError("the corpus breaks off")
            yield Row(number)

    chat_server.script = lambda *_: time.sleep(0.01) or "good"
    with pytest.raises(UserError, match="the corpus breaks off"):
        run(rows(), total=300, concurrency=4)


def test_an_endpoint_that_objects_to_every_request_stops_the_run_soon(run, chat_server):
    chat_server.script = lambda *_: (422, {}, json.dumps({"detail": "max_tokens: extra fields not permitted"}))
    with pytest.raises(UserError, match=r"answered 422 .*extra fields not permitted.*check llm.base_url"):
        run(200, concurrency=2)
    assert len(chat_server.bodies) < 10


def test_another_model_is_not_taken_for_the_one_that_was_asked(run, chat_server, tmp_path):
    chat_server.script = lambda *_: (200, {}, json.dumps({**completion("good"), "model": "other/Small-1B"}))
    with pytest.raises(UserError, match=r"asked for model scripted, and other/Small-1B answered; .*llm.answers_as"):
        run(20, concurrency=1)
    with CallStore(tmp_path / "calls.sqlite") as store:
        assert len(store) == 0
    assert len(run(20, answers_as="small-1b")) == 20


def test_failed_tries_are_kept_with_their_reason(run, chat_server, tmp_path):
    chat_server.script = lambda _, number: (500, {}, "{}") if number == 0 else "good"
    run(1)
    assert account(run)["failed_tries"] == 1
    with CallStore(tmp_path / "calls.sqlite") as store:
        (call,) = store
        assert store.failures(call.key) == ["answered 500 (error)"]


def test_a_wall_clock_that_jumps_harms_nothing(run, chat_server, monkeypatch):
    real, jumps = time.time, count()
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(jumps) * 86_400.0)
    chat_server.script = lambda _, number: (429, {"Retry-After": "0"}, "{}") if number == 3 else "good"
    started = time.monotonic()
    assert all(row.text == "good" for row in run(60))
    assert time.monotonic() - started < 20
    assert account(run)["busy_seconds"] <= account(run)["call_seconds"] < 60


PRICES = PricesConfig(input=1000.0, output=10_000.0)  # 7 tokens in and 3 out: 0.037 a call


def test_a_budget_is_never_passed_and_nothing_is_lost(run, chat_server):
    chat_server.script = lambda *_: time.sleep(0.01) or "good"
    with pytest.raises(UserError, match=r"llm.budget 1 USD: 0\.\d+ is spent .* more for the \d+ rows left.*raise llm"):
        run(200, concurrency=8, prices=PRICES, budget=1.0)
    spent = run.ledger.money
    assert 0.7 < spent <= 1.0
    asked = len(chat_server.bodies)
    assert asked == pytest.approx(spent / 0.037)
    with pytest.raises(UserError, match=r"llm.budget 2 USD"):  # what is stored counts, and is not paid again
        run(200, concurrency=8, prices=PRICES, budget=2.0)
    assert run.ledger.money <= 2.0
    assert len(chat_server.bodies) == pytest.approx(run.ledger.money / 0.037)
    assert len(run(200, prices=PRICES, budget=100.0)) == 200
    assert len(chat_server.bodies) == 200


def test_a_budget_too_small_for_one_call_pays_nothing(run, chat_server):
    with pytest.raises(UserError, match=r"llm.budget 0.01 USD: 0.0000 is spent"):
        run(5, prices=PRICES, budget=0.01)
    assert not chat_server.bodies


def test_tokens_that_nobody_counted_are_guessed_and_marked(run, chat_server):
    answer = {**completion("good " * 8), "usage": None}
    chat_server.script = lambda *_: (200, {}, json.dumps(answer))
    run(1)
    told = account(run)
    assert told["uncounted_calls"] == 1
    assert (told["prompt_tokens"], told["completion_tokens"]) == (3, 10)  # 11 and 40 bytes


def test_time_in_flight_is_no_sum_over_calls(run, chat_server):
    meeting = threading.Barrier(8, timeout=20)
    chat_server.script = lambda *_: (meeting.wait(), time.sleep(0.2)) and "good"
    run(8, concurrency=8)
    told = account(run)
    assert told["call_seconds"] >= 8 * 0.2
    assert 0.2 <= told["busy_seconds"] < told["call_seconds"] / 2


def test_spans_join_in_any_order():
    dice = random.Random(3)
    spans = [(start, start + dice.randrange(1, 9)) for start in (dice.randrange(200) for _ in range(60))]
    joined = Spans()
    for span in spans:
        joined.add(*span)
    assert joined.seconds == len({second for start, end in spans for second in range(start, end)})


def test_money_is_known_at_once_however_many_calls_there_were():
    spans, started = Spans(), time.perf_counter()
    for number in range(50_000):
        spans.add(2.0 * number, 2.0 * number + 1)
        assert spans.seconds == number + 1
    assert time.perf_counter() - started < 5  # minutes, where the spans were added up each time


def test_a_call_that_rows_share_is_paid_once(run, chat_server):
    def shared():
        rows = [Row(0), Row(0), Row(0), Row(1)]
        out = run(rows, attempts=1, prices=PricesConfig(input=1_000_000 / 7), budget=2.5)
        assert [row.text for row in out] == ["good"] * 4

    chat_server.script = lambda *_: (time.sleep(0.05), "good")[1]  # the rows are asked for before it comes
    shared()
    first = account(run)
    assert (len(chat_server.bodies), run.ledger.new_calls) == (2, 2)
    assert (first["calls"], first["money"], first["accepted"]) == (2, 2.0, 4)
    shared()  # from the store
    assert run.ledger.new_calls == 0
    assert account(run) == first
