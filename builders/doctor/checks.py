"""What the doctor tries: server, key, model, real requests, the longest prompt, the speed."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from itertools import cycle, islice
from statistics import median
from typing import Any, Literal

import aiohttp
import msgspec
from msgspec import Struct

from builders.answers import problem_of
from builders.doctor.first_requests import Requests
from builders.llm.completion import is_same_model
from builders.llm.config import LlmConfig
from builders.llm.failures import Failure, failure_of
from builders.llm.ledger import Account, bytes_of, tokens_of
from builders.llm.messages import ChatAnswer, ChatRequest, answer_of, body_of
from builders.llm.posting import PostingClient, StatusError
from foils.errors import UserError
from foils.words import listed, shortened

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
    status: Literal["ok", "warning", "failed", "not tried"]
    found: str


class Reply(Struct, frozen=True):
    """What came of a call: an answer and the name of the model that gave it, or a failure."""

    answer: ChatAnswer | None = None
    model: str | None = None
    failure: Failure = Failure("")


class Probe:
    """One endpoint under examination.

    Args:
        client: of the endpoint.
        llm: the recipe's `[llm]`, with time-outs for probes.
        requests: what the recipe asks.

    Attributes:
        account: of the probe's own calls.
    """

    def __init__(self, client: PostingClient, llm: LlmConfig, requests: Requests) -> None:
        self.account = Account(llm.prices)
        self._client, self._llm, self._requests = client, llm, requests

    async def findings(self) -> AsyncIterator[Finding]:
        """All checks, in the order of the table."""
        models: list[str] = []
        status = None
        try:
            if self._client.endpoint.base_url is not None:
                page = await self._client.read(f"{self._client.endpoint.base_url.rstrip('/')}/models")
                models = [entry.id for entry in msgspec.json.decode(page, type=_Page).data]
        except StatusError as error:
            status = error.status
        except (aiohttp.ClientError, OSError) as error:
            problem = (failure_of(error) or Failure(type(error).__name__)).words
            yield Finding("reachable", "failed", f"{problem} -> check llm.base_url, and that the server runs there")
            return
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # it answers, which is all that matters here
        yield Finding("reachable", "ok", f"lists {len(models)} models" if models else "answers, and lists no models")
        replies = [await self._ask(request) for request in self._requests.requests[:FIRST_TRIES]]
        has_answered = any(reply.answer is not None for reply in replies)
        yield self._key(replies, has_answered, status)
        yield self._model(replies, models)
        yield self._answers(replies)
        if has_answered or replies[0].failure.of_request:
            yield await self._longest_prompt()
        if has_answered:
            yield await self._speed()

    def _key(self, replies: Sequence[Reply], has_answered: bool, listing_status: int | None) -> Finding:
        env = self._llm.api_key_env
        if has_answered:
            return Finding("key", "ok", "none is needed" if env is None else f"the key in {env} is taken")
        refused = [
            each for each in (*(reply.failure.status for reply in replies), listing_status) if each in KEY_REFUSED
        ]
        if not refused:
            return Finding("key", "not tried", f"no answer: {replies[0].failure.words}")
        if env is None:
            found = ", and the recipe names no key -> set llm.api_key_env to the variable that holds the key"
        else:
            found = f" to the key in {env} -> check its value, or name another in llm.api_key_env"
        return Finding("key", "failed", f"answered {refused[0]}{found}")

    def _model(self, replies: Sequence[Reply], models: Sequence[str]) -> Finding:
        endpoint = self._client.endpoint
        asked, answered = endpoint.served_model, next((reply.model for reply in replies if reply.model), None)
        if self._llm.is_embedded:
            return Finding("model", "ok", f"{self._llm.model}, served for this run")
        if answered is not None and endpoint.provider is None:
            if any(is_same_model(name, answered) for name in (asked, self._llm.answers_as or "-")):
                return Finding("model", "ok", f"{asked} answers as {answered}")
            found = f"asked for {asked}, and {answered} answered -> set llm.model to that, or llm.answers_as = "
            return Finding("model", "failed", f"{found}{answered!r} if it is the same model under another name")
        if models and not any(is_same_model(asked, model) for model in models):
            found = f"{asked} is not served: {listed(models, MOST_LISTED)} -> set llm.model to one of them"
            return Finding("model", "failed", found)
        return Finding("model", "ok", f"{asked} is listed" if models else f"{asked}; no list to look it up in")

    def _answers(self, replies: Sequence[Reply]) -> Finding:
        """Whether the first requests of the recipe are answered so that the stage can use it."""
        tried = list(zip(self._requests.tasks, replies, strict=False))
        outcomes = [reply.failure.words if reply.answer is None else task.take(reply.answer) for task, reply in tried]
        reasons = [reason for reason in outcomes if reason is not None]
        table = self._requests.table
        found = f"{len(replies) - len(reasons)} of {len(replies)} usable"
        answers = [reply.answer for reply in replies if reply.answer is not None]
        if answers:
            read, written = answers[0].prompt_tokens, answers[0].completion_tokens
            uncounted = "tokens are not counted, so cost and budget are guessed from bytes"
            counted = uncounted if read is None or written is None else f"{read} tokens read, {written} written"
            found += f", the first: {quoted(answers[0].text)}; {counted}"
        if reasons:
            found += f"; not: {', '.join(reasons)}"
        if "only-reasoning" in reasons:
            found += f" -> a reasoning model: set llm.thinking to false, or to true with a larger {table}.max_tokens"
        elif "cut" in reasons:
            found += f" -> set {table}.max_tokens higher"
        elif reasons:
            found += f" -> unusable answers are asked for again and then dropped: another model or {table}.prompt"
        if len(reasons) < len(replies):
            return Finding("answers", "ok", found)
        says_something = any(problem_of(answer) is None for answer in answers)
        return Finding("answers", "warning" if says_something else "failed", found)

    async def _longest_prompt(self) -> Finding:
        """Whether the longest prompt of the recipe fits, with its answer."""
        request, stage = self._requests.longest, self._requests.longest_stage
        reply = await self._ask(request)
        what = f"{stage}, {bytes_of(request.messages):,} bytes and {request.max_tokens} tokens to write"
        if reply.answer is not None:
            return Finding("longest prompt", "ok", f"{what}: {reply.answer.prompt_tokens or 'unknown'} tokens, fits")
        problem = reply.failure.words
        if not _ABOUT_LENGTH.search(problem):
            return Finding("longest prompt", "warning", f"{what}: {problem}")
        table = stage if stage == self._requests.table else f"negatives.{stage}"
        advice = f"lower passage_chars or max_tokens of [{table}], or start the server with a larger context"
        return Finding("longest prompt", "failed", f"{what}: {problem} -> {advice}")

    async def _speed(self) -> Finding:
        """How fast the recipe's concurrency is served."""
        at_once = min(self._llm.concurrency, MOST_AT_ONCE)
        waiting = enumerate(islice(cycle(self._requests.requests), 2 * at_once))
        answers: list[ChatAnswer] = []
        failed: list[str] = []
        tokens = 0

        async def work() -> None:
            nonlocal tokens
            for number, request in waiting:
                # Each has a seed of its own: a server would have a repeated request in its cache.
                reply = await self._ask(msgspec.structs.replace(request, seed=request.seed ^ (1 + number)))
                if reply.answer is not None:
                    answers.append(reply.answer)
                    tokens += tokens_of(reply.answer, bytes_of(request.messages))[1]
                elif not reply.failure.of_request:  # one passage that is refused is not a sign of overload
                    failed.append(reply.failure.words)
                    return

        started = time.monotonic()
        try:
            async with asyncio.timeout(LONGEST_SPEED_S):
                await asyncio.gather(*(work() for _ in range(at_once)))
        except TimeoutError:
            failed.append(f"stopped after {LONGEST_SPEED_S:.0f} s")
        seconds = max(time.monotonic() - started, 1e-6)
        found = f"{at_once} at once: {len(answers) / seconds:.2f} calls/s, {tokens / seconds:.1f} tokens/s"
        found += f", median {median(answer.seconds for answer in answers):.2f} s" if answers else ""
        if failed:
            return Finding("speed", "warning", f"{found}; {failed[0]} -> try a lower llm.concurrency")
        return Finding("speed", "ok", found)

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
    printable = "".join(letter if letter.isprintable() or letter.isspace() else "?" for letter in text)
    return f'"{shortened(printable, LONGEST_QUOTE)}"'
