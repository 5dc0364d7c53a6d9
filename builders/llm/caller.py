"""One request and its answer: looked up in the store, else paid for, sent, tried again, and stored before it is used.

What can be lost: `kill -9` loses the requests in flight and what has not been written yet, some 20 milliseconds' worth.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from builders.llm.completion import another_model
from builders.llm.config import LlmConfig
from builders.llm.failures import CallError, backoff
from builders.llm.ledger import Ledger, bytes_of, tokens_of
from builders.llm.limiter import Limiter
from builders.llm.messages import ChatAnswer, ChatRequest, Endpoint, answer_of, body_of
from builders.llm.posting import PostingClient
from builders.llm.progress import Progress
from builders.llm.store import CallStore, Stored, keyed
from foils.errors import UserError

logger = logging.getLogger(__name__)

CHECK = (
    "check llm.base_url, llm.model and llm.api_key_env (foils doctor tries them, and which request fields are taken)"
)
FEWEST_FAILED, FAILED_IN_A_ROW = 5, 50
"""Rows that fail, from which on the endpoint is at fault: most of all rows, or as many in a row without any answer.
Requests in flight count as answers that may yet come: a refusal is faster than an answer."""

WRITE_EVERY_S = 0.02
WAITING, SENDING, STORING = range(3)
"""What a row is at."""


class RefusedError(Exception):
    """The endpoint does not answer this request, though it answers others; the text says why."""


class Call(NamedTuple):
    """A request: its key in the store, its text there, its body (see `body_of`), and the length of its messages."""

    key: str
    request: str
    body: dict[str, Any]
    prompt_bytes: int


def call_of(request: ChatRequest, config: LlmConfig) -> Call:
    """A request as it is sent and stored."""
    body = body_of(request, config)
    return Call(*keyed(body), body, bytes_of(request.messages))


class Session(NamedTuple):
    """What the stages of a build share; `connect` finds the endpoint, which may mean to start a server."""

    config: LlmConfig
    store: CallStore
    connect: Callable[[], Endpoint]
    ledger: Ledger
    limiter: Limiter


class Caller:
    """Has the requests of one stage answered.

    Attributes:
        is_stopping: nothing new is sent any more.
    """

    def __init__(self, session: Session, stage: str, progress: Progress) -> None:
        self._config, self._store, self._connect, self._ledger, self._limiter = session
        self._stage, self._progress, self._account = stage, progress, session.ledger.account(stage)
        self.is_stopping = False
        self._rows: dict[asyncio.Task[Any] | None, int] = {}  # those that wait for an answer, and what they are at
        self._shared: dict[str, asyncio.Future[ChatAnswer]] = {}  # answers that are on their way, by key
        self._unwritten: list[tuple[Call, Stored, asyncio.Future[Stored]]] = []
        self._client: PostingClient | None = None
        self._connecting, self._released = asyncio.Lock(), asyncio.Event()
        self._failed = self._failed_in_a_row = 0  # rows, without those that failed in an earlier run too
        self._elsewhere: Counter[str] = Counter()  # place -> stored answers that came from there
        self._limiter.begin()

    async def close(self) -> None:
        """Closes the connections, and reports answers that came from another place."""
        if self._client is not None:
            await self._client.close()
        for place, number in self._elsewhere.items():
            logger.warning(
                "%s: %d answers in the store came from %s, not from %s; name another --store to ask again, or set "
                "llm.revision to keep the two apart",
                *(self._stage, number, place, self._config.place),
            )

    def stop(self, *, at_once: bool = False) -> None:
        """Sends nothing new; gives up the requests in flight only if it shall stop `at_once`."""
        self.is_stopping = True
        self._write()
        for row, at in self._rows.items():
            if row is not None and at < (STORING if at_once else SENDING):
                row.cancel()

    async def ask(self, request: ChatRequest) -> ChatAnswer:
        """An answer, from the store or the endpoint; equal requests at the same time are one call.

        Raises:
            RefusedError: the endpoint will not answer this request.
            UserError: it refuses, stays busy or away, or the budget is spent.
        """
        call = call_of(request, self._config)
        if call.key in self._shared:
            return await asyncio.shield(self._shared[call.key])
        stored = self._store.found(call.key, call.request)
        if stored is not None:
            if stored.get("place", self._config.place) != self._config.place:
                self._elsewhere[stored["place"]] += 1
            return self._counted(call, stored, new=False)
        if self.is_stopping:
            raise asyncio.CancelledError
        row, shared = asyncio.current_task(), asyncio.get_running_loop().create_future()
        self._rows[row], self._shared[call.key] = WAITING, shared
        try:
            answer = await self._paid(call, row)
        except BaseException as error:
            shared.set_exception(error)
            shared.exception()  # there may be no other row that wants it
            raise
        else:
            shared.set_result(answer)
            return answer
        finally:
            del self._rows[row], self._shared[call.key]

    async def _paid(self, call: Call, row: asyncio.Task[Any] | None) -> ChatAnswer:
        """Makes a call with money set aside for it, and stores the answer."""
        bound = self._ledger.bound(call.prompt_bytes, call.body["max_tokens"])
        while not self._ledger.reserve(bound):
            if not self._ledger.reserved:
                raise self._ledger.budget_spent(int(self._progress.total) - self._progress.n, self._stage)
            self._released.clear()
            await self._released.wait()
        try:
            stored = await self._answered(call, row)
            self._rows[row] = STORING
            kept = await self._kept(call, stored)
            self._counted(call, stored, new=True)  # what was paid for, whichever build was first
            return answer_of(call.key, kept)
        except CallError as failure:  # of the endpoint, which the limiter has given up
            raise self._error(failure.words) from None
        finally:
            self._ledger.release(bound)
            self._released.set()

    async def _kept(self, call: Call, stored: Stored) -> Stored:
        """Returns what the store has once an answer is in it: a transaction for each would cost more than a call.

        Raises:
            UserError: the batch could not be written, and says how many answers are lost.
        """
        loop = asyncio.get_running_loop()
        if not self._unwritten:
            loop.call_later(WRITE_EVERY_S, self._write)
        self._unwritten.append((call, stored, loop.create_future()))
        return await self._unwritten[-1][-1]

    def _write(self) -> None:
        """Writes what there is, on the event loop's own thread: handing it over would take longer."""
        answers, self._unwritten = self._unwritten, []
        kept, problem = [stored for _, stored, _ in answers], None
        try:
            kept = self._store.put_many([(call.key, call.request, stored) for call, stored, _ in answers])
        except UserError as error:
            problem = UserError(f"{error} ({len(answers)} answers that had come are lost)")
        for (_, _, written), stored in zip(answers, kept, strict=True):
            if not written.done():  # its row may have been cancelled
                written.set_exception(problem) if problem else written.set_result(stored)

    def _counted(self, call: Call, stored: Stored, *, new: bool) -> ChatAnswer:
        """An answer, which is in the ledger now."""
        answer = answer_of(call.key, stored)
        self._ledger.add(self._stage, answer, new=new, prompt_bytes=call.prompt_bytes)
        if new:
            self._progress.add(sum(tokens_of(answer, call.prompt_bytes)))
        return answer

    async def _answered(self, call: Call, row: asyncio.Task[Any] | None) -> Stored:
        """One call, tried again where that can help.

        Raises:
            CallError: the limiter has given the endpoint up.
        """
        client = self._client or await self._connected()
        failures = tries = 0
        earlier: list[str] = []  # what an earlier run failed by
        while True:
            await self._limiter.enter()
            started, self._rows[row] = time.monotonic(), SENDING
            try:
                answer = await client.complete(call.body)
            except CallError as failure:
                earlier = earlier if failures else self._store.failures(call.key)
                self._store.note_failure(call.key, failure.words)
                if self.is_stopping:
                    raise asyncio.CancelledError from None
                known = next((words for words in earlier if words.startswith(failure.brief)), None)
                is_try = failure.refused or self._limiter.failed(failure, started, call.key)
                failures, tries = failures + 1, tries + is_try
                if failure.refused or tries >= self._config.attempts:
                    raise self._given_up(failure, known, tries) from None
                self._limiter.check(failure, is_try=is_try)
            else:
                self._limiter.succeeded()
                answer |= {"seconds": round(time.monotonic() - started, 3), "ended": round(time.time(), 3)}
                answer |= {"place": self._config.place} | ({"failed_tries": failures} if failures else {})
                self._check_model(call, answer, client.endpoint)
                self._failed_in_a_row = 0
                return answer
            finally:
                self._rows[row] = WAITING
                self._limiter.leave()
            if self._limiter.wait_s <= 0:  # else all requests are held already
                await asyncio.sleep(backoff(failures))

    async def _connected(self) -> PostingClient:
        """A client of the endpoint, which is looked for when the first request has to be sent."""
        async with self._connecting:
            if self._client is None:
                endpoint = await asyncio.to_thread(self._connect)
                self._client = PostingClient(endpoint, self._config, self._limiter.heard)
        return self._client

    def _check_model(self, call: Call, answer: Stored, endpoint: Endpoint) -> None:
        """Refuses an answer of another model, which is paid and not stored.

        Raises:
            RefusedError: it is one among others.
            UserError: it is the first one, so that all will be.
        """
        if another := another_model(self._config, endpoint.served_model, answer.get("model")):
            is_first = not self._account.calls
            self._account.add(answer_of(call.key, answer), new=True, prompt_bytes=call.prompt_bytes)
            raise self._given_up(CallError(another, refused=True, for_all=is_first), None, 1)

    def _given_up(self, failure: CallError, known: str | None, tries: int) -> Exception:
        """What a request that will not be answered costs: its row, or the run if the endpoint is at fault.

        Args:
            failure: the last one.
            known: what an earlier run was answered, if that was the same: it stops no run again.
            tries: of the request.
        """
        if failure.for_all or failure.unconnected:
            remedy = "pay or raise the limit there" if failure.spent else CHECK
            return self._error(failure.words if failure.refused else f"{failure.words} ({tries} tries)", remedy)
        if known is None or not failure.refused:  # an outage may have been to blame before, and be again
            self._failed += 1
            self._failed_in_a_row += 1
            pending = self._limiter.in_flight - 1
            most = self._failed >= FEWEST_FAILED and self._failed > self._account.calls + pending
            if most or self._failed_in_a_row > FAILED_IN_A_ROW + pending:
                return self._error(f"{failure.words} ({self._failed} rows failed, {self._account.calls} were answered)")
        return RefusedError(known or failure.words)

    def _error(self, problem: str, remedy: str = CHECK) -> UserError:
        return UserError(
            f"LLM endpoint {self._config.place}, model {self._config.model}: {problem}; {remedy}, then run the same "
            "command again: answers so far are stored"
        )
