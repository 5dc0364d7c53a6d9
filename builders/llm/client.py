"""The LLM client: rows ask for what they need, many at once, and each answer is stored before it is used.

    with llm_session(config, store_file) as llm:
        llm.run("queries", tasks, total=len(tasks), attempts=3, done=results.append)

A `Task` says what it asks and judges what it gets; a rejected answer is asked for again. Each row is a coroutine, twice
as many as requests may be in flight. The endpoint is looked for only if a request is not in the store, so a repeated
build starts no server.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Generic

import msgspec
from uvloop import new_event_loop

from builders.llm import embedded
from builders.llm.answers import read_answers
from builders.llm.caller import Caller, RefusedError, Session, call_of
from builders.llm.config import LlmConfig
from builders.llm.ledger import Ledger
from builders.llm.limiter import Limiter
from builders.llm.messages import ChatAnswer, ChatRequest, Endpoint, Task, TaskT, answer_of
from builders.llm.progress import Progress
from builders.llm.rejections import ENOUGH, Rejections
from builders.llm.store import CallStore

logger = logging.getLogger(__name__)

DRAIN_S = 20.0
"""For how long a failed run waits for the requests in flight: they are paid for."""
_BREATHE = 64  # rows from the store, after which others have their turn

Watch = Callable[[str, Task, ChatRequest, ChatAnswer], object]


class Llm:
    """An LLM behind a store: the session of one build.

    Args:
        config: of the LLM.
        store: where answers are kept.
        connect: finds the endpoint; called once.
        ledger: counts the costs.

    Attributes:
        limiter: how many requests are in flight.
        rejected_file: where the answers are written that end a stage because none could be used; None = nowhere.
        rejections: stage -> what its rows did not get.
        watch: is shown each answer with its stage, task and request.
    """

    def __init__(
        self, config: LlmConfig, store: CallStore, connect: Callable[[], Endpoint], ledger: Ledger | None = None
    ) -> None:
        self.ledger = ledger or Ledger(config.prices, config.budget)
        self.limiter = Limiter(config.concurrency, config.down_after_s)
        self.rejected_file: Path | None = None
        self.rejections: dict[str, Rejections] = {}
        self.watch: Watch = lambda *_: None
        self.session = Session(config, store, cache(connect), self.ledger, self.limiter)

    def stored(self, request: ChatRequest) -> ChatAnswer | None:
        """The answer that the store has already."""
        call = call_of(request, self.session.config)
        found = self.session.store.found(call.key, call.request)
        return None if found is None else answer_of(call.key, found)

    def run(
        self, stage: str, tasks: Iterable[TaskT], *, total: int, attempts: int, done: Callable[[TaskT], object]
    ) -> None:
        """Has tasks answered, from the store where it can, and shows progress.

        Tasks are taken from `tasks` as they are needed, and a bounded number is open at once.

        Args:
            stage: names the progress bar and the account.
            tasks: what is to be asked.
            total: how many they are, for the progress bar.
            attempts: how often a task may ask.
            done: is given every task that is settled, in the order of `tasks`; says whether a part of it can be used,
                if it knows.

        Raises:
            UserError: the endpoint cannot be reached, refuses the key or the model, stays busy, or the budget is
                spent. All answers that came before are in the store.
            KeyboardInterrupt: after Ctrl-C, once the requests in flight are answered and stored; a second Ctrl-C does
                not wait for them.
        """
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            if runner.run(_Rows(self, stage, tasks, total, attempts, done).run()):
                raise KeyboardInterrupt


class _Rows(Generic[TaskT]):
    """The rows of one stage on their way."""

    def __init__(
        self, llm: Llm, stage: str, tasks: Iterable[TaskT], total: int, attempts: int, done: Callable[[TaskT], object]
    ) -> None:
        self._llm, self._stage, self._total, self._attempts, self._done = llm, stage, total, attempts, done
        self._tasks = enumerate(tasks)
        self._settled: dict[int, TaskT] = {}  # those that wait for an earlier one
        self._next = 0
        self._interrupts = 0
        self._rejections = llm.rejections.setdefault(stage, Rejections(stage))
        about = lambda: (llm.limiter.in_flight, llm.ledger.cost())  # noqa: E731
        self._progress = Progress(stage, total, about, self._rejections.reasons)
        self._caller = Caller(llm.session, stage, self._progress)

    async def run(self) -> bool:
        """Settles all tasks; returns whether Ctrl-C ended it."""
        loop = asyncio.get_running_loop()
        with suppress(ValueError, RuntimeError):  # only a main thread is sent signals
            loop.add_signal_handler(signal.SIGINT, self._interrupt)
        at_once = max(1, min(2 * self._llm.session.config.concurrency, self._total))
        workers = [asyncio.create_task(self._work()) for _ in range(at_once)]
        try:
            await self._ended(workers)
        finally:
            self._caller.stop(at_once=True)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self._caller.close()
            self._progress.close()
            self._rejections.report()
            with suppress(ValueError, RuntimeError):  # a closed uvloop would keep it, and Ctrl-C do nothing
                loop.remove_signal_handler(signal.SIGINT)
        return self._interrupts > 0

    async def _ended(self, workers: list[asyncio.Task[None]]) -> None:
        """Waits for the workers; after a failure, only a little longer for the answers that are still under way.

        Raises:
            Exception: the first failure.
        """
        ended, waiting = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        failed = [worker for worker in ended if not worker.cancelled() and worker.exception() is not None]
        if failed:
            self._caller.stop()
        if waiting:
            await asyncio.wait(waiting, timeout=DRAIN_S)
        if self._caller.is_stopping:
            progress = self._progress
            logger.warning(
                "%s: %d of %d rows are done, %d left; %d new answers are stored",
                *(self._stage, progress.n, self._total, self._total - progress.n, progress.calls),
            )
        for worker in failed:
            worker.result()
        if not self._caller.is_stopping:
            self._check_usable(fewest=self._total)

    async def _work(self) -> None:
        """Settles one row after the other, until there are no more or the run is stopped."""
        for number, task in self._tasks:
            await self._settle(task)
            self._settled[number] = task
            while (settled := self._settled.pop(self._next, None)) is not None:
                self._next += 1
                self._rejections.accepted |= bool(self._done(settled))
                self._check_usable(fewest=ENOUGH)
            if self._caller.is_stopping:
                return
            if number % _BREATHE == 0:
                await asyncio.sleep(0)

    async def _settle(self, task: TaskT) -> None:
        """Asks until nothing is missing or the attempts are used up."""
        row = getattr(task, "query_id", "a row")
        for attempt in range(self._attempts):
            request = task.request(attempt)
            try:
                answer = await self._caller.ask(request)
            except RefusedError as error:
                task.refused(f"{error}")
                self._rejections.not_answered(row, f"{error}")
                break
            self._llm.watch(self._stage, task, request, answer)
            reason = task.take(answer)
            if reason is None:
                self._llm.ledger.account(self._stage).accepted += 1
                self._rejections.accepted |= self._total > 1  # one row may be a question before all others
                break
            self._rejections.add(row, reason, answer)
        self._progress.update()

    def _check_usable(self, fewest: int) -> None:
        """Ends a stage that has not got any usable answer for `fewest` rows.

        Raises:
            UserError: with the reasons and what helps.
        """
        if not self._rejections.accepted and 1 < fewest <= self._next:
            raise self._rejections.error(self._next, self._llm.rejected_file)

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            in_flight = self._llm.limiter.in_flight
            logger.warning("interrupted: waiting for %d requests in flight; Ctrl-C again stops at once", in_flight)
        self._caller.stop(at_once=self._interrupts > 1)


def identified(llm: LlmConfig) -> LlmConfig:
    """The LLM with the revision of the embedded model filled in where that one is used."""
    return msgspec.structs.replace(llm, revision=embedded.REVISION) if llm.is_embedded else llm


def endpoint_of(llm: LlmConfig) -> AbstractContextManager[Endpoint]:
    """Where the recipe's LLM is; the embedded one is served meanwhile."""
    if llm.is_embedded:
        return embedded.serve_embedded()
    return nullcontext(Endpoint(llm.base_url, llm.model, llm.provider))


@contextmanager
def llm_session(llm: LlmConfig, store_file: Path, out: Path | None = None) -> Iterator[Llm]:
    """Opens the call store; the embedded server starts with the first call that the store cannot answer.

    Answers that end a build because none could be used are written beside the data set `out`, or beside the store.
    """
    with ExitStack() as stack:
        given = read_answers(Path(llm.answers)) if llm.answers else None
        store = stack.enter_context(CallStore(store_file, given))
        session = Llm(llm, store, lambda: stack.enter_context(endpoint_of(llm)))
        beside = store_file if out is None else out
        session.rejected_file = beside.with_name(f"{beside.stem}-rejected.jsonl")
        yield session
