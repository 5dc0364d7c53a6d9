"""The call store: every answer of the LLM, kept on disk before it is used, keyed by the request's content.

A killed build that is started again finds all that was answered. The file may be shared between builds:
equal requests have equal keys, whichever build made them.
"""

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from builders.llm.store_file import DamagedError, StoreFile
from builders.llm.store_format import Call, Failure, checksum, insert
from foils.errors import scrub
from foils.provenance import canonical_json, sha256_json

FAILURES_KEPT = 20
"""Of one key, the latest; their numbers tell how many there were."""

_LONGEST_PROBLEM, _SHORTEST_SECRET = 200, 6  # characters
_VARIABLES = 900


class CallStore:
    """An append-only SQLite table of requests and answers, both JSON; threads may share a store, processes its file."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens the store at `path`, or makes it, and repairs it where it is damaged.

        Args:
            path: its file. Beside it lie SQLite's `-wal` and `-shm`, and `.lock`, which keeps repairs from other users.
            read_only: opens it where nothing can be written; then nothing is made, migrated or repaired.

        Raises:
            StoreNotWritableError: the disk is full, or the place cannot be written to.
            UserError: the file is something other than a call store, or of a newer version.
        """
        self._file = StoreFile(path, read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._file.do(lambda db: int(db.execute("SELECT count(*) FROM calls").fetchone()[0]))

    def get(self, key: str) -> dict[str, Any] | None:
        """The stored answer, or None."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The stored answers of those of `keys` that have one."""
        wanted = list(dict.fromkeys(keys))
        return self._file.do(lambda db: {key: _object(key, answer) for key, answer in _answers(db, wanted)})

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that have no answer yet, each once, in their order.

        Answers are read for this and not only looked up: a damaged one is missing, so that it is asked for again, and
        all others can be had afterwards.
        """
        wanted = list(dict.fromkeys(keys))
        known = self._file.do(lambda db: {key for key, _ in _answers(db, wanted)})
        return [key for key in wanted if key not in known]

    def put(self, key: str, request: dict[str, Any], answer: dict[str, Any]) -> None:
        """Keeps an answer; the first one stored under a key stays."""
        self.put_many([(key, request, answer)])

    def put_many(self, rows: Sequence[tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
        """Keeps several answers in one transaction, all or none; the first one stored under a key stays.

        Args:
            rows: key, request and answer of each. The key must be `call_key(request)`: by that, repairs and imports
                know a sound row.

        Raises:
            StoreNotWritableError: the disk is full, or the place cannot be written to.
        """
        self.add([Call(key, _json(request), _json(answer)) for key, request, answer in rows])

    def put_keyed(self, rows: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        """As `put_many`, of requests as `keyed` gives them."""
        self.add([Call(key, request, _json(answer)) for key, request, answer in rows])

    def add(self, calls: Sequence[Call]) -> int:
        """Keeps calls as another store had them, all or none; returns how many were new."""
        return self._file.transact(lambda db: insert(db, calls))

    def calls(self, after: str, count: int) -> list[Call]:
        """The next `count` calls behind a key, in the order of keys: with "" to begin with, the store in portions."""
        query = "SELECT key, request, answer, stored_at, crc FROM calls WHERE key > ? ORDER BY key LIMIT ?"
        return self._file.do(lambda db: [_call(*row) for row in db.execute(query, (after, count))])

    def calls_of(self, keys: Iterable[str]) -> list[Call]:
        """The calls under these keys as far as they are here, in the order of keys."""
        wanted = list(dict.fromkeys(keys))
        query = "SELECT key, request, answer, stored_at, crc FROM calls WHERE key IN "
        return self._file.do(lambda db: sorted(_call(*row) for row in _select(db, query, wanted)))

    def note_failure(self, key: str, problem: str) -> None:
        """Keeps one failed try, see `note_failures`."""
        self.note_failures([(key, problem)])

    def note_failures(self, failures: Sequence[tuple[str, str]]) -> None:
        """Keeps that tries of requests failed, and why; of one key the latest `FAILURES_KEPT` stay.

        Args:
            failures: the request's key, and what kind of failure, such as `answered 503`, of each; addresses and
                secrets are struck out of the latter.
        """
        note = (
            "INSERT INTO failures (key, attempt, problem) "
            "SELECT ?1, coalesce(max(attempt), 0) + 1, ?2 FROM failures WHERE key = ?1"
        )
        trim = (
            "DELETE FROM failures WHERE key = ?1 AND attempt <= (SELECT max(attempt) FROM failures WHERE key = ?1) - ?2"
        )

        def work(db: sqlite3.Connection) -> None:
            for key, problem in failures:
                db.execute(note, (key, without_secrets(problem)))
            for key in {key for key, _ in failures}:
                db.execute(trim, (key, FAILURES_KEPT))

        self._file.transact(work)

    def failures(self, key: str) -> list[Failure]:
        """The failed tries of a request, the earliest first."""
        query = "SELECT key, attempt, problem, at FROM failures WHERE key = ? ORDER BY attempt"
        return self._file.do(lambda db: [Failure(*row) for row in db.execute(query, (key,))])

    def failure_kinds(self) -> dict[str, int]:
        """Problem -> how often it was noted, the most frequent first."""
        query = "SELECT problem, count(*) FROM failures GROUP BY problem ORDER BY 2 DESC, 1"
        return self._file.do(lambda db: dict(db.execute(query).fetchall()))


def call_key(request: dict[str, Any]) -> str:
    """The key of a request: SHA-256 of all that shapes its answer (model, messages, sampling)."""
    return sha256_json(request)


def keyed(request: dict[str, Any]) -> tuple[str, str]:
    """A request's key, and the request as the store keeps it: the text that the key is the hash of."""
    text = canonical_json(request)
    return hashlib.sha256(text.encode()).hexdigest(), text


def without_secrets(problem: str) -> str:
    """A failure in short, without addresses (they may hold credentials), keys and tokens.

    >>> without_secrets("POST https://me:pass@host/v1?key=1: answered 401, Bearer sk-abc refused")
    'POST (address) answered 401, Bearer *** refused'
    """
    for name, value in os.environ.items():
        if re.search(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", name) and len(value) >= _SHORTEST_SECRET:
            problem = problem.replace(value, "***")
    problem = re.sub(r"\S*://\S+|\S+:\S+@\S+", "(address)", scrub(problem))
    problem = re.sub(
        r"(?i)\b((?:proxy-)?authorization|(?:\w+[-_ ])?(?:api[-_ ]?key|token|secret)|password)\b[\"']?\s*[:=]\s*"
        r"(?:(?:bearer|basic)\s+)?\S+",
        r"\1 ***",
        problem,
    )
    problem = re.sub(r"(?i)\b(bearer|basic)\s+\S+", r"\1 ***", problem)
    problem = re.sub(r"\b(?:sk|pk|hf|gsk|xai|nvapi|ghp|r8)[-_]\S+", "***", problem)
    problem = re.sub(r"(?=[\w+/=.-]*\d)(?=[\w+/=.-]*[A-Za-z])[\w+/=.-]{24,}", "***", problem)
    return " ".join(problem.split())[:_LONGEST_PROBLEM]


def _select(db: sqlite3.Connection, query: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Runs `query`, which ends in `IN`, for lists of keys within SQLite's limit on variables (999 for long)."""
    for start in range(0, len(keys), _VARIABLES):
        some = keys[start : start + _VARIABLES]
        yield from db.execute(f"{query} ({','.join('?' * len(some))})", some)


def _answers(db: sqlite3.Connection, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Key and answer (JSON) of those that are here; an answer that is not as it was stored is damage."""
    keys = sorted(keys)  # neighbours in the index: twice as fast
    for key, answer, crc in _select(db, "SELECT key, answer, crc FROM calls WHERE key IN", keys):
        yield key, _sound(key, answer, crc)


def _call(key: str, request: str, answer: str, stored_at: str, crc: int | None) -> Call:
    return Call(key, request, _sound(key, answer, crc), stored_at)


def _sound(key: str, answer: str, crc: int | None) -> str:
    """The answer, if it is the one that was stored; rows of the first stores have no checksum and must only be JSON."""
    if crc is None:
        _object(key, answer)
    elif checksum(key, answer.encode()) != crc:
        raise DamagedError(f"the answer under {key} is not as it was stored")
    return answer


def _object(key: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise DamagedError(f"the answer under {key} is no JSON object")
    return value


def _json(value: dict[str, Any]) -> str:
    """A value as JSON; a lone surrogate, which an endpoint may send and SQLite cannot keep, is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text
