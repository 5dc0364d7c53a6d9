"""The call store: every answer of the LLM, kept on disk before it is used, keyed by the request's content.

A killed build that is started again finds all that was answered. The file may be shared between builds:
equal requests have equal keys, whichever build made them.
"""

import json
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cards.errors import UserError
from cards.provenance import sha256_json

_TABLE = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    answer TEXT NOT NULL,
    stored_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
"""


class CallStore:
    """An append-only SQLite table of requests and answers, both JSON."""

    def __init__(self, path: Path) -> None:
        """Opens the store at `path`, or makes it.

        Raises:
            UserError: the file is something other than a call store.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            # WAL lets several builds share the file; NORMAL loses nothing when a process is killed.
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            raise UserError(f"call store {path}: cannot be opened: {error}; name another file with --store") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM calls").fetchone()[0])

    def get(self, key: str) -> dict[str, Any] | None:
        """The stored answer, or None."""
        row = self._connection.execute("SELECT answer FROM calls WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, request: dict[str, Any], answer: dict[str, Any]) -> None:
        """Keeps an answer; the first one stored under a key stays."""
        self._connection.execute(
            "INSERT OR IGNORE INTO calls (key, request, answer) VALUES (?, ?, ?)",
            (key, json.dumps(request, ensure_ascii=False), json.dumps(answer, ensure_ascii=False)),
        )


def call_key(request: dict[str, Any]) -> str:
    """The key of a request: SHA-256 of all that shapes its answer (model, messages, sampling)."""
    return sha256_json(request)
