"""One request and its answer: looked up in the store, else paid for, sent, tried again, and stored before it is used.

What can be lost: `kill -9` loses the requests in flight and what has not been written yet, some 20 milliseconds' worth.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from builders.llm.completion import another_model
from builders.llm.config import LlmConfig
from builders.llm.failures import Failure, backoff, failure_of
from builders.llm.ledger import Ledger, bytes_of, tokens_of
from builders.llm.limiter import GaveUpError, Limiter
from builders.llm.messages import ChatAnswer, ChatRequest, Endpoint, answer_of, body_of
from builders.llm.posting import PostingClient
from builders.llm.progress import Progress
from builders.llm.store import CallStore, keyed
from foils.errors import UserError

logger = logging.getLogger(__name__)

FEWEST_FAILED, FAILED_IN_A_ROW = 5, 50
"""Rows that fail, from which on the endpoint is at fault: most of all rows, or as many in a row without any answer.
Requests in flight count as answers that may yet come: a refusal is faster than an answer."""

WRITE_EVERY_S = 0.02
Stored = dict[str, Any]
"""An answer as the store keeps it."""


class RefusedError(Exception):
    """The endpoint does not answer this request, though it answers others; the text says why."""


class Call(NamedTuple):
    """A request: its key in the store, its text there, its body (see `body_of`), and the length of its messages."""

    key: str
    request: str
    body: dict[str, Any]
    prompt_bytes: int


class Caller:
    """Has requests answered, for the stages of one build after each other.

    Attributes:
        limiter: how many requests are in flight.
        is_stopping: nothing new is sent any more.
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
        self._sending: set[asyncio.Task[ChatAnswer]] = set()
        self._storing: set[asyncio.Task[ChatAnswer]] = set()
        self._config, self._store, self._connect, self._ledger, self._given = config, store, connect, ledger, given
        self._endpoint: Endpoint | None = None
        self._unwritten: list[tuple[str, str, Stored]] = []
        self._written: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def stage(self, name: str, progress: Progress) -> AsyncIterator[None]:
        """Makes ready for the calls of a stage; at the end all that was answered is written."""
        self.is_stopping = False
        self.limiter.begin()
        self._stage, self._progress, self._account = name, progress, self._ledger.account(name)
        self._client: PostingClient | None = None
        self._calls: dict[str, asyncio.Task[ChatAnswer]] = {}
        self._connecting, self._released = asyncio.Lock(), asyncio.Event()
        self._failed = self._failed_in_a_row = 0  # rows, without those that failed in an earlier run too
        self._elsewhere: Counter[str] = Counter()  # place -> stored answers that came from there
        try:
            yield
        finally:
            self.stop(at_once=True)
            await asyncio.gather(*self._calls.values(), return_exceptions=True)
            if self._client is not None:
                await self._client.close()
            for place, number in self._elsewhere.items():
                logger.warning(
                    "%s: %d answers in the store came from %s, not from %s; name another --store to ask again, or set "
                    "llm.revision to keep the two apart",
                    *(name, number, place, self._config.place),
                )

    def stop(self, *, at_once: bool = False) -> None:
        """Sends nothing new; gives up the requests in flight only if it shall stop `at_once`."""
        self.is_stopping = True
        self._write()
        kept = self._storing if at_once else self._storing | self._sending
        for call in set(self._calls.values()) - kept:
            call.cancel()

    def call_of(self, request: ChatRequest) -> Call:
        """A request as it is sent and stored."""
        body = body_of(request, self._config)
        return Call(*keyed(body), body, bytes_of(request.messages))

    async def ask(self, request: ChatRequest) -> ChatAnswer:
        """An answer, from the store or the endpoint; equal requests at the same time are one call.

        Raises:
            RefusedError: the endpoint will not answer this request.
            UserError: it refuses, stays busy or away, or the budget is spent.
        """
        call = self.call_of(request)
        if call.key not in self._calls:
            stored = self.stored(call)
            if stored is not None:
                if stored.get("place", self._config.place) != self._config.place:
                    self._elsewhere[stored["place"]] += 1
                return self._counted(call, stored, new=False)
            if self.is_stopping:
                raise asyncio.CancelledError
            self._calls[call.key] = asyncio.create_task(self._paid(call))
        return await asyncio.shield(self._calls[call.key])

    def stored(self, call: Call) -> Stored | None:
        """The answer that is there already, in the store or in `llm.answers`."""
        stored = self._store.get(call.key)
        if stored is None and call.key in self._given:
            stored = self._given[call.key]
            self._store.put_many([(call.key, call.request, stored)])
        return stored

    async def _paid(self, call: Call) -> ChatAnswer:
        """Makes a call with money set aside for it, and stores the answer."""
        bound, this = self._ledger.bound(call.prompt_bytes, call.body["max_tokens"]), self._calls[call.key]
        try:
            while not self._ledger.reserve(bound):
                if not self._ledger.reserved:
                    raise self._ledger.budget_spent(int(self._progress.total) - self._progress.done, self._stage)
                self._released.clear()
                await self._released.wait()
            try:
                stored = await self._answered(call, this)
                self._storing.add(this)
                await self._kept(call, stored)
                return self._counted(call, stored, new=True)
            except GaveUpError as error:
                raise self._error(f"{error}") from None
            finally:
                self._ledger.release(bound)
                self._released.set()
        finally:
            del self._calls[call.key]
            self._storing.discard(this)

    async def _kept(self, call: Call, stored: Stored) -> None:
        """Returns once an answer is in the store: a transaction for each would cost more than a call.

        Raises:
            UserError: the batch could not be written, and says how many answers are lost.
        """
        if self._written is None:
            loop = asyncio.get_running_loop()
            self._written = loop.create_future()
            loop.call_later(WRITE_EVERY_S, self._write)
        self._unwritten.append((call.key, call.request, stored))
        await asyncio.shield(self._written)

    def _write(self) -> None:
        """Writes what there is, on the event loop's own thread: handing it over would take longer."""
        answers, written = self._unwritten, self._written
        self._unwritten, self._written = [], None
        if written is not None:
            try:
                self._store.put_many(answers)
                written.set_result(None)
            except UserError as error:
                written.set_exception(UserError(f"{error} ({len(answers)} answers that had come are lost)"))
                written.exception()  # after a Ctrl-C nobody waits for it

    def _counted(self, call: Call, stored: Stored, *, new: bool) -> ChatAnswer:
        """An answer, which is in the ledger now."""
        answer = answer_of(call.key, stored)
        self._ledger.add(self._stage, call.key, answer, new=new, prompt_bytes=call.prompt_bytes)
        if new:
            self._progress.add(sum(tokens_of(answer, call.prompt_bytes)))
        return answer

    async def _answered(self, call: Call, this: asyncio.Task[ChatAnswer]) -> Stored:
        """One call, tried again where that can help."""
        client = await self._connected()
        failures = tries = 0
        earlier: list[str] = []  # what an earlier run failed by
        while True:
            await self.limiter.enter()
            started = time.monotonic()
            self._sending.add(this)
            try:
                answer = await client.complete(call.body)
            except Exception as error:
                failure = failure_of(error)
                if failure is None:  # a bug of our own
                    raise
                earlier = earlier if failures else self._store.failures(call.key)
                self._store.note_failures([(call.key, failure.words)])
                if self.is_stopping:
                    raise asyncio.CancelledError from None
                known = next((words for words in earlier if words.startswith(failure.brief)), None)
                is_try = failure.refused or self.limiter.failed(failure, started, call.key)
                failures, tries = failures + 1, tries + is_try
                if failure.refused or tries >= self._config.attempts:
                    raise self._given_up(failure, known, tries) from None
                self.limiter.check(failure, is_try=is_try)
            else:
                self.limiter.succeeded()
                answer |= {"seconds": round(time.monotonic() - started, 3), "ended": round(time.time(), 3)}
                answer |= {"place": self._config.place} | ({"failed_tries": failures} if failures else {})
                if another := another_model(self._config, client.endpoint.served_model, answer.get("model")):
                    is_first = not self._account.calls
                    paid = answer_of(call.key, answer)  # though it is not stored
                    self._account.add(paid, new=True, prompt_bytes=call.prompt_bytes)
                    raise self._given_up(Failure(another, refused=True, for_all=is_first), None, 1)
                self._failed_in_a_row = 0
                return answer
            finally:
                self._sending.discard(this)
                self.limiter.leave()
            if self.limiter.wait_s <= 0:  # else all requests are held already
                await asyncio.sleep(backoff(failures))

    async def _connected(self) -> PostingClient:
        """A client of the endpoint, which is looked for when the first request has to be sent."""
        if self._client is not None:
            return self._client
        async with self._connecting:
            if self._client is None:
                if self._endpoint is None:
                    self._endpoint = await asyncio.to_thread(self._connect)  # may start a server
                self._client = PostingClient(self._endpoint, self._config, self.limiter.heard)
        return self._client

    def _given_up(self, failure: Failure, known: str | None, tries: int) -> Exception:
        """What a request that will not be answered costs: its row, or the run if the endpoint is at fault.

        Args:
            failure: the last one.
            known: what an earlier run was answered, if that was the same: it stops no run again.
            tries: of the request.
        """
        if failure.for_all or failure.unconnected:
            return self._error(failure.words if failure.refused else f"{failure.words} ({tries} tries)")
        if known is None or not failure.refused:  # an outage may have been to blame before, and be again
            self._failed += 1
            self._failed_in_a_row += 1
            pending = self.limiter.in_flight - 1
            most = self._failed >= FEWEST_FAILED and self._failed > self._account.calls + pending
            if most or self._failed_in_a_row > FAILED_IN_A_ROW + pending:
                return self._error(f"{failure.words} ({self._failed} rows failed, {self._account.calls} were answered)")
        return RefusedError(known or failure.words)

    def _error(self, problem: str) -> UserError:
        place = self._endpoint.place if self._endpoint is not None else ""
        return UserError(
            f"LLM endpoint {place}, model {self._config.model}: {problem}; check llm.base_url, llm.model and "
            "llm.api_key_env (foils doctor tries them, and which request fields are taken), then run the same command "
            "again: answers so far are stored"
        )
