"""The call store: every answer of the LLM, kept on disk before it is used, keyed by the request's content.

A killed build that is started again finds all that was answered. Builds may share the file, also at the same time:
equal requests have equal keys, whichever build made them.
"""

import errno
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from builders.llm.redaction import without_secrets
from foils.errors import UserError
from foils.provenance import canonical_json

VERSION = 2
"""Those of versions 0 and 1 are read and written as well. Version 1 has one more column, `crc`, which may be empty."""
WAIT_S = 60
"""How long a process waits for another one that writes."""
FAILURES_KEPT = 20
"""The failed tries that are kept of one request: the latest; their numbers go on counting."""

_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_TABLES = f"""
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL, stored_at TEXT NOT NULL DEFAULT ({_NOW})
);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, problem TEXT NOT NULL, at TEXT NOT NULL DEFAULT ({_NOW}),
    PRIMARY KEY (key, attempt)
)"""
_CHECKED_BYTES = 32 * 2**20  # a file up to this size is checked as a whole when it is opened, in under 0.1 s
_SMALLEST_PAGE = 512  # that SQLite knows
_VARIABLES = 900  # SQLite's limit was 999 for long
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REFUSED = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}


class Call(NamedTuple):
    """A stored call: `request` and `answer` are JSON."""

    key: str
    request: str
    answer: str


class CallStore:
    """An append-only SQLite table of requests and answers."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens the store at `path`, or makes it.

        Args:
            path: its file. SQLite's `-wal` and `-shm` lie beside it while it is in use.
            read_only: opens a store that is there, also where nothing can be written.

        Raises:
            UserError: the file is damaged, not a call store or of a newer version, or cannot be read or written.
        """
        self._path = path
        self._db = sqlite3.connect(":memory:")
        try:
            with self._explained():
                if read_only:
                    self._db = self._opened_to_read()
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._db = sqlite3.connect(path, WAIT_S, isolation_level=None)
                tables = self._check()
                if not read_only:
                    self._prepare()
                elif "failures" not in tables:  # of the first version
                    self._db.execute("CREATE TEMP TABLE failures (key, attempt, problem)")
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
        with self._explained():
            return int(self._db.execute("SELECT count(*) FROM calls").fetchone()[0])

    def __iter__(self) -> Iterator[Call]:
        """All calls in the order of their keys."""
        query, last = "SELECT key, request, answer FROM calls WHERE key > ? ORDER BY key LIMIT ?", ""
        while True:
            with self._explained():
                calls = [Call(*row) for row in self._db.execute(query, (last, _VARIABLES))]
            if not calls:
                return
            yield from calls
            last = calls[-1].key

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The stored answers of those of `keys` that have one."""
        wanted = sorted(set(keys))  # neighbours in the index: twice as fast
        found: dict[str, dict[str, Any]] = {}
        with self._explained():
            for start in range(0, len(wanted), _VARIABLES):
                some = wanted[start : start + _VARIABLES]
                query = f"SELECT key, answer FROM calls WHERE key IN ({','.join('?' * len(some))})"  # noqa: S608
                found |= {key: _object(key, answer) for key, answer in self._db.execute(query, some)}
        return found

    def put_many(self, rows: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        """Keeps several answers in one transaction, all or none; the first one stored under a key stays.

        Args:
            rows: the key and the request as `keyed` returns them, and the answer.

        Raises:
            UserError: the disk is full, or the place cannot be written to.
        """
        insert = "INSERT OR IGNORE INTO calls (key, request, answer) VALUES (?, ?, ?)"
        with self._transaction():
            self._db.executemany(insert, [(key, request, _json(answer)) for key, request, answer in rows])

    def note_failures(self, failures: Sequence[tuple[str, str]]) -> None:
        """Keeps that tries of requests failed, and why; of one key the latest `FAILURES_KEPT` stay.

        Args:
            failures: the request's key, and what kind of failure, such as `answered 503`, of each; addresses and
                secrets are struck out of the latter.
        """
        latest = "(SELECT coalesce(max(attempt), 0) FROM failures WHERE key = ?1)"
        note = f"INSERT INTO failures (key, attempt, problem) VALUES (?1, {latest} + 1, ?2)"  # noqa: S608
        trim = f"DELETE FROM failures WHERE key = ?1 AND attempt <= {latest} - {FAILURES_KEPT}"  # noqa: S608
        with self._transaction():
            self._db.executemany(note, [(key, without_secrets(problem)) for key, problem in failures])
            self._db.executemany(trim, [(key,) for key in {key for key, _ in failures}])

    def failures(self, key: str) -> list[str]:
        """The problems of a request's failed tries, the earliest first."""
        query = "SELECT problem FROM failures WHERE key = ? ORDER BY attempt"
        with self._explained():
            return [problem for (problem,) in self._db.execute(query, (key,))]

    def failure_kinds(self) -> dict[str, int]:
        """Problem -> how often it was noted, the most frequent first."""
        query = "SELECT problem, count(*) FROM failures GROUP BY problem ORDER BY 2 DESC, 1"
        with self._explained():
            return dict(self._db.execute(query).fetchall())

    def _opened_to_read(self) -> sqlite3.Connection:
        if not self._path.is_file():
            raise UserError(f"call store {self._path}: no such file; name the --store of an earlier build")
        log = self._path.with_name(f"{self._path.name}-wal")
        has_log = log.exists() and log.stat().st_size > 0
        # Without a log nobody writes, so the file can be taken as it is; with one, SQLite has to look into it, for
        # which it may have to write beside it.
        way = "ro" if has_log or os.access(self._path.parent, os.W_OK) else "ro&immutable=1"
        return sqlite3.connect(f"file:{quote(str(self._path))}?mode={way}", WAIT_S, uri=True)

    def _check(self) -> set[str]:
        """Returns the tables' names; refuses a file that is not a call store, and looks for damage in a small one.

        Raises:
            UserError: it is not a call store, or a newer one.
            sqlite3.DatabaseError: it is damaged.
        """
        size = self._path.stat().st_size
        if 0 < size < _SMALLEST_PAGE:
            raise self._damaged("it is shorter than a page")
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "calls" not in tables:
            raise UserError(
                f"call store {self._path}: it is a database of another kind (its tables: {', '.join(sorted(tables))}); "
                "name another file with --store"
            )
        if tables:
            self._db.execute("SELECT key, request, answer, stored_at FROM calls LIMIT 0")
        if not 0 <= version <= VERSION:
            raise UserError(
                f"call store {self._path}: it is of version {version}, and this Foils knows versions up to {VERSION}; "
                "use the newer Foils that made it, or name another file with --store"
            )
        if size <= _CHECKED_BYTES:
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise self._damaged(" ".join(str(found).split()))
        return tables

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

        with self._transaction():
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
                self._db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and no other process writes meanwhile."""
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # the first error is the one that matters
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns an error of SQLite or of the system into the one that the user reads."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # the caller's mistake
        except (sqlite3.Error, OSError, _NotAnAnswerError) as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> UserError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if isinstance(error, _NotAnAnswerError) or code in _DAMAGED or "decode to UTF-8" in str(error):
            return self._damaged(str(error))
        if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
            problem = "the disk is full; free some space and run the same command again: answers so far are kept"
        elif code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            problem = (
                f"another process has kept it locked for {WAIT_S} s; end that one, then run the same command again"
            )
        elif isinstance(error, OSError) or code in {*_REFUSED, sqlite3.SQLITE_IOERR}:
            why = getattr(error, "strerror", None) or ("it is a folder" if self._path.is_dir() else str(error))
            problem = (
                f"it cannot be read or written to ({why}); name a file in another place with --store, or copy it "
                "there, and the -wal beside it; answers so far are kept"
            )
        else:
            problem = f"cannot be used: {error}; name another file with --store"
        return UserError(f"call store {self._path}: {problem}")

    def _damaged(self, why: str) -> UserError:
        return UserError(
            f"call store {self._path}: it is damaged, or not a call store ({why}); name another file with --store. To "
            f"save its answers: sqlite3 {self._path} .recover | sqlite3 NEW, then name NEW"
        )


class _NotAnAnswerError(Exception):
    """What stands in place of an answer is something else."""


def keyed(request: dict[str, Any]) -> tuple[str, str]:
    """A request's key, and the request as the store keeps it: the text that the key is the SHA-256 of."""
    text = canonical_json(request)
    return hashlib.sha256(text.encode()).hexdigest(), text


def _object(key: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _NotAnAnswerError(f"the answer under {key} is not a JSON object")
    return value


def _json(value: dict[str, Any]) -> str:
    """A value as JSON; a lone surrogate, which an endpoint may send and SQLite cannot keep, is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text
