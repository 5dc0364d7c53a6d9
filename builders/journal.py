"""Answers on their way into the call store: written in batches, because a transaction for each costs more than a call.

What can be lost: an answer counts as done only once it is written. Up to `WRITE_AT` answers are held back for up to
`WRITE_EVERY_S`; a process that is killed in between has to ask for those again, and for nothing else that came.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

from builders.progress import Progress
from builders.store import CallStore
from cards.errors import UserError

WRITE_EVERY_S = 0.01
WRITE_AT = 64


class Journal:
    """Collects answers, writes them, and counts them once they are written.

    `fail` is called with what keeps it from writing.
    """

    def __init__(self, store: CallStore, progress: Progress, fail: Callable[[Exception], None]) -> None:
        self._store = store
        self._progress = progress
        self._fail = fail
        self._rows: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self._some = asyncio.Event()

    def add(self, key: str, body: dict[str, Any], answer: dict[str, Any]) -> None:
        """Takes one answer."""
        self._rows.append((key, body, answer))
        if len(self._rows) >= WRITE_AT:
            self.write()
        else:
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
        rows, self._rows = self._rows, []
        if not rows:
            return
        try:
            self._store.put_many(rows)
        except UserError as error:
            self._fail(error)
        except sqlite3.Error as error:
            self._fail(
                UserError(
                    f"call store: cannot be written ({error}), {len(rows)} answers are lost; make room on its disk or "
                    "name another file with --store, then run the same command again"
                )
            )
        else:
            for _, _, answer in rows:
                self._progress.add((answer["prompt_tokens"] or 0) + (answer["completion_tokens"] or 0))
