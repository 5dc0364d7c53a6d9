"""What a request that failed means: whose fault it is, and for how long the endpoint asks to wait."""

import os
import random
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz
from http import HTTPStatus

import aiohttp
import httpx2
import msgspec

from builders.llm.posting import StatusError
from builders.llm.redaction import without_secrets

MAX_BACKOFF_S = 60.0
ASKED_TO_WAIT = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
OBJECTIONS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})
_HINTS = {400: "bad request", 401: "key refused", 403: "key refused", 404: "no such address or model"}
_RATE_LIMIT = re.compile(r'"[^"]*"\s*;\s*r\s*=\s*(\d+)\s*;\s*t\s*=\s*(\d+)')


class Failure(msgspec.Struct, frozen=True):
    """One request that failed.

    Attributes:
        words: what happened, without the URL's query or any header; may repeat what the endpoint says of it.
        brief: the same in Foils's own words alone, which do not differ from one time to the next.
        status: the HTTP status, or None where there was no answer.
        refused: the endpoint will not change its mind: wrong key, model or request.
        pushed_back: too many requests at once may be the reason: 429, 503, or no answer in time, by any clock.
        unconnected: not even a connection was made.
    """

    words: str
    status: int | None = None
    refused: bool = False
    pushed_back: bool = False
    unconnected: bool = False
    brief: str = ""

    @property
    def of_request(self) -> bool:
        """Whether the endpoint objects to this request: too long, against its content rules, of a wrong form."""
        return self.status in OBJECTIONS


def failure_of(error: Exception) -> Failure | None:
    """What an exception of `PostingClient` means; None for our own bugs."""
    if isinstance(error, StatusError):
        status, hint = error.status, _HINTS.get(error.status, "error")
        said = _said(error.text) if status in {*OBJECTIONS, HTTPStatus.NOT_FOUND} else ""
        return Failure(
            words=f"answered {status} ({hint}{said})",
            brief=f"answered {status} ({hint})",
            status=status,
            refused=status not in {408, 424, 425, 429} and status < HTTPStatus.INTERNAL_SERVER_ERROR,
            pushed_back=status in {408, 429, 503, 504},
        )
    if isinstance(error, TimeoutError):  # `InferenceTimeoutError` is one
        return Failure("did not answer in time", pushed_back=True)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL | httpx2.ConnectError | httpx2.ProxyError):
        number = getattr(getattr(error, "os_error", None), "errno", None) or 0
        why = os.strerror(number) if number > 0 else type(error).__name__
        return Failure(f"cannot be reached ({why})", unconnected=True)
    if isinstance(error, aiohttp.ClientError | httpx2.TransportError | OSError):
        return Failure(f"broke the connection off ({type(error).__name__})")
    if isinstance(error, msgspec.DecodeError | UnicodeDecodeError):
        return Failure("answered with something other than a chat completion")
    return None


def _said(body: str) -> str:
    """What the endpoint itself says is wrong, in short and without secrets; nothing if it is a web page."""
    found = re.search(r'"(?:message|detail|error)"\s*:\s*"((?:[^"\\]|\\.)+)"', body)
    return f": {without_secrets(found[1])}" if found and not body.lstrip().startswith("<") else ""


def asked_wait(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks its client to wait before the next request; None if it does not.

    `Retry-After` counts on 429 and 503, as seconds or as a date; a date is read against the server's own `Date`
    where it sends one, because clocks differ. `RateLimit` counts on any response once nothing is left (`r=0`).

    >>> asked_wait(429, {"retry-after": "7"}), asked_wait(200, {"ratelimit": '"api";r=0;t=5'})
    (7.0, 5.0)
    >>> asked_wait(200, {"ratelimit": '"api";r=9;t=5'})
    >>> asked_wait(429, {"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"})
    """
    limits = _RATE_LIMIT.findall(headers.get("ratelimit", ""))
    waits = [float(reset) for remaining, reset in limits if int(remaining) == 0]
    after = headers.get("retry-after", "").strip() if status in ASKED_TO_WAIT else ""
    if after.isdecimal():
        waits.append(float(after))
    elif moment := parsedate_tz(after):
        now = parsedate_tz(headers.get("date", ""))
        with suppress(ValueError, OverflowError):  # a date that no calendar has
            waits.append(max(0.0, mktime_tz(moment) - (mktime_tz(now) if now else time.time())))
    return max(waits, default=None)


def backoff(failures: int) -> float:
    """Seconds before the next try: 0.5, doubled with each failure, times 1 to 2 at random, at most a minute.

    The random factor keeps requests that failed together from coming back together.
    """
    return min(2.0 ** min(failures - 2, 30) * (1 + random.random()), MAX_BACKOFF_S)
