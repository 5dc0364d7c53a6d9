"""One request and its answer: looked up in the store, else paid for, sent, tried again, and stored before it is used.

What can be lost: `kill -9` loses the requests in flight and what has not been written yet, some 20 milliseconds' worth.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import msgspec

from builders.llm.completion import is_same_model
from builders.llm.config import LlmConfig
from builders.llm.endpoints import NO_KEY, api_key
from builders.llm.failures import Failure, backoff, failure_of
from builders.llm.ledger import Ledger, bytes_of, tokens_of
from builders.llm.limiter import GaveUpError, Limiter
from builders.llm.messages import ChatAnswer, ChatRequest, Endpoint, answer_of, body_of
from builders.llm.posting import PostingClient
from builders.llm.progress import Progress
from builders.llm.store import CallStore, keyed
from builders.llm.write_buffer import WriteBuffer
from foils.errors import UserError

logger = logging.getLogger(__name__)
T = TypeVar("T")

REFUSALS_IN_A_ROW, REFUSALS_AT_FIRST = 50, 5
"""Refusals without an answer between, from which on the endpoint and not the row is at fault; before any answer."""

Stored = dict[str, Any]
"""An answer as the store keeps it."""


class RefusedError(Exception):
    """The endpoint will not answer this request; the text says why."""


class Call(NamedTuple):
    """A request that has to be sent.

    Attributes:
        key: in the store.
        request: as the store keeps it.
        body: the same, see `body_of`.
        prompt_bytes: length of its messages.
    """

    key: str
    request: str
    body: dict[str, Any]
    prompt_bytes: int


class Caller:
    """Has requests answered, for the stages of one build after each other.

    Attributes:
        limiter: how many requests are in flight.
        is_stopping: nothing new is sent any more.
        sending: the rows whose request is in flight.
        storing: the rows whose answer is about to be stored.
        writes: answers on their way into the store.
    """

    def __init__(
        self,
        config: LlmConfig,
        store: CallStore,
        connect: Callable[[], Endpoint],
        ledger: Ledger,
        given: Mapping[str, Stored],
    ) -> None:
        self.limiter = Limiter(config.concurrency, config.down_after_s)
        self.is_stopping = False
        self.sending: set[asyncio.Task[Any]] = set()
        self.storing: set[asyncio.Task[Any]] = set()
        self._config, self._store, self._connect, self._ledger, self._given = config, store, connect, ledger, given
        self._endpoint: Endpoint | None = None
        self._secret = NO_KEY
        self._refusals = 0  # since the last answer

    @asynccontextmanager
    async def stage(self, name: str, progress: Progress) -> AsyncIterator[None]:
        """Makes ready for the calls of a stage; at the end all that was answered is written.

        Raises:
            UserError: at the end: answers could not be written.
        """
        self.is_stopping = False
        self.limiter.begin()
        self._stage, self._progress, self._account = name, progress, self._ledger.account(name)
        self.writes = WriteBuffer(self._store)
        self._client: PostingClient | None = None
        self._asked: dict[str, asyncio.Future[ChatAnswer]] = {}
        self._connecting, self._released = asyncio.Lock(), asyncio.Event()
        self._funded = 0  # calls with money set aside
        try:
            yield
        finally:
            lost = self.writes.write()
            if self._client is not None:
                await self._client.close()
        if lost is not None:
            raise lost

    def stored(self, calls: Mapping[str, str]) -> dict[str, Stored]:
        """The answers that are there already, of requests by key."""
        found = self._store.get_many(calls)
        given = [(key, calls[key], self._given[key]) for key in calls if key in self._given and key not in found]
        if given:
            self._store.put_many(given)
            found |= {key: answer for key, _, answer in given}
        return found

    async def ask(self, request: ChatRequest) -> ChatAnswer:
        """An answer, from the store or the endpoint; equal requests at the same time are one call.

        Raises:
            RefusedError: the endpoint will not answer this request.
            UserError: it refuses, stays busy or away, or the budget is spent.
        """
        body = body_of(request, self._config)
        call = Call(*keyed(body), body, bytes_of(request.messages))
        if call.key in self._asked:
            return await asyncio.shield(self._asked[call.key])
        stored = self.stored({call.key: call.request}).get(call.key)
        return await self._shared(call) if stored is None else self._counted(call, stored, new=False)

    async def _shared(self, call: Call) -> ChatAnswer:
        """Makes a call, while others that ask the same wait for its answer."""
        shared = self._asked[call.key] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._paid(call)
        except BaseException as error:
            if isinstance(error, Exception):
                shared.set_exception(error)
                shared.exception()  # there may be nobody else
            else:
                shared.cancel()
            raise
        else:
            shared.set_result(answer)
            return answer
        finally:
            del self._asked[call.key]

    async def _paid(self, call: Call) -> ChatAnswer:
        """Makes a call with money set aside for it, and stores the answer."""
        bound = self._ledger.bound(call.prompt_bytes, call.body["max_tokens"])
        while not self._ledger.reserve(bound):
            if not self._funded:
                raise self._ledger.budget_spent(self._progress.left, self._stage)
            self._released.clear()
            await self._released.wait()
        self._funded += 1
        try:
            stored = await self._answered(call)
            await self._doing(self.storing, self.writes.put(call.key, call.request, stored))
            return self._counted(call, stored, new=True)
        finally:
            self._funded -= 1
            self._ledger.release(bound)
            self._released.set()

    def _counted(self, call: Call, stored: Stored, *, new: bool) -> ChatAnswer:
        """An answer, which is in the ledger now."""
        answer = answer_of(call.key, stored)
        self._ledger.learn(answer, call.prompt_bytes)
        if self._ledger.is_first(call.key):  # rows may share a call
            self._account.add(answer, new=new, prompt_bytes=call.prompt_bytes)
        if new:
            self._progress.add(sum(tokens_of(answer, call.prompt_bytes)))
        return answer

    async def _answered(self, call: Call) -> Stored:
        """One call, tried again where that can help."""
        endpoint, client = await self._connected()
        limiter, patience = self.limiter, self._config.row_deadline_s
        tries = failures = 0
        deadline = math.inf  # a row's time starts when it is first sent
        try:
            while True:
                await limiter.enter(min(patience, deadline - time.monotonic()))
                started = time.monotonic()
                if started >= deadline:
                    limiter.leave()
                    raise self._too_late("waited for its turn", failures, endpoint)
                deadline = min(deadline, started + patience)
                if self.is_stopping:
                    limiter.leave()
                    raise asyncio.CancelledError
                try:
                    answer = await self._doing(self.sending, client.complete(call.body, deadline - started))
                except Exception as error:  # noqa: BLE001 - those that are not failures are raised again
                    failure = self._failure_of(error)
                    is_objection = failure.of_request and self._may_be_this_request(call, failure)
                    self.writes.note(call.key, failure.words)
                    if self.is_stopping:
                        raise asyncio.CancelledError from None
                    if is_objection:
                        raise RefusedError(failure.brief) from None
                    failures += 1
                    tries += limiter.failed(failure, started)
                    pause = self._pause(failure, failures, tries, deadline, endpoint)
                else:
                    limiter.succeeded()
                    self._check_model(answer, endpoint)
                    self._refusals = 0
                    about = {"seconds": round(time.monotonic() - started, 3), "ended": round(time.time(), 3)}
                    return {**answer, **about, **({"failed_tries": failures} if failures else {})}
                finally:
                    limiter.leave()
                await asyncio.sleep(pause)
        except GaveUpError as error:
            raise self._error(f"{error}", endpoint) from None

    async def _connected(self) -> tuple[Endpoint, PostingClient]:
        """The endpoint, which is looked for when the first request has to be sent, and a client of it."""
        if self._endpoint is not None and self._client is not None:
            return self._endpoint, self._client
        async with self._connecting:
            if self._endpoint is None:
                self._secret = api_key(self._config)
                self._endpoint = await asyncio.to_thread(self._connect)  # may start a server
            if self._client is None:
                self._client = PostingClient(self._endpoint, self._secret, self._config.timeout_s, self.limiter.heard)
        return self._endpoint, self._client

    async def _doing(self, rows: set[asyncio.Task[Any]], work: Coroutine[Any, Any, T]) -> T:
        """Does a part of a row's work, with the row among `rows` meanwhile."""
        row: Any = asyncio.current_task()
        rows.add(row)
        try:
            return await work
        finally:
            rows.discard(row)

    def _failure_of(self, error: Exception) -> Failure:
        """What an exception means, without the key, whoever repeats it; our own bugs are raised again."""
        failure = failure_of(error)
        if failure is None:
            raise error
        if self._secret == NO_KEY:
            return failure
        return msgspec.structs.replace(failure, words=failure.words.replace(self._secret, "***"))

    def _may_be_this_request(self, call: Call, failure: Failure) -> bool:
        """Whether a refusal is about one request and not all: a passage that a content filter objects to, say.

        One that an earlier run has seen already says nothing new.
        """
        if any(problem.startswith(failure.brief) for problem in self._store.failures(call.key)):
            return True
        self._refusals += 1
        if self._refusals == 1:
            logger.warning("a request was refused, and its row goes without an answer: %s", failure.words)
        return self._refusals < (REFUSALS_IN_A_ROW if self._account.calls else REFUSALS_AT_FIRST)

    def _check_model(self, answer: Stored, endpoint: Endpoint) -> None:
        answered = answer.get("model")
        # A provider's own name for the model comes from the Hub's mapping, which the client goes by.
        if answered is None or self._config.is_embedded or endpoint.provider is not None:
            return
        if not any(is_same_model(name, answered) for name in (endpoint.served_model, self._config.answers_as or "-")):
            raise UserError(
                f"LLM endpoint {endpoint.place}: asked for model {endpoint.served_model}, and {answered} answered; set "
                f"llm.model to that, or llm.answers_as = {answered!r} if it is the same model under another name"
            )

    def _pause(self, failure: Failure, failures: int, tries: int, deadline: float, endpoint: Endpoint) -> float:
        """Seconds before the next try.

        Raises:
            UserError: there is no next try: the endpoint refuses, or this request has had its tries or its time.
        """
        if failure.refused:
            raise self._error(failure.words, endpoint)
        if tries >= self._config.attempts:
            raise self._error(f"{failure.words} ({tries} tries)", endpoint)
        # Where the endpoint said how long, the limiter holds every request for that time; hence the short one.
        pause = backoff(failures, first=0.05 if failure.asked_to_wait else 0.5)
        if time.monotonic() + pause >= deadline:
            raise self._too_late(failure.words, failures, endpoint)
        return pause

    def _too_late(self, problem: str, failures: int, endpoint: Endpoint) -> UserError:
        seconds = self._config.row_deadline_s
        return self._error(f"{problem}; llm.row_deadline_s ({seconds:g} s) is over, {failures} tries", endpoint)

    def _error(self, problem: str, endpoint: Endpoint) -> UserError:
        return UserError(
            f"LLM endpoint {endpoint.place}, model {self._config.model}: {problem}; check llm.base_url, "
            "llm.model and llm.api_key_env (--doctor tries them), then run the same command again: answers so far are "
            "stored"
        )
