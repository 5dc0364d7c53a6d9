"""The calling loop: a bounded number of workers keep an endpoint full, and a journal stores what it answers.

What can be lost: `kill -9` loses the requests in flight and what the journal has not written yet, a few milliseconds'
worth. Any other end writes all that was answered: Ctrl-C waits for the requests in flight (a second one does not), and
so does a failure, for a few seconds.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from huggingface_hub import AsyncInferenceClient, set_async_client_factory

from builders.journal import Journal
from builders.pressure import Failure, GaveUpError, Pressure, backoff, failure_of
from builders.progress import Progress
from builders.store import CallStore
from builders.transport import RAW_BODY, http_client
from cards.errors import UserError

if TYPE_CHECKING:
    from builders.chat import Endpoint
    from builders.recipe import LlmConfig

logger = logging.getLogger(__name__)

DRAIN_S = 10.0


class Caller:
    """One run of many calls against one endpoint."""

    def __init__(self, config: "LlmConfig", endpoint: "Endpoint", store: CallStore) -> None:
        self._config = config
        self._endpoint = endpoint
        self._pressure = Pressure(config.concurrency, config.down_after_s)
        self._store = store
        self._workers: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._problem: Exception | None = None
        self._interrupts = 0
        self._stopping = False
        set_async_client_factory(lambda: http_client(self._pressure.heard))
        # Always a key of its own: without one, the client would send the user's Hub token to this address.
        self._client = AsyncInferenceClient(
            base_url=endpoint.base_url, api_key=_api_key(config), timeout=config.timeout_s
        )

    async def run(self, missing: dict[str, dict[str, Any]], label: str) -> bool:
        """Makes the calls `missing` (key -> request) and stores their answers.

        Returns:
            Whether Ctrl-C ended it.

        Raises:
            UserError: the endpoint refuses, or has failed too often.
        """
        progress = Progress(label, len(missing), lambda: self._pressure.in_flight)
        journal = Journal(self._store, progress, self._fail)
        rows = iter(missing.items())
        async with self._client:
            helpers = [asyncio.create_task(journal.write_often()), asyncio.create_task(progress.show())]
            self._workers = {
                asyncio.create_task(self._work(rows, journal))
                for _ in range(min(self._config.concurrency, len(missing)))
            }
            for worker in self._workers:
                worker.add_done_callback(self._ended)
            with _ctrl_c(self._interrupt):
                try:
                    await self._settled()
                finally:
                    await _cancelled(self._workers)
                    journal.write()
                    await _cancelled(helpers)
        if self._stopping:
            logger.warning(
                "%s: %d of %d calls are stored, %d left", label, progress.done, progress.total, progress.left
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

    async def _work(self, rows: Iterator[tuple[str, dict[str, Any]]], journal: "Journal") -> None:
        """One worker: takes a request after the other, until there are none or the run is stopped."""
        for key, body in rows:
            answer = await self._answered(body)
            if answer is not None:
                journal.add(key, body, answer)
            if self._stopping:
                return

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

    async def _answered(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """One request, tried again where that can help; None if the run was stopped before it was answered."""
        pressure = self._pressure
        tries = failures = 0
        deadline = time.monotonic() + self._config.row_deadline_s
        try:
            while True:
                if not pressure.try_enter():
                    await pressure.enter(deadline)
                    if not failures:  # its time starts when it is first sent
                        deadline = time.monotonic() + self._config.row_deadline_s
                started = time.monotonic()
                try:
                    answer = await self._sent(body, deadline if failures else None)
                except Exception as error:
                    failure = failure_of(error)
                    if failure is None:
                        raise
                    if self._stopping:
                        return None
                    failures += 1
                    tries += pressure.failed(failure, started)
                    pause = self._pause(failure, failures, tries, deadline)
                else:
                    pressure.succeeded()
                    return {**answer, "seconds": round(time.monotonic() - started, 3)}
                await asyncio.sleep(pause)
        except GaveUpError as error:
            raise self._error(f"{error}") from None

    async def _sent(self, body: dict[str, Any], deadline: float | None) -> dict[str, Any]:
        """One request and its answer, in a place that the pressure gave."""
        task: Any = asyncio.current_task()
        self._sending.add(task)
        try:
            if deadline is None:
                return await self._asked(body)
            # The client has a time-out for each try; only a later one can hit the deadline first.
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._asked(body)
        finally:
            self._sending.discard(task)
            self._pressure.leave()

    async def _asked(self, body: dict[str, Any]) -> dict[str, Any]:
        raw: list[bytes] = []
        RAW_BODY.set(raw)
        await self._client.chat_completion(
            model=self._endpoint.served_model,
            messages=body["messages"],
            max_tokens=body["max_tokens"],
            temperature=body["temperature"],
            seed=body["seed"],
            stop=list(body["stop"]) or None,
        )
        return parsed(raw[0])

    def _pause(self, failure: Failure, failures: int, tries: int, deadline: float) -> float:
        """Seconds before the next try.

        Raises:
            UserError: there is none: the endpoint refuses, or this request has had its tries or its time.
        """
        if failure.refused:
            raise self._error(failure.words)
        if tries >= self._config.attempts:
            raise self._error(f"{failure.words} ({tries} tries)")
        # Where the endpoint said how long, the pressure holds every request for that time; hence the short one.
        pause = backoff(failures, first=0.05 if failure.asked_to_wait else 0.5)
        if time.monotonic() + pause >= deadline:
            raise self._error(
                f"{failure.words}; llm.row_deadline_s ({self._config.row_deadline_s:g} s) is over, {failures} tries"
            )
        return pause

    def _error(self, problem: str) -> UserError:
        return UserError(
            f"LLM endpoint {self._endpoint.base_url}, model {self._config.model}: {problem}; check llm.base_url, "
            "llm.model and llm.api_key_env, then run the same command again: answers so far are stored"
        )


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    """The part of a chat completion that is kept; its types are checked, the rest is skipped unread."""

    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None


_COMPLETION = msgspec.json.Decoder(_Completion)


def parsed(body: bytes) -> dict[str, Any]:
    """An endpoint's answer as the store keeps it.

    >>> parsed(b'{"choices": [{"message": {"content": "hi"}}]}')
    {'text': 'hi', 'finish_reason': 'stop', 'prompt_tokens': None, 'completion_tokens': None}

    Raises:
        msgspec.DecodeError: it is something other than a chat completion; likewise UnicodeDecodeError.
    """
    answer = _COMPLETION.decode(body)
    usage = answer.usage or _Usage()
    return {
        "text": answer.choices[0].message.content or "",
        "finish_reason": answer.choices[0].finish_reason or "stop",
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _api_key(config: "LlmConfig") -> str:
    if config.api_key_env is None:
        return "none-needed"
    key = os.environ.get(config.api_key_env)
    if not key:
        raise UserError(
            f"llm.api_key_env: the environment variable {config.api_key_env} is not set; export it with the "
            "endpoint's key"
        )
    return key


@contextmanager
def _ctrl_c(handle: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls `handle`, where the platform and the thread allow it; elsewhere it stops at once."""
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, ValueError, RuntimeError):
        loop.add_signal_handler(signal.SIGINT, handle)
    try:
        yield
    finally:
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.remove_signal_handler(signal.SIGINT)
