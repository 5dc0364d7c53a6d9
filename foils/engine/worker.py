"""A worker: a stage that is made once and then makes the part of any shard it is given."""

import time
import traceback
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import Struct

from foils.engine.files import put
from foils.engine.parts import failed_file, marker_of, tried_file, write_part
from foils.engine.plan import Plan, check_versions, load_stage, read_plan, read_shard
from foils.errors import UserError, scrub
from foils.tables import one_line

TRIES = 3
"""Workers that may die of a shard in a run before it counts as failed."""


class Outcome(Struct, frozen=True):
    """What came of a shard.

    Attributes:
        number: the shard's.
        error: why it has no part, in one line; None where it has.
        fatal: whether no other shard can succeed either: no model, no room, other versions.
    """

    number: int
    error: str | None = None
    fatal: bool = False


class Worker:
    """The stage of the plan in a folder, on this machine. An error is an outcome, and other shards are still made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _plan(self) -> Plan:
        return read_plan(self._folder)

    @cached_property
    def _stage(self) -> Any:
        check_versions(self._plan, self._folder)
        return load_stage(self._plan, self._folder)

    def __call__(self, number: int) -> Outcome:
        """Makes a shard's part and marker."""
        start, tried = time.monotonic(), tried_file(self._folder, number)
        try:
            if tried.exists() and tried.stat().st_size >= TRIES:
                return self._failed(number, UserError(f"its worker died {TRIES} times (out of memory?)"))
            with tried.open("ab") as file:  # first, as loading may be what it dies of
                file.write(b".")
            outcome = self._made(number, start)
            tried.unlink(missing_ok=True)
        except OSError as error:
            where = error.filename or self._folder
            said = f"{where}: {error.strerror or error}; make room or make it writable, then run again"
            return Outcome(number, said, fatal=True)
        return outcome

    def _made(self, number: int, start: float) -> Outcome:
        try:
            plan, stage = self._plan, self._stage
        except Exception as error:  # noqa: BLE001 - whatever the stage raises, no worker can begin
            return Outcome(number, _said(error), fatal=True)
        if marker_of(self._folder, plan, number) is not None:  # another machine, or a lost actor, has made it
            return Outcome(number)
        try:
            table = stage(read_shard(plan, self._folder, number))
        except OSError:  # the disk's fault, as it may be for all of them
            raise
        except Exception as error:  # noqa: BLE001 - whatever a shard's rows raise, others may be fine
            return self._failed(number, error)
        write_part(self._folder, plan, number, table, time.monotonic() - start)
        return Outcome(number)

    def _failed(self, number: int, error: Exception) -> Outcome:
        text = scrub("".join(traceback.format_exception(error)))
        note(self._folder, number, f"{text}\n{_said(error)}")
        return Outcome(number, _said(error))


def note(folder: Path, number: int, text: str, *, only_new: bool = False) -> None:
    """Writes down why a shard failed, if that can be written and, with `only_new`, its worker has not done so."""
    if only_new and failed_file(folder, number).exists():
        return
    try:
        put(failed_file(folder, number), lambda path: path.write_text(text, "utf-8"))
    except OSError:
        return  # the outcome has the reason too


def _said(error: Exception) -> str:
    return one_line(scrub(str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"))
