"""The doctor's visit to one address: pages that it reads there, calls that it makes, and what those cost.

Every probe has a time-out of its own, and nothing is stored.
"""

import os
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, Self

import httpx2
import msgspec
from msgspec import Struct

from builders.llm.chat import ChatAnswer, ChatRequest, Endpoint, Task, answer_of, body_of
from builders.llm.config import LlmConfig
from builders.llm.ledger import Account, bytes_of
from builders.llm.lines import api_key, open_line
from builders.llm.pressure import Failure, failure_of
from builders.llm.transport import EXCHANGE, Exchange, http_client
from builders.llm.wires import WIRES, Line, Server
from builders.negatives.llm import LlmNegativesConfig
from builders.recipe import BuildRecipe, QueriesConfig
from builders.scores.llm_judge import LlmJudgeConfig
from foils.errors import UserError

LONGEST_PROBE_S = 30.0
LONGEST_GLANCE_S = 5.0
MOST_LATE = 2


class Case(NamedTuple):
    """What the recipe asks of an endpoint.

    Attributes:
        recipe: the recipe.
        tasks: the first tasks of the build, one at least: queries, or negatives or pairs for labelled queries.
        requests: what each of them asks first.
        table: the recipe's table that says how they are asked for, such as `queries`.
        asking: that table.
        as_text: the first task's request, made for an answer that is no JSON; likewise `as_json`.
        longest: the largest request that the build can make.
        longest_stage: which stage makes that.
        longest_shown: characters of the passage in it, 0 if there is none.
    """

    recipe: BuildRecipe
    tasks: Sequence[Task]
    requests: list[ChatRequest]
    table: str
    asking: QueriesConfig | LlmNegativesConfig | LlmJudgeConfig
    as_text: ChatRequest
    as_json: ChatRequest
    longest: ChatRequest
    longest_stage: str
    longest_shown: int


class Page(NamedTuple):
    """What a GET found.

    Attributes:
        status: the HTTP status; 0 if there was no answer.
        value: the decoded JSON object; empty if it was none.
        headers: the answer's, names in lower case.
        problem: why there was no answer.
        seconds: how long it took.
    """

    status: int
    value: Mapping[str, Any]
    headers: Mapping[str, str]
    problem: str | None
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether there is a JSON object."""
        return self.status == HTTPStatus.OK and bool(self.value)


class Reply(Struct, frozen=True):
    """What came of a call: an answer and the name of the model that gave it, or a failure."""

    answer: ChatAnswer | None = None
    model: str | None = None
    failure: Failure | None = None

    @property
    def problem(self) -> str:
        """Why there is no answer, in words."""
        return self.failure.words if self.failure is not None else ""


class Headers:
    """Collects what answers tell of limits."""

    def __init__(self) -> None:
        self.limits: dict[str, str] = {}

    def heard(self, status: int, headers: Mapping[str, str]) -> None:  # noqa: ARG002 - a `Watch`
        """Notes the headers of one answer."""
        for name, value in headers.items():
            if "ratelimit" in name.lower().replace("-", "").replace("_", "") or name.lower() == "retry-after":
                self.limits[name.lower()] = value


class Visit:
    """One address, and what is known of it so far.

    Attributes:
        case: what the recipe asks.
        endpoint: the address.
        llm: the recipe's `[llm]`, with time-outs for probes.
        account: what the doctor's calls cost.
        headers: limits that answers told.
        key_problem: why there is no key to send.
        pages: what the server tells of itself, by path; empty for a provider.
        first: the first reply, that of `first_task`; a failure if no task got an answer.
        first_task: which of the tasks that was.
        kind: the kind of server, where it can be told.
        best_level: calls at once that served best, 0 if that is not known.
        late: calls without an answer in time.
        failed: names of the checks that failed.
    """

    def __init__(self, case: Case, endpoint: Endpoint, account: Account) -> None:
        self.case = case
        self.endpoint = endpoint
        self.account = account
        self.headers = Headers()
        self.key_problem: str | None = None
        self.pages: dict[str, Page] = {}
        self.first = Reply()
        self.first_task = 0
        self.kind: Server | None = None
        self.best_level = 0
        self.late = 0
        self._late = 0  # the same, in a row
        self.failed: list[str] = []
        llm = case.recipe.llm
        self.llm = msgspec.structs.replace(llm, timeout_s=min(llm.timeout_s, LONGEST_PROBE_S))
        self._http = http_client()
        self._key_header: dict[str, str] = {}
        self._line: Line | None = None
        try:
            self._key_header = {"authorization": f"Bearer {api_key(llm)}"}
            self._line = open_line(self.llm, endpoint)
        except UserError as error:
            self.key_problem = str(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        if self._line is not None:
            await self._line.client.close()  # type: ignore[no-untyped-call]

    @property
    def root(self) -> str:
        """The server's root: the address without its `/v1`."""
        return (self.endpoint.base_url or "").rstrip("/").removesuffix("/v1")

    @property
    def is_away(self) -> bool:
        """Whether the address could not be reached at all."""
        return "models" in self.pages and self.pages["models"].problem is not None

    @property
    def first_request(self) -> ChatRequest:
        """The request that `first` replies to."""
        return self.case.requests[self.first_task]

    @property
    def is_slow(self) -> bool:
        """Whether the last calls had no answer in time."""
        return self._late >= MOST_LATE

    @property
    def blocked(self) -> str | None:
        """Why calls need not be tried; None if they can be."""
        if self.is_away:
            return "the address cannot be reached"
        if self.key_problem is not None:
            return "there is no key to send"
        if self.first.answer is None:
            return f"the first request got no answer: {self.first.problem}"
        if self.is_slow:
            return f"{self._late} calls before took more than {self.llm.timeout_s:g} s"
        return None

    async def get(self, name: str, url: str, seconds: float = LONGEST_GLANCE_S) -> Page:
        """Reads a page, and keeps it under a name; a failure is a page too."""
        # A context of its own: the last call's would take the body away.
        EXCHANGE.set(Exchange({}, self.headers, short=False))
        started = time.monotonic()
        try:
            answer = await self._http.get(url, headers=self._key_header, timeout=min(seconds, self.llm.timeout_s))
        except (httpx2.TransportError, httpx2.InvalidURL, OSError) as error:
            page = Page(0, {}, {}, reason_of(error), time.monotonic() - started)
        else:
            headers = {header.lower(): value for header, value in answer.headers.items()}
            page = Page(answer.status_code, _object(answer.content), headers, None, time.monotonic() - started)
        self.pages[name] = page
        return page

    async def ask(self, request: ChatRequest, **changes: Any) -> Reply:
        """Makes one call, with the recipe's `[llm]` changed as said; a failure is a reply too."""
        if self._line is None:
            return Reply(failure=Failure(self.key_problem or "no key"))
        llm: LlmConfig = msgspec.structs.replace(self.llm, **changes)
        started = time.monotonic()
        try:
            raw = await WIRES[llm.server].send(self._line, body_of(request, llm), self.headers)
        except UserError as error:
            return Reply(failure=Failure(str(error), refused=True))
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            self.late += is_late(failure)
            self._late = self._late + 1 if is_late(failure) else 0
            return Reply(failure=failure)
        self._late = 0
        seconds = time.monotonic() - started
        answer = answer_of("", {**raw, "seconds": seconds, "ended": time.time()})
        self.account.add(answer, new=True, prompt_bytes=bytes_of(request.messages))
        return Reply(answer, raw.get("model"))


def is_late(failure: Failure) -> bool:
    """Whether no answer came in time."""
    return failure.pushed_back and failure.status is None


def reason_of(error: Exception) -> str:
    """Why there was no answer, down to what the operating system says; without the address."""
    below = getattr(error.__cause__, "os_error", None)
    number = getattr(below, "errno", None) or 0  # asyncio's own words leave out what the number says
    told = os.strerror(number) if number > 0 else getattr(below, "strerror", None) or (str(below) if below else "")
    if isinstance(error, httpx2.TimeoutException):
        return "did not answer in time"
    failure = failure_of(error)
    words = failure.words if failure is not None else f"cannot be asked ({type(error).__name__})"
    return f"{words}: {told}" if told else words


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
