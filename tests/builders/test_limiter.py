"""How an endpoint that pushes back is treated: what the limiter does by itself, and what a real server sees of it."""

import asyncio
import json
import threading
import time
from collections import Counter
from itertools import pairwise

import pytest

from builders.llm.client import Llm
from builders.llm.config import FieldsConfig, LlmConfig, PricesConfig
from builders.llm.failures import CallError, asked_wait, backoff
from builders.llm.limiter import Limiter
from builders.llm.messages import Endpoint
from builders.llm.store import CallStore
from builders.recipe import BuildRecipe, CorpusConfig, identity_hash
from foils.errors import UserError
from tests.builders.asking import ask as ask_all
from tests.builders.asking import ask_server, question
from tests.chat_server import ChatServer, completion

BUSY = CallError("answered 429", status=429, pushed_back=True)
NOON = "Sun, 22 Nov 2026 12:00:00 GMT"
AFTER_NOON = "Sun, 22 Nov 2026 12:00:30 GMT"


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def ask(chat_server, tmp_path):
    def run(count, url=None, **settings):
        requests = [question(f"q{n}") for n in range(count)]
        return ask_server(url or chat_server.url, tmp_path / "calls.sqlite", requests, **settings)

    return run


@pytest.fixture
def stored(tmp_path):
    def count():
        with CallStore(tmp_path / "calls.sqlite") as store:
            return len(store)

    return count


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "12"}, 12),
        (503, {"retry-after": " 0 "}, 0),
        (429, {"retry-after": AFTER_NOON, "date": NOON}, 30),
        (429, {"retry-after": NOON, "date": AFTER_NOON}, 0),
        (429, {"retry-after": "Sun, 22 Nov 2026 12:00:30 -0000", "date": NOON}, 30),
        (429, {"retry-after": "soon"}, None),
        (429, {"retry-after": "-5"}, None),
        (429, {}, None),
        (500, {"retry-after": "12"}, None),
        (200, {"ratelimit": '"api";r=0;t=55'}, 55),
        (200, {"ratelimit": '"api";r=1;t=55'}, None),
        (200, {"ratelimit": '"minute";r=7;t=55, "day";r=0;t=900'}, 900),
        (429, {"ratelimit": '"api";r=0;t=55', "retry-after": "70"}, 70),
        (429, {"ratelimit": "nonsense"}, None),
    ],
)
def test_what_the_headers_ask_for(status, headers, seconds):
    assert asked_wait(status, headers) == seconds


def test_a_date_without_the_servers_clock_is_read_against_ours():
    assert asked_wait(429, {"retry-after": "Fri, 01 Jan 1999 00:00:00 GMT"}) == 0
    assert asked_wait(429, {"retry-after": "Fri, 01 Jan 2999 00:00:00 GMT"}) > 1e9


def test_backoff_doubles_with_chance_up_to_a_minute():
    for failures, least in [(1, 0.5), (2, 1.0), (5, 8.0)]:
        waits = {backoff(failures) for _ in range(50)}
        assert least <= min(waits) < max(waits) <= 2 * least
    assert backoff(500) == 60


def test_a_burst_of_refusals_halves_once_and_a_later_one_again():
    clock = Clock()
    limiter = Limiter(64, 100.0, clock)
    sent = clock.now
    clock.now += 1
    for _ in range(60):
        limiter.failed(BUSY, started=sent)
    assert limiter.limit == 32
    clock.now += 1
    limiter.failed(BUSY, started=clock.now - 0.5)
    assert limiter.limit == 16
    for _ in range(20):
        clock.now += 1
        limiter.failed(BUSY, started=clock.now)
    assert limiter.limit == 1


def test_answers_raise_the_limit_step_by_step_up_to_the_ceiling():
    clock = Clock()
    limiter = Limiter(64, 100.0, clock)
    limiter.failed(BUSY, started=clock.now)
    assert limiter.limit == 32
    for _ in range(32):
        limiter.succeeded()
    assert 35 < limiter.limit < 37  # 64 / 16 more after about one round
    for _ in range(1000):
        limiter.succeeded()
    assert limiter.limit == 64


def test_what_counts_as_a_try_of_a_request():
    gone = CallError("cannot be reached", unconnected=True)
    full = CallError("answered 503", status=503, pushed_back=True)
    broken = CallError("answered 500", status=500)
    clock = Clock()
    limiter = Limiter(2, 1000.0, clock)
    assert limiter.failed(gone, clock.now)  # never was there
    assert not limiter.failed(full, clock.now)  # there may be too many at once
    assert limiter.limit == 1
    assert limiter.failed(full, clock.now)  # it was alone
    assert not limiter.failed(BUSY, clock.now)
    limiter.succeeded()
    assert not limiter.failed(gone, clock.now)  # it was there a moment ago
    assert limiter.failed(broken, clock.now)


def test_the_breaker_wants_several_failures_and_time_without_an_answer():
    clock = Clock()
    limiter = Limiter(4, 100.0, clock)
    for _ in range(50):
        limiter.failed(BUSY, clock.now)
    clock.now += 99
    limiter.failed(BUSY, clock.now)
    limiter.check(BUSY, is_try=False)
    limiter.succeeded()
    for _ in range(4):
        limiter.failed(BUSY, clock.now)
        clock.now += 60
    limiter.failed(BUSY, clock.now)
    with pytest.raises(CallError, match="is down: no answer for 240 s, 5 failures, the last: answered 429"):
        limiter.check(BUSY, is_try=False)


def test_an_endpoint_that_only_asks_to_wait_is_given_up_after_ten_minutes():
    clock = Clock()
    limiter = Limiter(4, 100.0, clock)
    for _ in range(10):
        limiter.heard(429, {"retry-after": "60"})
        limiter.failed(BUSY, clock.now)
        clock.now += 61
    limiter.failed(BUSY, clock.now)
    with pytest.raises(CallError, match="has answered nothing for 610 s, though it was left alone"):
        limiter.check(BUSY, is_try=False)


@pytest.mark.parametrize(("rows", "is_down"), [(3, False), (5, True)])
def test_a_few_rows_that_time_out_at_the_end_are_not_an_endpoint_that_is_down(rows, is_down):
    clock, late = Clock(), CallError("did not answer in time", pushed_back=True)
    limiter = Limiter(8, 100.0, clock)
    for number in range(3 * rows):
        assert limiter.failed(late, clock.now, f"row {number % rows}")
        clock.now += 120
    limiter.failed(late, clock.now, "row 0")
    try:
        limiter.check(late, is_try=True)
    except CallError:
        assert is_down
    else:
        assert not is_down


def test_time_that_the_endpoint_asked_for_does_not_count_as_down():
    clock = Clock()
    limiter = Limiter(4, 100.0, clock)
    for _ in range(8):
        limiter.heard(429, {"retry-after": "60"})
        limiter.failed(BUSY, clock.now)
        clock.now += 61
    assert not limiter.failed(BUSY, clock.now)
    limiter.check(BUSY, is_try=False)


def test_the_data_set_does_not_depend_on_how_the_endpoint_is_asked():
    def identity(**llm):
        return identity_hash(BuildRecipe(name="x", corpus=CorpusConfig(source="y"), llm=LlmConfig(**llm)))

    neutral = identity()
    fast = {"concurrency": 99, "timeout_s": 1.0, "attempts": 9, "down_after_s": 4.0}
    paid = {"prices": PricesConfig(input=1.0), "budget": 3.0, "api_key_env": "MY_KEY"}
    elsewhere = {"base_url": "http://a/v1", "answers_as": "alias"}
    shaping = {"model": "m", "revision": "r", "thinking": False, "extra_body": {"top_p": 0.9}}
    shaping["fields"] = FieldsConfig(seed=False)
    assert identity(fields=FieldsConfig(max_tokens="max_completion_tokens")) == neutral
    way = {"provider": "auto", "answers": "answers.parquet"}
    assert {*fast, *paid, *elsewhere, *shaping, *way} == set(LlmConfig.__struct_fields__)
    assert identity(**fast, **paid, **elsewhere, **way) == neutral
    for key, value in shaping.items():
        assert identity(**{key: value}) != neutral, key


class Capacity:
    """A server that can do `capacity` requests at once and refuses what is above, until `until` have come."""

    def __init__(self, server, capacity, until):
        self.capacity = capacity
        self.until = until
        self.seen = []  # (requests in flight, refused), one per request
        self._server = server
        server.script = self

    def __call__(self, *_):
        now = self._server.in_flight
        refused = now > self.capacity and len(self.seen) < self.until
        self.seen.append((now, refused))
        time.sleep(0.05)  # long enough that a slow client keeps the server as busy as it may
        return (429, {}, "{}") if refused else "text"


def test_concurrency_falls_to_what_the_server_can_do_and_recovers(ask, chat_server):
    server = Capacity(chat_server, 4, until=500)
    ask(1200, concurrency=16, attempts=1)  # 429 is no try, however often it comes
    refused = [number for number, (_, no) in enumerate(server.seen) if no]
    assert max(now for now, _ in server.seen[:16]) > 8  # it began with all it may
    settled = Counter(now for now, _ in server.seen[refused[0] + 40 : refused[-1]])
    assert settled, "the server was never busy for long"
    assert max(settled) <= 10  # about half of the ceiling and less
    assert max(now for now, _ in server.seen[refused[-1] :]) >= 12  # and back up once there is room
    assert len(refused) < len(server.seen) / 3


LIMITED = {"Content-Type": "application/json", "RateLimit": '"api";r=0;t=1'}


@pytest.mark.parametrize(
    ("third", "asked"),
    [((429, {"Retry-After": "1"}, "{}"), 13), ((200, LIMITED, json.dumps(completion("text"))), 12)],
)
def test_a_wait_that_the_endpoint_asks_for_holds_every_request(ask, chat_server, third, asked):
    times = []

    def script(*_):
        times.append(time.monotonic())
        return third if len(times) == 3 else "text"

    chat_server.script = script
    assert len(ask(12, concurrency=1)) == 12
    assert len(times) == asked
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[2] >= 0.99  # the server said one second, and nothing came in it
    assert sorted(gaps)[-2] < 0.9


def test_a_wait_beyond_the_deadline_ends_at_once(ask, chat_server, stored):
    chat_server.script = lambda _, number: "text" if number < 2 else (429, {"Retry-After": "3600"}, "{}")
    began = time.monotonic()
    with pytest.raises(UserError, match=r"asks to wait 3600 s, which is longer than llm\.down_after_s.*stored"):
        ask(5, concurrency=1)
    assert time.monotonic() - began < 30
    assert stored() == 2
    assert len(chat_server.bodies) == 3


def test_an_endpoint_that_is_down_for_good_stops_the_run_and_keeps_the_rest(ask, chat_server, stored):
    chat_server.script = lambda _, number: "text" if number < 10 else (429, {"Retry-After": "0"}, "{}")
    words = r"is down: no answer for \d+ s, \d+ failures, the last: answered 429"
    with pytest.raises(UserError, match=words) as caught:
        ask(40, concurrency=4, down_after_s=1.0)
    assert "\n" not in str(caught.value)
    assert "run the same command again: answers so far are stored" in str(caught.value)
    assert stored() == 10


def test_a_server_that_goes_away_and_comes_back_costs_no_row(ask):
    """Its connections are refused for longer than `attempts` tries take; then the same address answers again."""
    with ChatServer() as first:
        first.script = lambda *_: time.sleep(0.02) or "before"
        port = first.port
        back = []

        def restart():
            while len(first.bodies) < 10:
                time.sleep(0.01)
            first.__exit__()
            time.sleep(1.5)
            back.append(ChatServer(port).__enter__())

        restarting = threading.Thread(target=restart)
        restarting.start()
        try:
            assert len(ask(40, url=first.url, concurrency=2, attempts=3, down_after_s=30.0)) == 40
        finally:
            restarting.join()
            for server in back:
                server.__exit__()
    assert back[0].bodies


def test_a_server_that_never_comes_back_is_named(ask, stored):
    with ChatServer() as server:
        url = server.url
        ask(3, url=url)
    with pytest.raises(UserError, match=r"cannot be reached \(Connection refused\) \(2 tries\)"):
        ask(6, url=url, attempts=2)
    assert stored() == 3


def test_halving_on_time_outs(ask, chat_server):
    """A server that hangs while more than two requests are in flight."""
    chat_server.script = lambda *_: (time.sleep(1.0) if chat_server.in_flight > 2 else None) or "text"
    assert len(ask(30, concurrency=8, timeout_s=0.5, attempts=20)) == 30


def test_whoever_waits_longest_is_next():
    """A worker that comes from a call must not take the place of one that has waited."""

    async def work(limiter, served, number, until):
        while time.monotonic() < until:
            await limiter.enter()
            await asyncio.sleep(0.002)
            served[number] += 1
            limiter.leave()

    async def main():
        limiter, served = Limiter(4, 100.0), Counter()
        until = time.monotonic() + 1.0
        await asyncio.gather(*(work(limiter, served, number, until) for number in range(12)))
        assert limiter.in_flight == 0
        return served

    served = asyncio.run(main())
    assert len(served) == 12
    assert min(served.values()) > max(served.values()) / 2


def test_a_place_that_nobody_wants_any_more_is_given_back():
    async def main():
        limiter = Limiter(1, 100.0)
        await limiter.enter()
        waiting = [asyncio.create_task(limiter.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        limiter.leave()
        waiting[1].cancel()
        await waiting[2]
        assert limiter.in_flight == 1
        limiter.leave()
        assert limiter.in_flight == 0

    asyncio.run(main())


def test_a_wait_that_the_endpoint_asks_for_is_kept_by_all_or_ends_the_run():
    async def main():
        impatient, limiter = Limiter(2, 0.5), Limiter(2, 100.0)
        impatient.heard(429, {"retry-after": "1"})
        with pytest.raises(CallError, match="asks to wait 1 s"):
            await impatient.enter()
        limiter.heard(429, {"retry-after": "1"})
        started = time.monotonic()
        await asyncio.gather(limiter.enter(), limiter.enter())
        assert 0.99 <= time.monotonic() - started < 3

    asyncio.run(main())


def test_what_is_known_of_an_endpoint_goes_from_one_stage_to_the_next(chat_server, tmp_path):
    came = []
    config = LlmConfig(base_url=chat_server.url, model="scripted", concurrency=1)
    with CallStore(tmp_path / "calls.sqlite") as store:
        llm = Llm(config, store, lambda: Endpoint(chat_server.url, "scripted"))
        ask_all(llm, "first", [question(f"first {n}") for n in range(3)])
        llm.limiter.heard(429, {"retry-after": "1"})
        started = time.monotonic()
        chat_server.script = lambda *_: came.append(time.monotonic()) or "text"
        ask_all(llm, "second", [question(f"second {n}") for n in range(8)])
    assert came[0] - started >= 0.9
