"""Scripted faults: errors, slowness and broken connections, for the requests that a test picks."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.responses import JSONResponse, Response


@dataclass
class Request:
    """What the Hub recorded of one request. `status` is None until it is answered, and stays so if it never was."""

    method: str
    path: str  # as sent: still quoted, without the query
    status: int | None = None
    token_user: str | None = None  # whose Hub token came along
    query: str = ""
    host: str = ""  # the API is at 127.0.0.1, files lie at localhost
    authorized: bool = False  # an Authorization header came along, of whatever kind


@dataclass
class Fault:
    """What happens to the requests that match.

    Attributes:
        status: Answer with this status, and do nothing else. None: answer as usual, after delay and action.
        method: The method to match, None for any.
        path: Regular expression, searched in the path as sent (quoted, no query).
        times: How many requests are hit; `math.inf` for all.
        after: How many matching requests pass unharmed before.
        headers: Headers of the answer, such as `Retry-After`.
        body: Body of the answer: text, bytes, or something to write as JSON.
        delay_s: Seconds to wait first.
        cut: True breaks the connection without an answer; "after" does the work first.
        action: Called before the request is handled, in a thread, so it may use the Hub itself.
        seen: How many requests matched so far.
        fired: How many were hit so far.
    """

    status: int | None = None
    method: str | None = None
    path: str = ""
    times: float = 1
    after: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    delay_s: float = 0.0
    cut: bool | str = False
    action: Callable[[], object] | None = None
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def __post_init__(self):
        if self.cut not in (False, True, "after"):
            raise ValueError(f"cut={self.cut!r}: expected False, True or 'after'")
        if self.status is None and not (self.delay_s or self.cut or self.action):
            raise ValueError("a fault that does nothing: give a status, delay_s, cut or action")
        re.compile(self.path)

    def matches(self, request: Request) -> bool:
        return self.method in (None, request.method) and re.search(self.path, request.path) is not None

    def act(self) -> None:
        if self.action is not None:
            self.action()

    def answer(self) -> Response:
        body = self.body
        if body is None:
            body = {"error": HTTPStatus(self.status).phrase}
        if isinstance(body, str | bytes):
            return Response(body, self.status, dict(self.headers), media_type="text/html")
        return JSONResponse(body, self.status, dict(self.headers))


class Faults:
    """The faults that wait for their requests."""

    def __init__(self):
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Scripts a fault and returns it, so that a test can look at its counts."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def hit(self, request: Request) -> Fault | None:
        """The fault that hits this request: the first one added that has not run out."""
        chosen = None
        with self._lock:
            for fault in self._faults:
                if not fault.matches(request):
                    continue
                fault.seen += 1
                if chosen is None and fault.seen > fault.after and fault.fired < fault.times:
                    fault.fired += 1
                    chosen = fault
        return chosen
