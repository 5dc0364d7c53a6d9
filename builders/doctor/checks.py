"""What the doctor tries: server, key, model, real requests, JSON, the longest prompt, the speed."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count, islice
from statistics import median
from typing import Any, Literal

import aiohttp
import msgspec
from msgspec import Struct

from builders.answers import problem_of, texts_of
from builders.doctor.first_requests import Requests
from builders.llm.completion import is_same_model
from builders.llm.config import LlmConfig
from builders.llm.failures import Failure, failure_of
from builders.llm.ledger import Account, bytes_of, tokens_of
from builders.llm.messages import ChatAnswer, ChatRequest, Endpoint, answer_of, body_of
from builders.llm.posting import PostingClient, StatusError
from foils.errors import UserError

Status = Literal["ok", "warning", "failed", "not tried"]
FIRST_TRIES = 3
LONGEST_PROBE_S, LONGEST_SPEED_S = 30.0, 60.0
MOST_AT_ONCE = 64
MOST_LISTED, LONGEST_QUOTE = 8, 90
KEY_REFUSED = frozenset({401, 403})
_ABOUT_LENGTH = re.compile(r"context|token|length|too (?:long|large)", re.IGNORECASE)


class _Entry(Struct):
    id: str


class _Page(Struct):
    """A list of models."""

    data: list[_Entry]


class Finding(Struct, frozen=True):
    """One row of the table.

    Attributes:
        name: what was checked.
        status: `failed` if a build would fail because of it; `not tried` if another row is the reason.
        found: what was seen, and behind `->` what to do about it.
    """

    name: str
    status: Status
    found: str


class Reply(Struct, frozen=True):
    """What came of a call: an answer and the name of the model that gave it, or a failure."""

    answer: ChatAnswer | None = None
    model: str | None = None
    failure: Failure | None = None

    @property
    def problem(self) -> str:
        """Why there is no answer, in words."""
        return self.failure.words if self.failure is not None else ""

    @property
    def is_objection(self) -> bool:
        """Whether the endpoint objects to this request: a long prompt or a schema, say."""
        return self.failure is not None and self.failure.of_request


class Probe:
    """One endpoint under examination.

    Args:
        client: of the endpoint.
        llm: the recipe's `[llm]`, with time-outs for probes.
        endpoint: where it is.
        requests: what the recipe asks.
    """

    def __init__(self, client: PostingClient, llm: LlmConfig, endpoint: Endpoint, requests: Requests) -> None:
        self.account = Account(llm.prices)
        self._client, self._llm, self._endpoint, self._requests = client, llm, endpoint, requests

    async def findings(self) -> AsyncIterator[Finding]:
        """All checks, in the order of the table."""
        listed, problem, status = await self._listed()
        yield self._reachable(listed, problem)
        if problem is not None:
            return
        replies = [await self._ask(request) for request in self._requests.requests[:FIRST_TRIES]]
        yield self._key(replies, status)
        yield self._model(replies, listed)
        yield self._answers(replies)
        if all(reply.answer is None for reply in replies) and not replies[0].is_objection:
            return
        yield await self._json()
        yield await self._longest_prompt()
        if any(reply.answer is not None for reply in replies):
            yield await self._speed()

    async def _listed(self) -> tuple[list[str], str | None, int | None]:
        """The models that the server lists, why it cannot be reached at all, and the status of a refusal."""
        if self._endpoint.base_url is None:
            return [], None, None
        url = f"{self._endpoint.base_url.rstrip('/')}/models"
        try:
            page = msgspec.json.decode(await self._client.read(url, self._llm.timeout_s), type=_Page)
            return [entry.id for entry in page.data], None, None
        except StatusError as error:
            return [], None, error.status
        except (msgspec.DecodeError, UnicodeDecodeError):  # it answers, which is all that matters here
            return [], None, None
        except (aiohttp.ClientError, OSError) as error:
            failure = failure_of(error)
            return [], failure.words if failure is not None else type(error).__name__, None

    def _reachable(self, listed: list[str], problem: str | None) -> Finding:
        if problem is not None:
            return Finding("reachable", "failed", f"{problem} -> check llm.base_url, and that the server runs there")
        return Finding("reachable", "ok", f"lists {len(listed)} models" if listed else "answers, and lists no models")

    def _key(self, replies: list[Reply], listing_status: int | None) -> Finding:
        env = self._llm.api_key_env
        statuses = [reply.failure.status for reply in replies if reply.failure is not None]
        refused = [status for status in (*statuses, listing_status) if status in KEY_REFUSED]
        if any(reply.answer is not None for reply in replies):
            return Finding("key", "ok", "none is needed" if env is None else f"the key in {env} is taken")
        if not refused:
            return Finding("key", "not tried", f"no answer: {replies[0].problem}")
        if env is None:
            found = ", and the recipe names no key -> set llm.api_key_env to the variable that holds the key"
        else:
            found = f" to the key in {env} -> check its value, or name another in llm.api_key_env"
        return Finding("key", "failed", f"answered {refused[0]}{found}")

    def _model(self, replies: list[Reply], listed: list[str]) -> Finding:
        asked, answered = self._endpoint.served_model, next((reply.model for reply in replies if reply.model), None)
        served = f"served: {', '.join(listed[:MOST_LISTED])}{', ...' * (len(listed) > MOST_LISTED)}"
        names = (asked, self._llm.answers_as or "-")
        if self._llm.is_embedded:
            return Finding("model", "ok", f"{self._llm.model}, served for this run")
        if answered is not None and self._endpoint.provider is None:
            if any(is_same_model(name, answered) for name in names):
                return Finding("model", "ok", f"{asked} answers as {answered}")
            found = f"asked for {asked}, and {answered} answered -> set llm.model to that, or llm.answers_as = "
            return Finding("model", "failed", f"{found}{answered!r} if it is the same model under another name")
        if listed and not any(is_same_model(asked, one) for one in listed):
            return Finding("model", "failed", f"{asked} is not {served} -> set llm.model to one of them")
        return Finding("model", "ok", f"{asked} is listed" if listed else f"{asked}; no list to look it up in")

    def _answers(self, replies: list[Reply]) -> Finding:
        """Whether the first requests of the recipe are answered so that the stage can use it."""
        reasons, table = [], self._requests.table
        shown = ""
        for task, reply in zip(self._requests.tasks, replies, strict=False):
            reason = reply.problem if reply.answer is None else task.take(reply.answer)
            if reason is not None:
                reasons.append(reason)
            if reply.answer is not None and not shown:
                read, written = reply.answer.prompt_tokens, reply.answer.completion_tokens
                counted = "tokens are not counted, so cost and budget are guessed from bytes"
                if read is not None and written is not None:
                    counted = f"{read} tokens read, {written} written"
                shown = f", the first: {quoted(reply.answer.text)}; {counted}"
        found = f"{len(replies) - len(reasons)} of {len(replies)} usable{shown}"
        found += f"; not: {', '.join(reasons)}" if reasons else ""
        if "only-reasoning" in reasons:
            found += f" -> a reasoning model: set llm.thinking to false, or to true with a larger {table}.max_tokens"
        elif "cut" in reasons:
            found += f" -> set {table}.max_tokens higher"
        elif reasons:
            found += f" -> unusable answers are asked for again and then dropped: another model or {table}.prompt"
        if len(reasons) < len(replies):
            return Finding("answers", "ok", found)
        says_something = any(reply.answer is not None and problem_of(reply.answer) is None for reply in replies)
        return Finding("answers", "warning" if says_something else "failed", found)

    async def _json(self) -> Finding:
        """Whether answers in JSON can be had, by the schema and the prompt."""
        reply = await self._ask(self._requests.as_json)
        is_wanted = self._requests.requests[0].schema is not None
        if reply.answer is not None and texts_of(reply.answer, 1, as_json=True)[1] is None:
            return Finding("JSON", "ok", 'the answer is JSON: output = "json" can be used')
        why = reply.problem or f"the answer is not: {quoted(reply.answer.text if reply.answer is not None else '')}"
        if not is_wanted:
            return Finding("JSON", "ok", f'{why}; keep output = "text"')
        other = "tgi" if self._llm.server == "openai" else "openai"
        keep = f'set {self._requests.table}.output to "text", or llm.server to "{other}"'
        return Finding("JSON", "failed", f"{why} -> {keep}, whose form of schema it may take")

    async def _longest_prompt(self) -> Finding:
        """Whether the longest prompt of the recipe fits, with its answer."""
        request, stage = self._requests.longest, self._requests.longest_stage
        reply = await self._ask(request)
        what = f"{stage}, {bytes_of(request.messages):,} bytes and {request.max_tokens} tokens to write"
        if reply.answer is not None:
            return Finding("longest prompt", "ok", f"{what}: {reply.answer.prompt_tokens or 'unknown'} tokens, fits")
        if not _ABOUT_LENGTH.search(reply.problem):
            return Finding("longest prompt", "warning", f"{what}: {reply.problem}")
        table = stage if stage == self._requests.table else f"negatives.{stage}"
        advice = f"lower passage_chars or max_tokens of [{table}], or start the server with a larger context"
        return Finding("longest prompt", "failed", f"{what}: {reply.problem} -> {advice}")

    async def _speed(self) -> Finding:
        """How fast the recipe's concurrency is served."""
        at_once = min(self._llm.concurrency, MOST_AT_ONCE)
        waiting = iter(list(islice(self._endless(), 2 * at_once)))
        answers: list[tuple[ChatRequest, ChatAnswer]] = []
        failed: list[str] = []

        async def work() -> None:
            for request in waiting:
                reply = await self._ask(request)
                if reply.answer is not None:
                    answers.append((request, reply.answer))
                elif not reply.is_objection:  # one passage that is refused is not a sign of overload
                    failed.append(reply.problem)
                    return

        started = time.monotonic()
        try:
            async with asyncio.timeout(LONGEST_SPEED_S):
                await asyncio.gather(*(work() for _ in range(at_once)))
        except TimeoutError:
            failed.append(f"stopped after {LONGEST_SPEED_S:.0f} s")
        seconds = max(time.monotonic() - started, 1e-6)
        tokens = sum(tokens_of(answer, bytes_of(request.messages))[1] for request, answer in answers)
        found = f"{at_once} at once: {len(answers) / seconds:.2f} calls/s, {tokens / seconds:.1f} tokens/s"
        found += f", median {median(answer.seconds for _, answer in answers):.2f} s" if answers else ""
        if failed:
            return Finding("speed", "warning", f"{found}; {failed[0]} -> try a lower llm.concurrency")
        return Finding("speed", "ok", found)

    def _endless(self) -> Iterator[ChatRequest]:
        """Requests of the recipe, each with a seed of its own: a server would have a repeated one in its cache."""
        requests = self._requests.requests
        for number in count():
            request = requests[-1 - number % len(requests)]
            yield msgspec.structs.replace(request, seed=request.seed ^ (1 + number // len(requests)))

    async def _ask(self, request: ChatRequest) -> Reply:
        """Makes one call, which is not stored; a failure is a reply too."""
        started = time.monotonic()
        try:
            raw: dict[str, Any] = await self._client.complete(body_of(request, self._llm))
        except UserError as error:
            return Reply(failure=Failure(str(error), refused=True))
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            return Reply(failure=failure)
        answer = answer_of("", {**raw, "seconds": time.monotonic() - started, "ended": time.time()})
        self.account.add(answer, new=True, prompt_bytes=bytes_of(request.messages))
        return Reply(answer, raw.get("model"))


def quoted(text: str) -> str:
    r"""What a server wrote, shortened, on one line and without what would move a terminal's cursor.

    >>> quoted("one\ntwo\x1b[2J")
    '"one two?[2J"'
    """
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return f'"{line}"' if len(line) <= LONGEST_QUOTE else f'"{line[:LONGEST_QUOTE].rstrip()}..."'
