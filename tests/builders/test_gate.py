"""Several addresses of one model: load goes where room is, and an address that fails rests."""

import asyncio
import time
from collections import Counter

import pytest

from builders.llm import pressure
from builders.llm.chat import ChatRequest, Endpoint, Llm
from builders.llm.config import LlmConfig
from builders.llm.gate import Address, Gate
from builders.llm.pressure import Failure, GaveUpError, Pressure
from builders.llm.store import CallStore
from foils.errors import UserError
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
    monkeypatch.setattr(pressure, "FIRST_REST_S", 0.2)
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
    sent = clock.now - 1
    for _ in range(20):  # under way since before: they tell nothing new
        both.failed(pair[0], BROKEN, sent)
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


def test_whoever_waits_longest_is_next():
    """A worker that comes from a call must not take the place of one that has waited."""

    async def work(gate, served, number, until):
        while time.monotonic() < until:
            address = gate.try_enter() or await gate.enter(60.0)
            await asyncio.sleep(0.002)
            served[number] += 1
            gate.leave(address)

    async def main():
        gate, served = Gate(addresses(Pressure(4, 100.0))), Counter()
        until = time.monotonic() + 1.0
        await asyncio.gather(*(work(gate, served, number, until) for number in range(12)))
        assert gate.in_flight == 0
        return served

    served = asyncio.run(main())
    assert len(served) == 12
    assert min(served.values()) > max(served.values()) / 2


def test_a_place_that_nobody_wants_any_more_is_given_back():
    async def main():
        gate = Gate(addresses(Pressure(1, 100.0)))
        address = gate.try_enter()
        waiting = [asyncio.create_task(gate.enter(60.0)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.leave(address)  # given to the second at once
        waiting[1].cancel()
        assert (await asyncio.gather(*waiting[:2], return_exceptions=True))[1].__class__ is asyncio.CancelledError
        assert await waiting[2] is address
        gate.leave(address)
        assert gate.in_flight == 0

    asyncio.run(main())


def test_waiters_hear_of_the_end_of_a_rest_by_themselves(monkeypatch):
    monkeypatch.setattr(pressure, "FIRST_REST_S", 0.2)

    async def main():
        pair = addresses(Pressure(1, 100.0), Pressure(1, 100.0))
        gate = Gate(pair)
        for _ in range(5):
            gate.failed(pair[1], BROKEN, time.monotonic())
        assert gate.try_enter() is pair[0]  # and it hangs
        started = time.monotonic()
        assert await asyncio.wait_for(gate.enter(60.0), 5) is pair[1]
        assert 0.15 < time.monotonic() - started < 2

    asyncio.run(main())


def test_patience_begins_with_the_first_sending():
    async def main():
        gate = Gate(addresses(Pressure(2, 100.0)))
        gate._addresses[0].pressure.heard(429, {"retry-after": "1"})
        with pytest.raises(GaveUpError, match="asks to wait 1 s"):
            await gate.enter(0.5)
        with pytest.raises(GaveUpError):
            await gate.enter(60.0, until=time.monotonic() + 0.2)
        assert await gate.enter(60.0)  # was never sent: waits

    asyncio.run(main())


def test_what_is_known_of_an_endpoint_goes_from_one_stage_to_the_next(chat_server, tmp_path):
    def requests(name):
        return [ChatRequest(({"role": "user", "content": f"{name} {n}"},), 9, 0.5, seed=1) for n in range(8)]

    came = []
    config = LlmConfig(base_url=chat_server.url, model="scripted", concurrency=1)
    with CallStore(tmp_path / "calls.sqlite") as store:
        llm = Llm(config, store, lambda: [Endpoint(chat_server.url, "scripted")])
        llm.ask("first", requests("first")[:3])
        llm._pressures[chat_server.url].heard(429, {"retry-after": "1"})
        started = time.monotonic()
        chat_server.script = lambda *_: came.append(time.monotonic()) or "text"
        llm.ask("second", requests("second"))
    assert came[0] - started >= 0.9
