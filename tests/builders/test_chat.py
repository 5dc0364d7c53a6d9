"""The LLM client against a real HTTP server: storing, retrying, refusing, and keeping the Hub token at home."""

import gzip
import json
import signal
import threading
import time

import pytest

from builders.llm.ledger import Ledger
from builders.llm.store import CallStore
from foils.errors import UserError
from tests.builders.asking import ask_server
from tests.builders.asking import question as request
from tests.chat_server import completion, last_user_message


@pytest.fixture
def ask(chat_server, tmp_path):
    ledger = Ledger()

    def run(requests, **settings):
        return ask_server(chat_server.url, tmp_path / "calls.sqlite", requests, ledger, **settings)

    run.ledger = ledger
    return run


def test_answers_come_in_order_and_are_stored(ask, chat_server):
    chat_server.script = lambda body, _: f"re: {last_user_message(body)}"
    requests = [request(f"q{n}") for n in range(20)]
    assert [answer.text for answer in ask(requests)] == [f"re: q{n}" for n in range(20)]
    assert len(chat_server.bodies) == 20
    assert [answer.text for answer in ask(requests)] == [f"re: q{n}" for n in range(20)]
    assert len(chat_server.bodies) == 20  # no call was repeated
    account = ask.ledger.summary()["test"]
    assert account.pop("busy_seconds") <= account.pop("call_seconds")
    assert account == {
        "calls": 20,  # each is paid once, however often it is looked up
        "failed_tries": 0,
        "prompt_tokens": 140,
        "completion_tokens": 60,
        "uncounted_calls": 0,
        "accepted": 40,
    }
    assert ask.ledger.new_calls == 20


def test_ctrl_c_is_pythons_own_again_after_a_stage(ask):
    before = signal.getsignal(signal.SIGINT)
    ask([request("a")])
    assert signal.getsignal(signal.SIGINT) is before


def test_equal_requests_are_one_call(ask, chat_server):
    assert len(ask([request("same")] * 5)) == 5
    assert len(chat_server.bodies) == 1


def test_the_hub_token_stays_at_home(ask, chat_server, monkeypatch):
    ask([request("q")])
    monkeypatch.setenv("MY_KEY", "sk-mine")
    ask([request("other")], api_key_env="MY_KEY")
    assert [{k.lower(): v for k, v in headers.items()}["authorization"] for headers in chat_server.headers] == [
        "Bearer none-needed",
        "Bearer sk-mine",
    ]
    assert "hf_this_token" not in json.dumps(chat_server.headers)


def test_a_missing_key_is_named_before_any_call(ask, chat_server, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UserError, match="environment variable MY_KEY is not set"):
        ask([request("q")], api_key_env="MY_KEY")
    assert not chat_server.bodies


def test_busy_endpoints_are_asked_again(ask, chat_server):
    busy = [(429, {"Retry-After": "0"}, "{}"), (503, {}, "<html>"), (200, {}, "<html>not json</html>")]
    chat_server.script = lambda _, number: busy[number] if number < 3 else "at last"
    assert ask([request("q")])[0].text == "at last"
    assert len(chat_server.bodies) == 4


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "key refused"), (403, "Forbidden.: no"), (404, "no such address or model"), (400, "Bad Request.: no")],
)
def test_refusals_are_not_asked_again_and_show_no_key(ask, chat_server, monkeypatch, status, words):
    monkeypatch.setenv("MY_KEY", "sk-mine-and-secret")
    chat_server.script = lambda *_: (status, {}, json.dumps({"error": "no"}))
    with pytest.raises(UserError, match=words) as caught:
        ask([request("q")], api_key_env="MY_KEY")
    assert len(chat_server.bodies) == 1
    assert "sk-mine" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hanging_endpoint_is_given_up(ask, chat_server):
    chat_server.script = lambda *_: time.sleep(1.5) or "late"
    with pytest.raises(UserError, match="did not answer in time"):
        ask([request("q")], timeout_s=0.2, attempts=1)


def test_concurrency_is_bounded_and_used(ask, chat_server):
    running, most, lock = [0], [0], threading.Lock()

    def slow(*_):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return "x"

    chat_server.script = slow
    ask([request(f"q{n}") for n in range(24)], concurrency=6)
    assert 2 <= most[0] <= 6


def test_a_cut_answer_is_marked(ask, chat_server):
    chat_server.script = lambda *_: (200, {}, json.dumps(completion("half of", "length")))
    assert ask([request("q")])[0].finish_reason == "length"


def test_answers_under_way_are_kept_when_another_request_is_refused(ask, chat_server, tmp_path):
    chat_server.script = lambda body, _: (
        time.sleep(0.5) or "late but paid for" if "slow" in last_user_message(body) else (401, {}, "{}")
    )
    with pytest.raises(UserError, match="key refused"):
        ask([request("slow 1"), request("slow 2"), request("bad")], concurrency=3)
    with CallStore(tmp_path / "calls.sqlite") as store:
        assert len(store) == 2


def test_compressed_answers_are_read(ask, chat_server):
    def compressed(handler):
        data = gzip.compress(json.dumps(completion("small")).encode())
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    chat_server.script = lambda *_: compressed
    assert ask([request("q")])[0].text == "small"


def test_an_endless_answer_is_given_up(ask, chat_server):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    chat_server.script = lambda *_: endless
    with pytest.raises(UserError, match="did not answer in time"):
        ask([request("q")], timeout_s=0.3, attempts=1)


def test_two_hundred_connections_at_once(ask, chat_server):
    meeting = threading.Barrier(200, timeout=20)  # opens only once all of them are there
    chat_server.script = lambda *_: "met" if meeting.wait() is not None else ""
    assert {answer.text for answer in ask([request(f"q{n}") for n in range(200)], concurrency=200)} == {"met"}
