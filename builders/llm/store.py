"""The call store: every answer of the LLM, kept on disk before it is used, keyed by the request's content.

A killed build that is started again finds all that was answered. Builds may share the file, also at the same time:
equal requests have equal keys, whichever build made them.
"""

import errno
import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from builders.llm.failures import without_secrets
from foils.errors import UserError
from foils.provenance import canonical_json

VERSION = 2
WAIT_S = 60
"""How long a process waits for another one that writes."""
FAILURES_KEPT = 20
"""Of a request; the latest ones."""

_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_TABLES = f"""
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL, stored_at TEXT NOT NULL DEFAULT ({_NOW})
);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, problem TEXT NOT NULL, at TEXT NOT NULL DEFAULT ({_NOW}),
    PRIMARY KEY (key, attempt)
);
PRAGMA user_version = {VERSION}"""
_CHECKED_BYTES = 32 * 2**20  # a file up to this size is checked as a whole when it is opened, in under 0.1 s
_SMALLEST_PAGE = 512  # that SQLite knows
_WAL_PAGES = 4000  # of 4 KiB, between two syncs; SQLite's own thousand would take half of the time that writing takes
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

Stored = dict[str, Any]
"""An answer as the store keeps it."""


class CallStore:
    """An append-only SQLite table of requests and answers."""

    def __init__(self, path: Path, given: Mapping[str, Stored] | None = None, *, read_only: bool = False) -> None:
        """Opens the store at `path`, or makes it. SQLite's `-wal` and `-shm` lie beside it while it is in use.

        Args:
            path: of the file.
            given: answers by key, which are taken over one by one where the store has none.
            read_only: leaves a file as it is that is there, even where nothing may be written beside it.

        Raises:
            UserError: the file is damaged, not a call store or of another version, or cannot be read or written.
        """
        self._path, self._given = path, given or {}
        self._db = sqlite3.connect(":memory:")
        try:
            with self._explained():
                if read_only:
                    wal = path.with_name(f"{path.name}-wal")
                    how = "mode=ro" if wal.exists() and wal.stat().st_size else "immutable=1"
                    self._db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", WAIT_S, uri=True)
                    self._check()
                    return
                path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(path, WAIT_S, isolation_level="IMMEDIATE")
                self._check()
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def __len__(self) -> int:
        return int(self.rows("SELECT count(*) FROM calls")[0][0])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """The keys in their order, each with its answer, which is JSON."""
        with self._explained():
            yield from self._db.execute("SELECT key, answer FROM calls ORDER BY key")

    def rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        """The rows that a query in SQL finds.

        Raises:
            UserError: the file is damaged, or cannot be read.
        """
        with self._explained():
            return self._db.execute(query, values).fetchall()

    def found(self, key: str, request: str) -> Stored | None:
        """The answer to a request, which `keyed` returned with its key; None where there is none."""
        with self._explained():
            for (answer,) in self._db.execute("SELECT answer FROM calls WHERE key = ?", (key,)):
                return answer_in(answer)
        return self.put_many([(key, request, self._given[key])])[0] if key in self._given else None

    def put_many(self, rows: Sequence[tuple[str, str, Stored]]) -> list[Stored]:
        """Keeps several answers in one transaction, all or none; the first one stored under a key stays.

        Args:
            rows: the key and the request as `keyed` returns them, and the answer.

        Returns:
            What is stored under each key: another process may have been first with another answer.

        Raises:
            UserError: the disk is full, or the place cannot be written to.
        """
        insert = "INSERT OR IGNORE INTO calls (key, request, answer) VALUES (?, ?, ?)"
        if not rows:
            return []
        with self._explained(), self._db:
            added = self._db.executemany(insert, [(key, request, _json(answer)) for key, request, answer in rows])
        if added.rowcount == len(rows):
            return [answer for *_, answer in rows]
        return [self.found(key, request) or answer for key, request, answer in rows]

    def note_failure(self, key: str, problem: str) -> None:
        """Keeps the problem of a failed try, without secrets.

        Raises:
            UserError: as `put_many`.
        """
        with self._explained(), self._db:
            self._db.execute(
                "INSERT INTO failures (key, attempt, problem) "
                "SELECT ?1, coalesce(max(attempt), 0) + 1, ?2 FROM failures WHERE key = ?1",
                (key, without_secrets(problem)),
            )
            self._db.execute(
                "DELETE FROM failures WHERE key = ?1 AND attempt <= "
                "(SELECT max(attempt) FROM failures WHERE key = ?1) - ?2",
                (key, FAILURES_KEPT),
            )

    def failures(self, key: str) -> list[str]:
        """The problems of a request's failed tries, the earliest first."""
        return [problem for (problem,) in self.rows("SELECT problem FROM failures WHERE key = ? ORDER BY attempt", key)]

    def _check(self) -> None:
        """Refuses a file that is not a call store of this version, and looks for damage in a small one.

        Raises:
            UserError: it is not a call store, or of another version.
            sqlite3.DatabaseError: it is damaged.
        """
        size, problem = self._path.stat().st_size, None
        if 0 < size < _SMALLEST_PAGE:  # SQLite would take it for an empty database
            raise self._damaged("it is shorter than a page")
        tables = sorted(name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        # Read after the tables, which another process may be making: both come in one transaction.
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if tables and "calls" not in tables:
            problem = f"it is a database of another kind (its tables: {', '.join(tables)});"
        elif tables and version != VERSION:
            problem = (
                f"it is of version {version}, and this Foils knows version {VERSION}; use the Foils that made it, or"
            )
        if problem is not None:
            raise UserError(f"call store {self._path}: {problem} name another file with --store")
        if size <= _CHECKED_BYTES:
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise self._damaged(" ".join(str(found).split()))

    def _prepare(self) -> None:
        """Makes the tables that are missing, and lets several processes use the file at once.

        The write-ahead log survives killed processes. SQLite syncs at checkpoints: only a power cut can cost answers.
        """
        until = time.monotonic() + WAIT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:
                # SQLite's own time-out does not hold for this: it fails at once while another process does the same.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.02)
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")  # which it does by itself only before data are written
            for statement in _TABLES.split(";"):
                self._db.execute(statement)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns an error of SQLite or of the system into the one that the user reads."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # the caller's mistake
        except (sqlite3.Error, OSError, ValueError) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if isinstance(error, ValueError) or code in _DAMAGED or "decode to UTF-8" in str(error):
                raise self._damaged(str(error)) from None
            if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
                problem = "the disk is full; free some space"
            elif code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                problem = f"another process has kept it locked for {WAIT_S} s; end that one"
            else:
                why = "it is a folder" if self._path.is_dir() else getattr(error, "strerror", None) or str(error)
                problem = (
                    f"it cannot be read or written to ({why}); name a file in another place with --store, or copy it "
                    "there, and the -wal beside it,"
                )
            raise UserError(
                f"call store {self._path}: {problem} and run the same command again: answers so far are kept"
            ) from None

    def _damaged(self, why: str) -> UserError:
        return UserError(
            f"call store {self._path}: it is damaged, or not a call store ({why}); name another file with --store. To "
            f"save its answers: sqlite3 {self._path} .recover | sqlite3 NEW, then name NEW"
        )


def keyed(request: dict[str, Any]) -> tuple[str, str]:
    """A request's key, and the request as the store keeps it: the text that the key is the SHA-256 of."""
    text = canonical_json(request)
    return hashlib.sha256(text.encode()).hexdigest(), text


def answer_in(text: str) -> Stored:
    """A stored answer. msgspec would refuse a lone surrogate in it.

    Raises:
        ValueError: it is something other than a JSON object.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text[:40]!r} is not a JSON object")  # noqa: TRY004 - as of what is not JSON
    return value


def _json(value: Stored) -> str:
    """A value as JSON; a lone surrogate, which an endpoint may send and SQLite cannot keep, is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if re.search(r"[\ud800-\udfff]", text) else text
