"""What a request that failed means: whose fault it is, and for how long the endpoint asks to wait."""

import html
import json
import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from http import HTTPStatus
from http.client import responses
from typing import Any

import aiohttp
import httpx2

from foils.errors import scrub

MAX_BACKOFF_S = 60.0
_LONGEST_PROBLEM, _SHORTEST_SECRET = 200, 6  # characters
ASKED_TO_WAIT = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_LATER = frozenset({HTTPStatus.OK, 408, 409, 424, 425, 429})
"""What may be answered at another time, as all above 500 may."""
_FOR_ALL = frozenset({401, 402, 404, 405, 407})
"""What concerns the account or the address, and so every request."""
_HINTS = {401: "key refused", 404: "no such address or model"}
_RATE_LIMIT = re.compile(r'"[^"]*"\s*;\s*r\s*=\s*(\d+)\s*;\s*t\s*=\s*(\d+)')
_STATUS = re.compile(r'"(?:code|status|status_code)"\s*:\s*"?([45]\d\d)\b')
_CODE = re.compile(r'"(?:code|type)"\s*:\s*"([^"]*)"')
_SPENT = re.compile(
    r"insufficient[_ ](?:quota|funds|balance|credits?)|billing_(?:hard_limit|not_active)|credit balance is too low"
    r"|out of credits|exceeded your (?:current quota|monthly)(?!.*retry)",
    re.IGNORECASE | re.DOTALL,
)
"""Money or a quota that waiting does not bring back. Gemini calls a rate limit a quota too, and says when to retry."""
_SAYS = re.compile(
    r"(?:message|msg|details?|errors?|(?:finish_)?reasons?|raw|title|(?:error_)?description|faultstring)", re.IGNORECASE
)
"""Names under which endpoints say what is wrong."""


@dataclass(eq=False)
class CallError(Exception):
    """A request that failed.

    Attributes:
        words: what happened, and behind a colon what the endpoint says of it; no URL's query, header or secret.
        status: the HTTP status, or None where there was no answer.
        refused: the endpoint will not answer this request, however often it is sent.
        for_all: nor any other: wrong key, address or model, or the money is spent.
        pushed_back: too many requests at once may be the reason: 429, 503, or no answer in time, by any clock.
        unconnected: not even a connection was made.
    """

    words: str
    status: int | None = None
    refused: bool = False
    for_all: bool = False
    pushed_back: bool = False
    unconnected: bool = False

    @property
    def spent(self) -> bool:
        """Whether money or a quota is used up."""
        return self.for_all and (self.status or 0) >= HTTPStatus.BAD_REQUEST and self.status not in _FOR_ALL - {402}

    @property
    def brief(self) -> str:
        """What happened in Foils's own words, which do not differ from one time to the next."""
        return self.words.partition(": ")[0]


CONNECTION_ERRORS = (aiohttp.ClientError, httpx2.TransportError, OSError)


def unanswered(error: Exception) -> CallError:
    """What one of `CONNECTION_ERRORS` means."""
    if isinstance(error, TimeoutError):  # `InferenceTimeoutError` is one
        return CallError("did not answer in time", pushed_back=True)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL | httpx2.ConnectError | httpx2.ProxyError):
        number = getattr(getattr(error, "os_error", None), "errno", None) or 0
        why = os.strerror(number) if number > 0 else type(error).__name__
        return CallError(f"cannot be reached ({why})", unconnected=True)
    return CallError(f"broke the connection off ({type(error).__name__})")


def answered_badly(status: int, headers: Mapping[str, str], body: str) -> CallError:
    """What an answer means that has no completion in it."""
    if status == HTTPStatus.OK and (code := _STATUS.search(body)):  # routers send errors so
        status = int(code[1])
    said = _said(body)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        to = re.fullmatch(r"(\w+://)?(?:[^/@]*@)?(.*?)(/[^?]*)?(\?.*)?", headers.get("location", ""), re.DOTALL)
        said = f"it sends requests on to {to[1] or ''}{to[2]}{without_secrets(to[3] or '')}" if to else ""
    words = "answered with something other than a chat completion"
    if status != HTTPStatus.OK:
        words = f"answered {status} ({_HINTS.get(status) or responses.get(status, 'error')})"
    own_words = " ".join([said, *_CODE.findall(body)])  # and not those of a request that it repeats
    is_too_large = "request too large" in said.lower()  # for a limit a minute, and so in every minute
    is_spent = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and bool(_SPENT.search(own_words))
    for_all = status in _FOR_ALL or HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST or is_spent
    return CallError(
        f"{words}: {said}" if said else words,
        status=status,
        refused=for_all or ((status not in _LATER or is_too_large) and status < HTTPStatus.INTERNAL_SERVER_ERROR),
        for_all=for_all,
        pushed_back=status in {408, 429, 503, 504},
    )


def _said(body: str) -> str:
    """What an endpoint itself says is wrong, in short and without secrets, whether in JSON, HTML or plain text.

    >>> _said('{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}')
    'body.seed: Extra inputs are not permitted'
    >>> _said("<html><style>p {}</style><h1>Bad Gateway</h1></html>"), _said("busy")
    ('Bad Gateway', 'busy')
    """
    try:
        body = "; ".join(dict.fromkeys(_sayings(json.loads(body)))) or body
    except (RecursionError, ValueError):
        if body.lstrip().startswith("<"):
            body = html.unescape(re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", " ", body))
    return without_secrets(body.strip())


def _sayings(value: Any, name: str = "") -> Iterator[str]:
    """The texts under names that explain, at any depth."""
    if isinstance(value, str) and _SAYS.fullmatch(name) and value:
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _sayings(each, name)
    elif isinstance(value, dict) and {"loc", "msg"} <= value.keys():  # FastAPI's list of what a body must not have
        place = value["loc"] if isinstance(value["loc"], list) else [value["loc"]]
        yield f"{'.'.join(map(str, place))}: {value['msg']}"
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _sayings(each, key)


def without_secrets(problem: str) -> str:
    """A failure in short, without addresses (they may hold credentials), keys and tokens.

    >>> without_secrets("POST https://me:pass@host/v1?key=1: answered 401, Bearer sk-abc refused")
    'POST (address) answered 401, Bearer *** refused'
    """
    for name, value in os.environ.items():
        if re.search(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", name) and len(value) >= _SHORTEST_SECRET:
            problem = problem.replace(value, "***")
    problem = re.sub(r"\S*://\S+|\S+:\S+@\S+", "(address)", scrub(problem))
    problem = re.sub(
        r"(?i)\b((?:proxy-)?authorization|(?:\w+[-_ ])?(?:api[-_ ]?key|token|secret)|password)\b[\"']?\s*[:=]\s*"
        r"(?:(?:bearer|basic)\s+)?\S+",
        r"\1 ***",
        problem,
    )
    problem = re.sub(r"(?i)\b(bearer|basic)\s+\S+", r"\1 ***", problem)
    problem = re.sub(r"\b(?:sk|pk|hf|gsk|xai|nvapi|ghp|r8)[-_]\S+", "***", problem)
    problem = re.sub(r"(?=[\w+/=.-]*\d)(?=[\w+/=.-]*[A-Za-z])[\w+/=.-]{24,}", "***", problem)
    printable = "".join(letter if letter.isprintable() else " " for letter in problem)
    return " ".join(printable.split())[:_LONGEST_PROBLEM]


def asked_wait(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks its client to wait before the next request; None if it does not.

    `Retry-After` counts on 429 and 503, as seconds or as a date; a date is read against the server's own `Date`
    where it sends one, because clocks differ. `RateLimit` counts on any response once nothing is left (`r=0`).

    >>> asked_wait(429, {"retry-after": "7"}), asked_wait(200, {"ratelimit": '"api";r=0;t=5'})
    (7.0, 5.0)
    >>> asked_wait(200, {"ratelimit": '"api";r=9;t=5'})
    >>> asked_wait(429, {"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"})
    """
    if status not in ASKED_TO_WAIT and "ratelimit" not in headers:
        return None
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
