"""Several addresses of one model: load goes where room is, and an address that fails rests."""

import time
from collections import Counter

import pytest

from builders.llm import gate
from builders.llm.chat import ChatRequest, Endpoint, Llm
from builders.llm.config import LlmConfig
from builders.llm.gate import Address, Gate
from builders.llm.pressure import Failure, GaveUpError, Pressure
from builders.llm.store import CallStore
from cards.errors import UserError
from tests.chat_server import ChatServer, last_user_message

BROKEN = Failure("answered 500", status=500)


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def two():
    """Two servers that record how many requests they had at once."""
    with ChatServer() as one, ChatServer() as other:
        yield one, other


@pytest.fixture
def ask(two, tmp_path):
    def run(count, **settings):
        config = LlmConfig(
            base_url=tuple(server.url for server in two), model="scripted", **{"timeout_s": 5.0, **settings}
        )
        requests = [
            ChatRequest(({"role": "user", "content": f"q{n}"},), max_tokens=9, temperature=0.5, seed=1)
            for n in range(count)
        ]
        with CallStore(tmp_path / "calls.sqlite") as store:
            llm = Llm(config, store, lambda: [Endpoint(url, "scripted") for url in config.base_urls])
            return [answer.text for answer in llm.ask("test", requests)]

    return run


def asked(server):
    return [last_user_message(body) for body in server.bodies]


def test_load_is_spread_and_each_address_has_its_share_of_the_concurrency(ask, two):
    most = Counter()

    def script(server):
        def answer(*_):
            most[server.port] = max(most[server.port], server.in_flight)
            time.sleep(0.02)
            return "text"

        return answer

    for server in two:
        server.script = script(server)
    assert ask(100, concurrency=8) == ["text"] * 100
    assert sorted(asked(two[0]) + asked(two[1])) == sorted(f"q{n}" for n in range(100))
    assert min(len(server.bodies) for server in two) > 35
    assert max(most.values()) <= 4


def test_the_faster_address_gets_more(ask, two):
    two[0].script = lambda *_: time.sleep(0.15) or "slow"
    two[1].script = lambda *_: time.sleep(0.01) or "fast"
    ask(80, concurrency=4)
    assert len(two[1].bodies) > 3 * len(two[0].bodies)


@pytest.mark.parametrize("fault", [(500, {}, "{}"), (502, {}, "<html>"), (200, {}, "<html>")])
def test_a_failing_address_rests_and_costs_no_row(ask, two, fault):
    two[0].script = lambda *_: fault
    two[1].script = lambda *_: time.sleep(0.01) or "text"
    assert ask(200, concurrency=8) == ["text"] * 200
    assert len(two[0].bodies) <= 5 + 4 + 2  # until it rested, those under way then, and a look whether it is back
    assert sorted(asked(two[1])) == sorted(f"q{n}" for n in range(200))


def test_an_address_that_is_not_there_costs_no_row(ask, two):
    two[0].__exit__()
    two[1].script = lambda *_: "text"
    assert ask(100, concurrency=8) == ["text"] * 100


def test_an_address_that_comes_back_is_used_again(ask, two, monkeypatch):
    monkeypatch.setattr(gate, "FIRST_REST_S", 0.2)
    two[0].script = lambda _, number: (500, {}, "{}") if number < 8 else time.sleep(0.01) or "back"
    two[1].script = lambda *_: time.sleep(0.01) or "text"
    answers = Counter(ask(400, concurrency=8))
    assert answers.total() == 400
    assert answers["back"] > 40


def test_when_all_are_down_the_run_ends_with_the_reason(ask, two):
    for server in two:
        server.script = lambda *_: (500, {}, "{}")
    with pytest.raises(UserError, match="answered 500"):
        ask(50, concurrency=4, attempts=3, down_after_s=3.0)


def addresses(*pressures):
    return [Address(Endpoint(None, "m"), None, pressure) for pressure in pressures]


def test_rests_grow_and_an_answer_ends_them():
    clock = Clock()
    pair = addresses(Pressure(4, 1000.0, clock), Pressure(4, 1000.0, clock))
    both = Gate(pair)
    for _ in range(4):
        both.failed(pair[0], BROKEN, clock.now)
        assert pair[0].pressure.room == 4
    both.failed(pair[0], BROKEN, clock.now)
    assert pair[0].pressure.wait_s == 5
    assert both.try_enter() is pair[1]
    clock.now += 5
    assert pair[0].pressure.room == 1  # one request finds out
    both.failed(pair[0], BROKEN, clock.now)
    assert pair[0].pressure.wait_s == 10
    clock.now += 10
    both.succeeded(pair[0])
    assert pair[0].pressure.room > 1
    for _ in range(5):
        both.failed(pair[0], BROKEN, clock.now)
    assert pair[0].pressure.wait_s == 5


def test_it_gives_up_only_when_every_address_is_down():
    clock = Clock()
    pair = addresses(Pressure(4, 100.0, clock), Pressure(4, 100.0, clock))
    both = Gate(pair)
    for _ in range(9):
        both.failed(pair[0], BROKEN, clock.now)
        clock.now += 60
    for _ in range(5):
        both.failed(pair[1], BROKEN, clock.now)
    clock.now += 101
    with pytest.raises(GaveUpError, match="is down"):
        both.failed(pair[1], BROKEN, clock.now)


def test_another_try_prefers_another_address():
    pair = addresses(Pressure(4, 100.0), Pressure(4, 100.0))
    both = Gate(pair)
    assert [both.try_enter(avoid=pair[0]) for _ in range(2)] == [pair[1]] * 2
    for _ in range(2):
        both.try_enter(avoid=pair[0])
    assert both.in_flight == 4
