"""How hard one address is pressed: how many requests are in flight, how long to wait, and when it counts as down.

`Pressure` starts at the recipe's concurrency, halves when the endpoint pushes back, and climbs again with every
answer. What the endpoint asks for in its headers (`Retry-After`, `RateLimit`) holds for all requests, because limits
are set per account and not per request.
"""

import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2
import msgspec
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

from builders.llm.store import without_secrets

MAX_BACKOFF_S = 60.0
ASKED_TO_WAIT = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
OBJECTIONS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})
DOWN_AFTER_FAILURES = 5
ROUNDS_TO_RECOVER = 16
_RATE_LIMIT = re.compile(r'"[^"]*"\s*;\s*r\s*=\s*(\d+)\s*;\s*t\s*=\s*(\d+)')


class GaveUpError(Exception):
    """Waiting longer is of no use; the text says why."""


class Failure(msgspec.Struct, frozen=True):
    """One request that failed.

    Attributes:
        words: what happened, without the URL's query or any header.
        status: the HTTP status, or None where there was no answer.
        refused: the endpoint will not change its mind: wrong key, model or request.
        pushed_back: too many requests at once may be the reason: 429, 503, or no answer in time, by any clock.
        unconnected: not even a connection was made.
        asked_to_wait: the endpoint said for how long.
    """

    words: str
    status: int | None = None
    refused: bool = False
    pushed_back: bool = False
    unconnected: bool = False
    asked_to_wait: bool = False

    @property
    def of_request(self) -> bool:
        """Whether the endpoint objects to this request: too long, against its content rules, of a wrong form."""
        return self.status in OBJECTIONS


def failure_of(error: Exception) -> Failure | None:
    """What an exception of `AsyncInferenceClient` means; None for our own bugs."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        hint = {400: "bad request", 401: "key refused", 403: "key refused", 404: "no such address or model"}
        told = _told(error.response.text) if status in {*OBJECTIONS, HTTPStatus.NOT_FOUND} else ""
        return Failure(
            words=f"answered {status} ({hint.get(status, 'error')}{told})",
            status=status,
            refused=status not in {408, 424, 425, 429} and status < HTTPStatus.INTERNAL_SERVER_ERROR,
            pushed_back=status in {408, 429, 503, 504},
            asked_to_wait=asked_wait(status, error.response.headers) is not None,
        )
    if isinstance(error, InferenceTimeoutError | TimeoutError):
        return Failure("did not answer in time", pushed_back=True)
    if isinstance(error, httpx2.ConnectError | httpx2.ProxyError | httpx2.UnsupportedProtocol):
        return Failure(f"cannot be reached ({type(error).__name__})", unconnected=True)
    if isinstance(error, httpx2.TransportError | OSError):
        return Failure(f"broke the connection off ({type(error).__name__})")
    if isinstance(error, msgspec.DecodeError | UnicodeDecodeError):
        return Failure("answered with something other than a chat completion")
    return None


def _told(body: str) -> str:
    """What the endpoint itself says is wrong, in short and without secrets; nothing if it is a web page."""
    if body.lstrip().startswith("<"):
        return ""
    said = re.search(r'"(?:message|detail|error)"\s*:\s*"((?:[^"\\]|\\.)+)"', body)
    return f": {without_secrets(said[1])}" if said else ""


def asked_wait(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks its client to wait before the next request; None if it does not.

    `Retry-After` counts on 429 and 503, as seconds or as a date; a date is read against the server's own `Date`
    where it sends one, because clocks differ. `RateLimit` counts on any response once nothing is left (`r=0`).

    >>> asked_wait(429, {"retry-after": "7"})
    7.0
    >>> asked_wait(200, {"ratelimit": '"api";r=0;t=5'})
    5.0
    >>> asked_wait(200, {"ratelimit": '"api";r=9;t=5'})
    """
    waits = []
    for remaining, reset in _RATE_LIMIT.findall(headers.get("ratelimit", "")):
        if int(remaining) == 0:
            waits.append(float(reset))
    after = headers.get("retry-after", "").strip() if status in ASKED_TO_WAIT else ""
    if after.isdecimal():
        waits.append(float(after))
    elif after:
        with suppress(ValueError):
            waits.append(max(0.0, (_moment(after) - _moment(headers.get("date", ""))).total_seconds()))
    return max(waits, default=None)


def _moment(text: str) -> datetime:
    if not text:
        return datetime.now(UTC)
    moment = parsedate_to_datetime(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def backoff(failures: int, *, first: float = 0.5) -> float:
    """Seconds before the next try: `first`, doubled with each failure, times 1 to 2 at random, at most a minute.

    The chance in it keeps requests that failed together from coming back together.
    """
    return min(first * 2.0 ** min(failures - 1, 30) * (1 + random.random()), MAX_BACKOFF_S)


class Pressure:
    """The gate before an endpoint: additive increase, multiplicative decrease, holds, and a circuit breaker.

    Attributes:
        limit: requests that may be in flight now, between 1 and `ceiling`; fractions add up to a whole one.
        in_flight: requests that are in flight.
    """

    def __init__(self, ceiling: int, down_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = float(ceiling)
        self.in_flight = 0
        self._ceiling = ceiling
        self._down_after_s = down_after_s
        self._clock = clock
        self._held_until = clock()
        self._lowered_at = clock()
        self._answered = False
        self._failures = 0  # since the last answer
        self._failing_since = 0.0

    @property
    def room(self) -> int:
        """Requests that may be sent now, on top of those in flight."""
        return self.spare if self._clock() >= self._held_until else 0

    @property
    def spare(self) -> int:
        """The same but for a wait that the endpoint asks for; below 0 after the limit fell."""
        return int(self.limit) - self.in_flight

    @property
    def wait_s(self) -> float:
        """Seconds for which nothing may be sent."""
        return self._held_until - self._clock()

    @property
    def is_down(self) -> bool:
        """Whether nothing has been answered for `down_after_s` seconds and several failures."""
        return self._failures >= DOWN_AFTER_FAILURES and self._clock() - self._failing_since >= self._down_after_s

    @property
    def is_failing(self) -> bool:
        """Whether several requests in a row have failed."""
        return self._failures >= DOWN_AFTER_FAILURES

    def rest(self, seconds: float) -> None:
        """Sends nothing for a while, and then one request to find out."""
        self._held_until = max(self._held_until, self._clock() + seconds)
        self.limit = 1.0

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Notes what a response's headers ask for."""
        if status not in ASKED_TO_WAIT and "ratelimit" not in headers:
            return
        wait = asked_wait(status, headers)
        if wait is not None:
            now = self._clock()
            until = max(self._held_until, now + wait)
            # Time that the endpoint asked for is no sign that it is down.
            self._failing_since += until - max(self._held_until, now)
            self._held_until = until

    def succeeded(self) -> None:
        """An answer came: the limit climbs, by about a sixteenth of the ceiling for every `limit` answers."""
        self._answered = True
        self._failures = 0
        if self.limit < self._ceiling:
            step = max(1.0, self._ceiling / ROUNDS_TO_RECOVER)
            self.limit = min(float(self._ceiling), self.limit + step / self.limit)

    def failed(self, failure: Failure, started: float) -> bool:
        """Notes a failure of a request that was sent at `started`; lowers the limit where that may help.

        Requests that were already under way when the limit was halved tell nothing new: a burst of refusals
        halves it once.

        Returns:
            Whether this was a try of the request: not if the endpoint was busy or away for all of them.

        Raises:
            GaveUpError: nothing has been answered for `down_after_s` seconds and several failures.
        """
        now = self._clock()
        self._failures += 1
        if self._failures == 1:
            self._failing_since = max(now, self._held_until)
        crowded = self.limit > 1
        if failure.pushed_back and started >= self._lowered_at:
            self.limit = max(1.0, self.limit / 2)
            self._lowered_at = now
        if self.is_down:
            away = now - self._failing_since
            raise GaveUpError(
                f"is down: no answer for {away:.0f} s, {self._failures} failures, the last: {failure.words}"
            )
        if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
            return False
        if failure.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return not crowded
        return not (failure.unconnected and self._answered)
