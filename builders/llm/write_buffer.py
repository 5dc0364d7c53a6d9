"""Answers on their way into the call store: written in batches, since a transaction for each costs more than a call."""

import asyncio
from typing import Any

from builders.llm.store import CallStore
from foils.errors import UserError

WRITE_EVERY_S = 0.02


class WriteBuffer:
    """Collects answers and writes them `WRITE_EVERY_S` later.

    It writes on the event loop's own thread: a batch takes well below a millisecond, handing it over takes longer.
    """

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self._answers: list[tuple[str, str, dict[str, Any]]] = []
        self._written: asyncio.Future[None] | None = None

    async def put(self, key: str, request: str, answer: dict[str, Any]) -> None:
        """Takes an answer; returns once it is in the store.

        Raises:
            UserError: the batch could not be written, and says how many answers are lost.
        """
        if self._written is None:
            loop = asyncio.get_running_loop()
            self._written = loop.create_future()
            loop.call_later(WRITE_EVERY_S, self.write)
        self._answers.append((key, request, answer))
        await asyncio.shield(self._written)

    def write(self) -> None:
        """Writes what there is."""
        answers, written = self._answers, self._written
        self._answers, self._written = [], None
        if written is None:
            return
        try:
            self._store.put_many(answers)
            written.set_result(None)
        except UserError as error:
            written.set_exception(UserError(f"{error} ({len(answers)} answers that had come are lost)"))
            written.exception()  # after a Ctrl-C nobody waits for it
