"""Answers on their way into the call store: written in batches, because a transaction for each costs more than a call.

What can be lost: an answer is used only once it is written. Up to `WRITE_AT` answers are held back for up to
`WRITE_EVERY_S`; a process that is killed in between has to ask for those again, and for nothing else that came.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

from builders.llm.backlog import Call
from builders.llm.store import CallStore
from foils.errors import UserError

WRITE_EVERY_S = 0.02
WRITE_AT = 64


class Journal:
    """Collects answers and failures, writes them, and hands the answers on once they are written.

    Args:
        store: where they are written.
        written: is given each call with its answer, in the order in which they came.
        fail: is called with what keeps it from writing.
    """

    def __init__(
        self,
        store: CallStore,
        written: Callable[[Call, dict[str, Any]], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._written = written
        self._fail = fail
        self._answers: list[tuple[Call, dict[str, Any]]] = []
        self._failures: list[tuple[str, str]] = []
        self._some = asyncio.Event()

    def add(self, call: Call, answer: dict[str, Any]) -> None:
        """Takes one answer."""
        self._answers.append((call, answer))
        if len(self._answers) >= WRITE_AT:
            self.write()
        else:
            self._some.set()

    def note(self, key: str, problem: str) -> None:
        """Takes one failed try."""
        self._failures.append((key, problem))
        self._some.set()

    async def write_often(self) -> None:
        """Writes a moment after the first unwritten answer, until cancelled.

        On the event loop's own thread: a batch takes well below a millisecond, handing it over takes longer.
        """
        while True:
            await self._some.wait()
            await asyncio.sleep(WRITE_EVERY_S)
            self.write()

    def write(self) -> None:
        """Writes what there is."""
        self._some.clear()
        answers, self._answers = self._answers, []
        failures, self._failures = self._failures, []
        try:
            if answers:
                self._store.put_many([(call.key, call.request, answer) for call, answer in answers])
            if failures:
                self._store.note_failures(failures)
        except UserError as error:
            self._fail(UserError(f"{error} ({len(answers)} answers that had come are lost)") if answers else error)
            return
        except sqlite3.Error as error:
            self._fail(
                UserError(
                    f"call store: cannot be written ({error}), {len(answers)} answers are lost; make room on its disk "
                    "or name another file with --store, then run the same command again"
                )
            )
            return
        for call, answer in answers:
            self._written(call, answer)
