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
FIRST_REST_S, LONGEST_REST_S = 5.0, 60.0
_LONGEST_RESET_S = 86_400.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LEFT = ("ratelimit-remaining", *(f"x-ratelimit-remaining{what}" for what in ("", "-requests", "-tokens")))
"""Headers of what is left, as the first drafts of RateLimit and OpenAI-like endpoints name them."""
_RATE_LIMIT = re.compile(r'"[^"]*"\s*;\s*r\s*=\s*(\d+)\s*;\s*t\s*=\s*(\d+)')


class GaveUpError(Exception):
    """Waiting longer is of no use; the text says why."""


class Failure(msgspec.Struct, frozen=True):
    """One request that failed.

    Attributes:
        words: what happened, without the URL's query or any header; may repeat what the endpoint says of it.
        brief: the same in Foils's own words alone, which do not differ from one time to the next.
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
    brief: str = ""

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
            brief=f"answered {status} ({hint.get(status, 'error')})",
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
    where it sends one, because clocks differ. `RateLimit` counts on any response once nothing is left (`r=0`), and so
    do its older forms.

    >>> asked_wait(429, {"retry-after": "7"})
    7.0
    >>> asked_wait(200, {"ratelimit": '"api";r=0;t=5'})
    5.0
    >>> asked_wait(200, {"ratelimit": '"api";r=9;t=5'})
    >>> asked_wait(200, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m0.5s"})
    60.5
    """
    waits = []
    for remaining, reset in _RATE_LIMIT.findall(headers.get("ratelimit", "")):
        if int(remaining) == 0:
            waits.append(float(reset))
    for name in _LEFT:
        if headers.get(name, "").strip() == "0":
            reset = _seconds(headers.get(name.replace("remaining", "reset"), ""))
            waits += [reset] if reset is not None else []
    after = headers.get("retry-after", "").strip() if status in ASKED_TO_WAIT else ""
    if after.isdecimal():
        waits.append(float(after))
    elif after:
        with suppress(ValueError):
            waits.append(max(0.0, (_moment(after) - _moment(headers.get("date", ""))).total_seconds()))
    return max(waits, default=None)


def _seconds(text: str) -> float | None:
    """A duration such as `5`, `1m0.5s` or `20ms`; None for anything else, a point in time above all.

    >>> _seconds("20ms"), _seconds("1764000000"), _seconds("soon")
    (0.02, None, None)
    """
    parts = _DURATION.findall(text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    return seconds if seconds <= _LONGEST_RESET_S else None


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
    """How hard one address is pressed: additive increase, multiplicative decrease, holds, and a circuit breaker.

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
        self._rested_at = clock()
        self._rest_s = FIRST_REST_S
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

    def rest(self, started: float) -> None:
        """Sends nothing for a while, then one request to find out; each time without an answer twice as long.

        Args:
            started: when the request was sent whose failure is the reason; those under way since before the last rest
                tell nothing new.
        """
        if started < self._rested_at:
            return
        self._rested_at = self._clock()
        self._held_until = max(self._held_until, self._rested_at + self._rest_s)
        self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
        self.limit = 1.0

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Notes what a response's headers ask for."""
        if status not in ASKED_TO_WAIT and "ratelimit" not in headers and not any(name in headers for name in _LEFT):
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
        self._rest_s = FIRST_REST_S
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
