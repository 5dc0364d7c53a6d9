"""What lies in a call store's file: its tables, their versions, and how a row shows that it is sound."""

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from foils.provenance import sha256_json

WAIT_S = 60
"""How long a process waits for another one that writes."""

_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_CALLS = f"""
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    answer TEXT NOT NULL,
    stored_at TEXT NOT NULL DEFAULT ({_NOW})
)
"""
_FAILURES = f"""
CREATE TABLE failures (
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    problem TEXT NOT NULL,
    at TEXT NOT NULL DEFAULT ({_NOW}),
    PRIMARY KEY (key, attempt)
)
"""
_MIGRATIONS = (
    # The first stores have no checksums, and 0 for a version, as a new file has.
    (_CALLS, "ALTER TABLE calls ADD COLUMN crc INTEGER", _FAILURES),
)
VERSION = len(_MIGRATIONS)

_INSERT_CALL = (
    "INSERT OR IGNORE INTO calls (key, request, answer, stored_at, crc) "  # noqa: S608
    f"VALUES (?, ?, ?, coalesce(?, {_NOW}), ?)"
)
_INSERT_FAILURE = "INSERT OR IGNORE INTO failures (key, attempt, problem, at) VALUES (?, ?, ?, ?)"


class Call(NamedTuple):
    """A row of `calls`: `request` and `answer` are JSON; `stored_at` is UTC, or None for now."""

    key: str
    request: str
    answer: str
    stored_at: str | None = None


class Failure(NamedTuple):
    """A row of `failures`: one failed try of a request; `attempt` counts from 1, over all builds."""

    key: str
    attempt: int
    problem: str
    at: str


def checksum(key: str, answer: bytes) -> int:
    """What the column `crc` holds: CRC-32 of key and answer."""
    return zlib.crc32(answer, zlib.crc32(key.encode()))


def is_call(key: str, request: str, answer: str) -> bool:
    """Whether the key is the hash of the request, and the answer a JSON object."""
    try:
        return sha256_json(json.loads(request)) == key and isinstance(json.loads(answer), dict)
    except (ValueError, RecursionError):
        return False


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and no other process writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # the first error is the one that matters
            connection.execute("ROLLBACK")
        raise


def migrate(connection: sqlite3.Connection) -> None:
    """Brings a store of any earlier version, or a new file, to this one."""
    with transaction(connection):
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])  # again: another may have been quicker
        for statement in [statement for step in _MIGRATIONS[version:] for statement in step]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def insert(connection: sqlite3.Connection, rows: Iterable[Call | Failure]) -> None:
    """Adds those rows whose keys are not there yet."""
    for row in rows:
        if isinstance(row, Call):
            connection.execute(_INSERT_CALL, (*row, checksum(row.key, row.answer.encode())))
        else:
            connection.execute(_INSERT_FAILURE, row)


def share(connection: sqlite3.Connection) -> None:
    """Lets several processes read and write the file at once: a write-ahead log, which survives killed processes.

    Raises:
        sqlite3.OperationalError: another process keeps the file locked, or it cannot be written.
    """
    until = time.monotonic() + WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # SQLite's own time-out does not hold for this: it fails at once while another process does the same.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            connection.execute("PRAGMA synchronous=NORMAL")  # syncs at checkpoints; only a power cut can cost answers
            return
