"""How many requests at once an address serves best: throughput at rising concurrency, in bounded calls and time."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice
from statistics import median
from typing import NamedTuple

import msgspec

from builders.doctor.findings import Advice, Finding, not_tried, quoted
from builders.doctor.visit import Reply, Visit
from builders.llm.chat import ChatRequest
from builders.llm.ledger import bytes_of, tokens_of

MOST_AT_ONCE = 64
MOST_SECONDS = 60.0
FEWEST_CALLS = 4
TWICE_UP_TO = 16
WORTHWHILE = 1.1
MOST_IDLE = 2


class Level(NamedTuple):
    """What came of some requests, so many at once.

    Attributes:
        at_once: requests in flight.
        answered: answers.
        failed: why requests failed, if some did.
        seconds: wall time for all of them.
        tokens: written, in all answers.
        latency_s: the median.
        ran_out: the time for all levels was over before it ended.
    """

    at_once: int
    answered: int
    failed: str | None
    seconds: float
    tokens: int
    latency_s: float
    ran_out: bool

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.answered / self.seconds

    def __str__(self) -> str:
        told = f"{self.at_once:>3} at once: {self.rate:6.2f} calls/s {self.tokens / self.seconds:7.1f} tokens/s"
        told += f", median {self.latency_s:.2f} s" if self.answered else ""
        return f"{told}, refused: {self.failed}" if self.failed else told


def levels_up_to(most: int) -> list[int]:
    """The concurrencies to try.

    >>> levels_up_to(12)
    [1, 2, 4, 8, 12]
    """
    most = min(most, MOST_AT_ONCE)
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def calls_at(level: int) -> int:
    """How many calls a level makes.

    >>> sum(calls_at(level) for level in levels_up_to(64))
    160
    """
    return max(FEWEST_CALLS, 2 * level if level <= TWICE_UP_TO else level)


async def speed(visit: Visit, most_at_once: int, seconds: float) -> Finding:
    """Measures levels until two in a row bring little, some requests are refused, or the time is over."""
    if visit.blocked is not None:
        return not_tried("speed", visit.blocked)
    deadline = time.monotonic() + seconds
    requests = iter(_endless(visit))
    levels: list[Level] = []
    idle = 0  # levels in a row that brought little: one alone may be chance, with so few calls
    for at_once in levels_up_to(most_at_once):
        level = await _measured(visit, at_once, list(islice(requests, calls_at(at_once))), deadline)
        best = max((earlier.rate for earlier in levels), default=0.0)
        levels.append(level)
        idle = 0 if level.rate >= WORTHWHILE * best else idle + 1
        if level.failed or level.ran_out or idle == MOST_IDLE:
            break
    whole = [level for level in levels if not level.ran_out]
    visit.best_level = best_of(levels) if len(whole) > 1 or not levels[-1].ran_out else 0
    lines = [str(level) for level in levels]
    if levels[-1].ran_out:
        lines.append(f"stopped after {seconds:.0f} s")
    if not visit.best_level and levels[-1].ran_out:
        lines.append("too slow for a comparison of levels")
        return Finding("speed", "warning", "\n".join(lines))
    if not visit.best_level:
        return Finding("speed", "warning", "\n".join(lines), (Advice("the address is busy or its limit is used up"),))
    return Finding("speed", "warning" if levels[-1].failed else "ok", "\n".join(lines))


def best_of(levels: Sequence[Level]) -> int:
    """The smallest concurrency within 10 % of the best, of those without a refusal; 0 if there is none."""
    good = [level for level in levels if not level.failed and level.answered]
    best = max((level.rate for level in good), default=0.0)
    return next((level.at_once for level in good if WORTHWHILE * level.rate >= best), 0)


def concurrency(visits: Sequence[Visit]) -> Finding:
    """What `llm.concurrency` should be, over all addresses."""
    llm = visits[0].llm
    measured = [visit.best_level for visit in visits if visit.best_level]
    if not measured:
        return not_tried("concurrency", "there are no speeds to compare")
    # A build gives every address the same share.
    best = min(measured) * len(visits) if len(visits) > 1 else measured[0]
    tried = min(llm.concurrency, MOST_AT_ONCE * len(visits))
    if best >= tried:
        more = "a higher one may serve more; try --set llm.concurrency=" + str(2 * llm.concurrency)
        return Finding("concurrency", "ok", f"{llm.concurrency}, the recipe's, served best", (Advice(more),))
    why = "the smallest within 10 % of the fastest, none refused"
    return Finding("concurrency", "ok", f"the recipe's is {llm.concurrency}", (Advice(why, "llm.concurrency", best),))


def limits(visit: Visit) -> Finding:
    """What answers told of rate limits."""
    if visit.is_away:
        return not_tried("limits", visit.blocked or "")
    told = visit.headers.limits
    if not told:
        return Finding("limits", "ok", "no answer told any")
    shown = "\n".join(f"{name}: {quoted(value)}" for name, value in sorted(told.items()))
    return Finding("limits", "ok", f"{shown}\na build waits when they say so")


async def _measured(visit: Visit, at_once: int, requests: list[ChatRequest], deadline: float) -> Level:
    waiting = iter(requests)
    done: list[tuple[ChatRequest, Reply]] = []
    failed: list[str] = []

    async def work() -> None:
        for request in waiting:
            reply = await visit.ask(request)
            if reply.answer is not None:
                done.append((request, reply))
            elif reply.failure is None or not reply.failure.of_request:  # one passage that is refused is no sign
                failed.append(reply.problem)
                return

    started = time.monotonic()
    ran_out = False
    try:
        async with asyncio.timeout(deadline - started):
            await asyncio.gather(*(work() for _ in range(at_once)))
    except TimeoutError:
        ran_out = True
    seconds = max(time.monotonic() - started, 1e-6)
    answers = [(request, reply.answer) for request, reply in done if reply.answer is not None]
    tokens = sum(tokens_of(answer, bytes_of(request.messages))[1] for request, answer in answers)
    latency = median([answer.seconds for _, answer in answers]) if answers else 0.0
    return Level(at_once, len(answers), failed[0] if failed else None, seconds, tokens, latency, ran_out)


def _endless(visit: Visit) -> Iterator[ChatRequest]:
    """Requests of the recipe, no two alike: a server would have a repeated one in its cache."""
    requests = visit.case.requests
    for number in count():
        request = requests[-1 - number % len(requests)]
        yield msgspec.structs.replace(request, seed=request.seed ^ (1 + number // len(requests)))
