"""Rows that ask the LLM: order, window, second tries, refusals and budget, against a real HTTP server."""

import json
import random
import re
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
from tests.chat_server import ChatServer, completion, last_user_message, reset_mid_body


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

    def rows(some, attempts=3, total=None, rejected_file=None, done=None, **settings):
        """`attempts` are a row's, `attempts_of_requests` the key `llm.attempts`."""
        tries = {"attempts": settings.pop("attempts_of_requests", 5)}
        defaults = {"base_url": chat_server.url, "timeout_s": 10.0, **tries}
        config = LlmConfig(**{"model": "scripted"} | defaults | settings)
        some = [Row(number) for number in range(some)] if isinstance(some, int) else some
        out = []
        run.ledger = Ledger(config.prices, config.budget)
        with CallStore(tmp_path / "calls.sqlite") as store:
            llm = Llm(config, store, lambda: Endpoint(config.base_url, "scripted"), run.ledger)
            llm.rejected_file = rejected_file
            take = lambda row: out.append(row) or (done and done(row))  # noqa: E731
            llm.run("rows", some, total=total or len(some), attempts=attempts, done=take)
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


def test_what_another_build_stored_first_is_used(run, chat_server, tmp_path):
    """Two builds share a store and ask the same: the data sets of both come from the answer that is kept."""
    config, answer = LlmConfig(model="scripted"), {"text": "good of another", "finish_reason": "stop", "seconds": 0.1}
    answer |= {"prompt_tokens": 7, "completion_tokens": 3}

    def script(body, _):
        if last_user_message(body).startswith("row 3 "):
            with CallStore(tmp_path / "calls.sqlite") as store:
                store.put_many([(*keyed(body_of(Row(3).request(0), config)), answer)])
        return "good"

    chat_server.script = script
    texts = [row.text for row in run(6)]
    assert texts == ["good", "good", "good", "good of another", "good", "good"]
    assert len(chat_server.bodies) == 6


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


def error(status, body):
    return status, {}, body if isinstance(body, str) else json.dumps(body)


NO_CHAT = "answered with something other than a chat completion"
NOT_THIS_TIME = [
    (error(500, {"error": {"message": "list index out of range"}}), "answered 500 (Internal Server Error): list index"),
    (error(502, "<html><title>Bad gateway</title></html>"), "answered 502 (Bad Gateway): Bad gateway"),
    (error(503, "overloaded"), "answered 503 (Service Unavailable): overloaded"),
    (error(504, ""), "answered 504 (Gateway Timeout)"),
    (error(529, {"type": "error", "error": {"message": "Overloaded"}}), "answered 529 (error): Overloaded"),
    (error(200, {"error": {"message": "Upstream error", "code": 502}}), "answered 502 (Bad Gateway): Upstream error"),
    (error(200, json.dumps(completion("half"))[:-20]), NO_CHAT),
    (error(200, completion(7)), NO_CHAT),
    (error(200, "[]"), NO_CHAT),
    (error(200, "<html>welcome"), f"{NO_CHAT}: welcome"),
    (error(200, {"choices": [], "model": "m"}), f'{NO_CHAT}: {{"choices": []'),
    (error(200, {"choices": [{"finish_reason": "content_filter", "message": None}]}), f"{NO_CHAT}: content_filter"),
    (
        error(200, {"choices": [{"message": {}, "error": {"code": 502, "message": "Away"}}]}),
        "answered 502 (Bad Gateway)",
    ),
    (reset_mid_body, "broke the connection off"),
]
NEVER = [
    (error(400, {"error": {"message": "against our rules"}}), "answered 400 (Bad Request): against our rules"),
    (error(400, [{"error": {"code": 400, "message": "unsafe"}}]), "answered 400 (Bad Request): unsafe"),
    (error(403, {"error": "flagged: violence"}), "answered 403 (Forbidden): flagged: violence"),
    (error(413, "too large"), "answered 413 (Request Entity Too Large): too large"),
    (error(429, "Request too large: Limit 30, Requested 35"), "answered 429 (Too Many Requests): Request too large"),
    (error(422, {"detail": [{"loc": ["body", "n"], "msg": "no"}]}), "answered 422 (Unprocessable Entity): body.n: no"),
    (error(451, {"detail": "not here"}), "answered 451 (Unavailable For Legal Reasons): not here"),
    (error(200, {"error": {"message": "flagged", "code": 403}}), "answered 403 (Forbidden): flagged"),
]


@pytest.mark.parametrize(("fault", "words"), NOT_THIS_TIME + NEVER)
def test_a_rows_fault_costs_the_row_in_every_run(run, chat_server, caplog, fault, words):
    chat_server.script = lambda body, _: fault if "row 7 " in last_user_message(body) else "good"
    for requests in (30, 1):  # the second run asks again for the row alone
        chat_server.bodies.clear()
        out = run(30, attempts_of_requests=1, concurrency=1)
        assert [row.number for row in out if row.text is None] == [7]
        assert out[7].reasons[0].startswith(f"{REFUSED}: {words}")
        assert "a row goes without an answer: " + words in caplog.text
        assert len(chat_server.bodies) == requests


@pytest.mark.parametrize("fault", [fault for fault, _ in NOT_THIS_TIME])
def test_what_passes_costs_one_more_try_and_no_row(run, chat_server, fault):
    chat_server.script = lambda _, number: fault if number == 0 else "good"
    assert run(1, concurrency=1)[0].text == "good"
    assert len(chat_server.bodies) == 2


def test_a_passage_that_is_never_answered_in_time_costs_its_row(run, chat_server):
    chat_server.script = lambda body, _: ("row 7 " in last_user_message(body) and time.sleep(1)) or "good"
    out = run(20, timeout_s=0.3, attempts_of_requests=2)
    assert [row.reasons for row in out if row.text is None] == [[f"{REFUSED}: did not answer in time"]]


@pytest.mark.parametrize("status", [400, 500])
def test_rows_that_failed_once_stop_no_later_run_and_are_reported_in_the_same_words(run, chat_server, caplog, status):
    def script(body, number):
        failing = error(status, {"error": f"content filter, request {number}"})
        return failing if "7 " in last_user_message(body) else time.sleep(0.02) or "good"

    chat_server.script = script
    first = [(row.number, row.text, row.reasons) for row in run(130, concurrency=64, attempts_of_requests=1)]
    assert sum(text is None for _, text, _ in first) == 13  # refused before the first answer
    assert "13 rows go without an answer: answered" in caplog.text
    asked = len(chat_server.bodies)
    again = [(row.number, row.text, row.reasons) for row in run(130, concurrency=64, attempts_of_requests=1)]
    assert again == first
    assert len(chat_server.bodies) == asked + 13


@pytest.mark.parametrize("answered", [0, 4])
def test_an_endpoint_that_fails_most_rows_ends_the_run(run, chat_server, answered):
    chat_server.script = lambda _, number: "good" if number < answered else error(500, {"error": "out of memory"})
    words = rf"answered 500 \(.*\): out of memory \(\d+ rows failed, {answered} were answered\); check llm.base_url"
    with pytest.raises(UserError, match=words):
        run(60, concurrency=2, attempts_of_requests=1)
    assert len(chat_server.bodies) < 20


def test_an_endpoint_that_breaks_after_many_answers_ends_the_run(run, chat_server):
    chat_server.script = lambda _, number: "good" if number < 200 else error(500, "")
    with pytest.raises(UserError, match=r"answered 500 .* \(\d+ rows failed, 200 were answered\)"):
        run(400, concurrency=4, attempts_of_requests=1)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            error(402, {"error": {"message": "out of credits"}}),
            r"answered 402 \(Payment Required\): out of credits; pay or",
        ),
        (
            error(429, {"error": {"message": "wait", "code": "insufficient_quota"}}),
            r"answered 429 .*: wait; pay or raise the limit there, then",
        ),
        (error(429, "You exceeded your current quota, please check your plan."), r"answered 429 .*: You exceeded"),
        (
            error(400, {"error": {"message": "Your credit balance is too low."}}),
            r"answered 400 .*: Your credit balance",
        ),
        (error(200, {"error": {"message": "Insufficient credits", "code": 402}}), r"answered 402 .*: Insufficient"),
        (
            (308, {"Location": "https://me:pw@h/v2/x?key=1"}, ""),
            r"answered 308 .*: it sends requests on to https://h/v2/x;",
        ),
        (
            error(401, {"error": {"message": "Incorrect API key"}}),
            r"answered 401 \(key refused\): Incorrect API key; check",
        ),
    ],
)
def test_what_holds_for_all_requests_ends_the_run_at_once_in_the_endpoints_words(run, chat_server, fault, words):
    chat_server.script = lambda _, number: "good" if number < 3 else fault
    started = time.monotonic()
    with pytest.raises(UserError, match=words):
        run(30, concurrency=1)
    assert len(chat_server.bodies) <= 5
    assert time.monotonic() - started < 5


def test_a_quota_that_comes_back_is_waited_for(run, chat_server):
    gemini = "You exceeded your current quota. Please retry in 0.2s."
    chat_server.script = lambda _, number: error(429, gemini) if number < 2 else "good"
    assert len(run(3, concurrency=1)) == 3


@pytest.mark.parametrize("total", [12, 80])
def test_a_stage_without_any_usable_answer_ends_with_reasons_remedy_and_answers(run, chat_server, tmp_path, total):
    chat_server.script = lambda *_: (200, {}, json.dumps(completion("no use\nat all", "length")))
    with pytest.raises(UserError) as caught:
        run(total, attempts=2, rejected_file=tmp_path / "d-rejected.jsonl", concurrency=2)
    words = rf"rows: none of {min(total, 50)} rows has a usable answer: bad \d+ \(another llm\.model or .* may help\); "
    assert re.match(words, str(caught.value))
    assert f"the answers are in {tmp_path / 'd-rejected.jsonl'}" in str(caught.value)
    kept = [json.loads(line) for line in (tmp_path / "d-rejected.jsonl").read_text().splitlines()]
    assert {"row": "a row", "reason": "bad", "answer": "no use\nat all", "finish": "length"} in kept
    assert len(chat_server.bodies) <= 2 * min(total, 50 + 4)


def test_a_part_that_can_be_used_is_enough_to_go_on(run, chat_server):
    chat_server.script = lambda *_: "bad"
    assert len(run(60, done=lambda _: True)) == 60


def test_answers_of_another_server_are_reported(run, chat_server, caplog):
    chat_server.script = lambda *_: "good"
    run(4)
    assert not caplog.text
    with ChatServer() as other:
        run(5, base_url=other.url)
    words = f"rows: 4 answers in the store came from {chat_server.url}, not from {other.url}; name another --store"
    assert words in caplog.text


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


def test_another_model_is_not_taken_for_the_one_that_was_asked(run, chat_server, tmp_path):
    chat_server.script = lambda *_: (200, {}, json.dumps({**completion("good"), "model": "other/Small-1B"}))
    with pytest.raises(UserError, match=r"asked for model scripted, and other/Small-1B answered; .*llm.answers_as"):
        run(20, concurrency=1)
    with CallStore(tmp_path / "calls.sqlite") as store:
        assert len(store) == 0
    assert len(run(20, answers_as="small-1b")) == 20
    chat_server.bodies.clear()
    fallback = (200, {}, json.dumps({**completion("good"), "model": "fallback-1b"}))
    chat_server.script = lambda body, _: fallback if "row 7 " in last_user_message(body) else "good"
    assert [row.number for row in run(20, model="scripted", revision="2", concurrency=1) if row.text is None] == [7]


def test_failed_tries_are_kept_with_their_reason(run, chat_server, tmp_path):
    chat_server.script = lambda _, number: (500, {}, "{}") if number == 0 else "good"
    run(1)
    assert account(run)["failed_tries"] == 1
    with CallStore(tmp_path / "calls.sqlite") as store:
        ((key, _),) = store
        assert store.failures(key) == ["answered 500 (Internal Server Error): {}"]


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
