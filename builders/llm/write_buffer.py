"""Answers on their way into the call store: written in batches, since a transaction for each costs more than a call."""

import asyncio
import logging
from typing import Any

from builders.llm.store import CallStore
from foils.errors import UserError

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 0.02


class WriteBuffer:
    """Collects answers and failures and writes them `WRITE_EVERY_S` later.

    It writes on the event loop's own thread: a batch takes well below a millisecond, handing it over takes longer.
    """

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self._answers: list[tuple[str, str, dict[str, Any]]] = []
        self._failures: list[tuple[str, str]] = []
        self._written: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def put(self, key: str, request: str, answer: dict[str, Any]) -> None:
        """Takes an answer; returns once it is in the store.

        Raises:
            UserError: the batch could not be written, and says how many answers are lost.
        """
        self._answers.append((key, request, answer))
        written = self._written = self._written or asyncio.get_running_loop().create_future()
        self._soon()
        await asyncio.shield(written)

    def note(self, key: str, problem: str) -> None:
        """Takes one failed try."""
        self._failures.append((key, problem))
        self._soon()

    def write(self) -> None:
        """Writes what there is."""
        answers, failures, written = self._answers, self._failures, self._written
        self._answers, self._failures, self._written = [], [], None
        self._timer = None
        try:
            self._store.put_many(answers)
            self._store.note_failures(failures)
        except UserError as error:
            lost = UserError(f"{error} ({len(answers)} answers that had come are lost)")
            if written is None:
                logger.warning("%s", lost)
            else:
                written.set_exception(lost)
                written.exception()  # after a Ctrl-C nobody waits for it
        else:
            if written is not None:
                written.set_result(None)

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_EVERY_S, self.write)
