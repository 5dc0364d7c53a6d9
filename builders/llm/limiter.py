"""How many requests are in flight, for how long nothing may be sent, and when the endpoint counts as down.

The limit starts at the recipe's concurrency, halves when the endpoint pushes back, and climbs again with every answer
(additive increase, multiplicative decrease). What the endpoint asks for in its headers (`Retry-After`, `RateLimit`)
holds for all requests, because limits are set per account and not per request.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus

from builders.llm.failures import CallError, asked_wait

PATIENCE_S = 600.0
"""Seconds that an endpoint may at least answer nothing while it asks to wait, as it does when a quota is spent."""
DOWN_AFTER = 5
"""Failures since the last answer, and rows among them, from which on the endpoint may be down."""
ROUNDS_TO_RECOVER = 16


class Limiter:
    """Gives permissions to send one request, in turn.

    Attributes:
        limit: requests that may be in flight now, between 1 and `ceiling`; fractions add up to a whole one.
        in_flight: requests that are in flight.
    """

    def __init__(self, ceiling: int, down_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = float(ceiling)
        self._ceiling, self._down_after_s, self._clock = ceiling, down_after_s, clock
        self._held_until = self._lowered_at = clock()
        self._answered = False
        self._failures = 0  # since the last answer
        self._failing_rows: set[str] = set()
        self._failing_since = self._unanswered_since = 0.0
        self.begin()

    def begin(self) -> None:
        """Begins a stage, in an event loop of its own: what is known of the endpoint, a hold say, goes on."""
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self) -> None:
        """Waits in turn until a request may be sent.

        Raises:
            CallError: the endpoint asks for a wait that is longer than `down_after_s`.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:  # it had come just before
                self.leave()
            raise

    def leave(self) -> None:
        """Gives a permission back."""
        self.in_flight -= 1
        self._admit()

    def _admit(self) -> None:
        """Gives permissions while there is room; once a wait that was asked for is over, too."""
        hold = self.wait_s
        while self._waiting and (hold > self._down_after_s or (hold <= 0 and self.in_flight < int(self.limit))):
            turn = self._waiting.popleft()
            if turn.done():  # its row was cancelled
                continue
            if hold > 0:
                turn.set_exception(CallError(f"asks to wait {hold:.0f} s, which is longer than llm.down_after_s"))
            else:
                self.in_flight += 1
                turn.set_result(None)
        if self._waiting and hold > 0 and self._timer is None:
            # Other clients may wait for the same moment.
            wait = hold + random.random() * min(hold / 10, 1.0)
            self._timer = asyncio.get_running_loop().call_later(wait, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._admit()

    @property
    def wait_s(self) -> float:
        """Seconds for which nothing may be sent."""
        return self._held_until - self._clock()

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Notes what a response's headers ask for."""
        wait = asked_wait(status, headers)
        if wait is not None:
            now = self._clock()
            until = max(self._held_until, now + wait)
            # Time that the endpoint asked for does not show that it is down.
            self._failing_since += until - max(self._held_until, now)
            self._held_until = until

    def succeeded(self) -> None:
        """Notes an answer: the limit climbs, by about a sixteenth of the ceiling for every `limit` answers."""
        self._answered = True
        self._failures = 0
        self._failing_rows.clear()
        if self.limit < self._ceiling:
            step = max(1.0, self._ceiling / ROUNDS_TO_RECOVER)
            self.limit = min(float(self._ceiling), self.limit + step / self.limit)

    def failed(self, failure: CallError, started: float, row: str | None = None) -> bool:
        """Notes a failure of a request that was sent at `started`; lowers the limit where that may help.

        A request that was already under way when the limit was halved does not halve it again.

        Args:
            failure: of the request.
            started: when it was sent.
            row: names the request, unless it is known to fail whatever the endpoint's state.

        Returns:
            Whether this was a try of the request: not if the endpoint was busy or away for all of them.
        """
        now = self._clock()
        self._failures += 1
        if row is not None:
            self._failing_rows.add(row)
        if self._failures == 1:
            self._failing_since = max(now, self._held_until)
            self._unanswered_since = now
        crowded = self.limit > 1
        if failure.pushed_back and started >= self._lowered_at:
            self.limit = max(1.0, self.limit / 2)
            self._lowered_at = now
        if failure.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return not crowded
        return failure.status != HTTPStatus.TOO_MANY_REQUESTS and not (failure.unconnected and self._answered)

    def check(self, failure: CallError, *, is_try: bool) -> None:
        """Gives the endpoint up if it has been down for too long: a few rows alone may fail for reasons of their own.

        Raises:
            CallError: nothing has been answered for `down_after_s` seconds and several failures.
        """
        if self._failures < DOWN_AFTER or (is_try and len(self._failing_rows) < min(DOWN_AFTER, self._ceiling)):
            return
        now = self._clock()
        away, waited = now - self._failing_since, now - self._unanswered_since
        if away >= self._down_after_s:
            raise CallError(
                f"is down: no answer for {away:.0f} s, {self._failures} failures, the last: {failure.words}"
            )
        if waited >= max(PATIENCE_S, 2 * self._down_after_s):
            raise CallError(
                f"has answered nothing for {waited:.0f} s, though it was left alone for as long as it asked; the last: "
                f"{failure.words}"
            )
