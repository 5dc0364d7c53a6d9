"""The calling loop: a bounded number of workers keep the endpoint full, and a journal stores what it answers.

What can be lost: `kill -9` loses the requests in flight and what the journal has not written yet, some 20 milliseconds'
worth. Any other end writes all that was answered: Ctrl-C waits for the requests in flight (a second one does not), and
so does a failure, for a few seconds.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from builders.llm.backlog import Backlog, Call
from builders.llm.chat import Endpoint
from builders.llm.completion import is_same_model
from builders.llm.config import LlmConfig
from builders.llm.gate import Address, Gate
from builders.llm.interrupts import ctrl_c
from builders.llm.journal import Journal
from builders.llm.lines import NO_KEY, api_key, open_line
from builders.llm.pressure import Failure, GaveUpError, Pressure, backoff, failure_of
from builders.llm.store import CallStore
from builders.llm.wires import WIRES
from foils.errors import UserError

logger = logging.getLogger(__name__)

DRAIN_S = 10.0
REFUSALS_IN_A_ROW, REFUSALS_AT_FIRST = 50, 5
"""So many, without an answer between, are no matter of single rows: later on, and before there is any answer."""


class Caller:
    """One run of many calls against one endpoint, which may have several addresses."""

    def __init__(
        self, config: LlmConfig, endpoints: Sequence[Endpoint], store: CallStore, pressures: dict[str, Pressure]
    ) -> None:
        """Opens lines to all endpoints; what `pressures` knows of them from earlier runs, a hold say, goes on."""
        self._config = config
        self._store = store
        self._send = WIRES[config.server].send
        each = -(-config.concurrency // len(endpoints))
        self._addresses = [
            Address(
                endpoint,
                open_line(config, endpoint),
                pressures.setdefault(endpoint.place, Pressure(each, config.down_after_s)),
            )
            for endpoint in endpoints
        ]
        self._gate = Gate(self._addresses)
        self._backlog: Backlog[Any]
        self._workers: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._reserved: dict[str, float] = {}
        self._problem: Exception | None = None
        self._interrupts = 0
        self._stopping = False
        self._has_answered = False
        self._secret = api_key(config)
        self._refusals = 0  # since the last answer

    async def run(self, backlog: Backlog[Any]) -> bool:
        """Makes the calls of a backlog and stores their answers.

        Returns:
            Whether Ctrl-C ended it.

        Raises:
            UserError: the endpoint refuses, or has failed too often, or the budget is spent.
        """
        self._backlog, progress = backlog, backlog.progress
        self._has_answered = backlog.account.calls > 0
        progress.in_flight = lambda: self._gate.in_flight
        journal = Journal(self._store, self._written, self._fail)
        async with AsyncExitStack() as stack:
            for address in self._addresses:
                await stack.enter_async_context(address.line.client)
            helpers = [asyncio.create_task(journal.write_often()), asyncio.create_task(progress.show())]
            for helper in helpers:
                helper.add_done_callback(self._ended)
            workers = min(self._config.concurrency, max(progress.left, 1))
            self._workers = {asyncio.create_task(self._work(journal)) for _ in range(workers)}
            for worker in self._workers:
                worker.add_done_callback(self._ended)
            with ctrl_c(self._interrupt):
                try:
                    await self._settled()
                finally:
                    await _cancelled(self._workers)
                    journal.write()
                    await _cancelled(helpers)
        if self._stopping:
            logger.warning(
                "%s: %d of %d rows are done, %d left; %d new answers are stored",
                *(backlog.stage, progress.done, progress.total, progress.left, progress.calls),
            )
        if self._problem is not None:
            raise self._problem
        return self._interrupts > 0

    async def _settled(self) -> None:
        """Waits for the workers; after a failure, only a little longer for the answers that are still under way."""
        waiting = self._workers
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=DRAIN_S if self._problem is not None else 1.0)
            if self._problem is not None and waiting:
                _, waiting = await asyncio.wait(waiting, timeout=DRAIN_S)
                return

    async def _work(self, journal: Journal) -> None:
        """One worker: takes a call after the other, until all tasks are settled or the run is stopped."""
        worker: Any = asyncio.current_task()
        while not self._stopping and not self._backlog.is_finished:
            call = self._backlog.next()
            if call is None and self._backlog.is_finished:
                break
            if call is None or not self._is_funded(call):
                await self._something_new()
                continue
            answer = await self._answered(call, journal, worker)
            if answer is not None:
                journal.add(call, answer)
        self._wake()

    def _is_funded(self, call: Call) -> bool:
        """Sets money aside for a call; else puts it back until another call has left some.

        Raises:
            UserError: no other call is under way, so there will be none.
        """
        ledger = self._backlog.ledger
        bound = ledger.bound(call.prompt_bytes, call.body["max_tokens"])
        if ledger.reserve(bound):
            self._reserved[call.key] = bound
            return True
        self._backlog.put_back(call)
        if not self._reserved:
            raise ledger.budget_spent(self._backlog.progress.left, self._backlog.stage)
        return False

    async def _something_new(self) -> None:
        """Waits until there may be work again, or none any more."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(turn)
        await turn

    def _wake(self) -> None:
        ready = self._backlog.ready()
        free = len(self._idle) if self._backlog.is_finished else ready
        while free > 0 and self._idle:
            turn = self._idle.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def _written(self, call: Call, answer: dict[str, Any]) -> None:
        """An answer is in the store: now it may be used."""
        try:
            self._backlog.answered(call, answer)
            self._close(call)
        except Exception as error:  # noqa: BLE001 - raised once the others have ended
            self._fail(error)

    def _close(self, call: Call) -> None:
        self._backlog.ledger.release(self._reserved.pop(call.key, 0.0))
        if self._idle:
            self._wake()

    def _ended(self, worker: asyncio.Task[None]) -> None:
        error = None if worker.cancelled() else worker.exception()
        if isinstance(error, Exception):
            self._fail(error)  # our own bugs too: raised once the others have ended

    def _fail(self, error: Exception) -> None:
        if self._problem is None:
            self._problem = error
        self._stop()

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._stop()
            logger.warning(
                "interrupted: waiting for %d requests in flight; Ctrl-C again stops at once", len(self._sending)
            )
        else:
            for worker in self._workers:
                worker.cancel()

    def _stop(self) -> None:
        """Nothing new is sent: what waits is cancelled, what is under way may finish."""
        self._stopping = True
        for worker in self._workers - self._sending:
            if worker is not asyncio.current_task():
                worker.cancel()

    async def _answered(self, call: Call, journal: Journal, worker: asyncio.Task[Any]) -> dict[str, Any] | None:
        """One call, tried again where that can help; None if there is no answer: refused, or the run was stopped."""
        gate = self._gate
        tries = failures = 0
        address = None
        patience = self._config.row_deadline_s
        deadline = time.monotonic() + patience
        try:
            while True:
                until = deadline if failures else None  # a row's time starts when it is first sent
                address = gate.try_enter(address) or await gate.enter(patience, until, address)
                if not failures:
                    deadline = time.monotonic() + patience
                elif time.monotonic() >= deadline:
                    gate.leave(address)
                    raise self._too_late("waited for its turn", failures, address.endpoint)
                started = time.monotonic()
                try:
                    answer = await self._sent(call, address, worker, deadline if failures else None)
                except Exception as error:  # noqa: BLE001 - those that are no failures are raised again
                    failure = self._failure_of(error)
                    is_objection = failure.of_request and self._may_be_this_request(call, failure)
                    journal.note(call.key, failure.words)
                    if self._stopping:
                        return None
                    failures += 1
                    if is_objection:
                        self._backlog.refused(call, failure.brief)
                        self._close(call)
                        return None
                    tries += gate.failed(address, failure, started)
                    pause = self._pause(failure, failures, tries, deadline, address.endpoint)
                else:
                    gate.succeeded(address)
                    self._check_model(answer, address.endpoint)
                    self._has_answered, self._refusals = True, 0
                    about = {"seconds": round(time.monotonic() - started, 3), "ended": round(time.time(), 3)}
                    if failures:
                        about["failed_tries"] = failures
                    return {**answer, **about}
                await asyncio.sleep(pause)
        except GaveUpError as error:
            raise self._error(f"{error}", address.endpoint if address else self._addresses[0].endpoint) from None

    async def _sent(
        self, call: Call, address: Address, worker: asyncio.Task[Any], deadline: float | None
    ) -> dict[str, Any]:
        """One request and its answer, in a place that the gate gave."""
        self._sending.add(worker)
        try:
            if deadline is None:
                return await self._send(address.line, call.body, address.pressure)
            # The client has a time-out for each try; only a later one can hit the deadline first.
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._send(address.line, call.body, address.pressure)
        finally:
            self._sending.discard(worker)
            self._gate.leave(address)

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

        One that an earlier run has seen already tells nothing new.
        """
        if any(problem.startswith(failure.brief) for problem in self._store.failures(call.key)):
            return True
        self._refusals += 1
        if self._refusals == 1:
            logger.warning("a request was refused, and its row goes without an answer: %s", failure.words)
        return self._refusals < (REFUSALS_IN_A_ROW if self._has_answered else REFUSALS_AT_FIRST)

    def _check_model(self, answer: dict[str, Any], endpoint: Endpoint) -> None:
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
            UserError: there is none: the endpoint refuses, or this request has had its tries or its time.
        """
        if failure.refused:
            raise self._error(failure.words, endpoint)
        if tries >= self._config.attempts:
            raise self._error(f"{failure.words} ({tries} tries)", endpoint)
        # Where the endpoint said how long, the pressure holds every request for that time; hence the short one.
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


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
