"""The file under a call store: opening, migrating, sharing it, and repairing it where it is damaged.

What is looked at on opening is cheap: SQLite compares the file's length with its header, a small file is checked as a
whole, a large one's index is walked through, and what lies behind the end of the write-ahead log is read. All other
damage shows when a row is read, and is repaired then.
"""

import errno
import fcntl
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import RLock
from typing import TypeVar
from urllib.parse import quote

from builders.llm.salvage import breaks_off, rebuild, rows_in_log
from builders.llm.store_format import VERSION, WAIT_S, Call, insert, migrate, share, transaction
from foils.errors import UserError

logger = logging.getLogger(__name__)
T = TypeVar("T")

REPAIR_WAIT_S = 5  # for other processes to close a damaged file
SMALL_BYTES = 32 * 2**20  # checked as a whole in under 0.1 s
SMALLEST_PAGE = 512  # that SQLite knows

_REFUSED = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}


class StoreNotWritableError(UserError):
    """The disk is full or the place read-only; what was stored can still be read with `read_only`."""


class DamagedError(Exception):
    """The file is damaged in a way that SQLite does not notice by itself."""


class StoreFile:
    """An SQLite file that several processes may have open, each any number of times."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Opens the file, or makes it; see `CallStore`."""
        self._path, self._read_only = path, read_only
        self._lock, self._guard = RLock(), -1
        self._connection, self._ready = sqlite3.connect(":memory:"), False
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
                # Held as long as the file is open, so that nobody replaces it while others write to it.
                self._guard = os.open(self._beside(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
                fcntl.flock(self._guard, fcntl.LOCK_SH)
            self.do(lambda _: None)
        except OSError as error:
            self.close()
            raise self._explained(error) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()
        if self._guard >= 0:
            os.close(self._guard)
            self._guard = -1

    def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work`; if it meets damage, repairs the file and runs it once more.

        Raises:
            StoreNotWritableError: the disk is full or the place read-only.
            UserError: whatever else the file or the disk has.
        """
        with self._lock:
            for last in (False, True):
                try:
                    try:
                        return work(self._connection if self._ready else self._connect())
                    except (sqlite3.Error, DamagedError) as error:
                        if last or not _is_damage(error):
                            raise
                        self._repair(str(error))
                except sqlite3.ProgrammingError:
                    raise  # the caller's mistake
                except (sqlite3.Error, DamagedError, OSError) as error:
                    raise self._explained(error) from None
        raise AssertionError

    def transact(self, work: Callable[[sqlite3.Connection], object]) -> int:
        """Like `do`, all or nothing; returns how many rows were changed."""

        def whole(connection: sqlite3.Connection) -> int:
            before = connection.total_changes
            with transaction(connection):
                work(connection)
            return connection.total_changes - before

        if self._read_only:
            raise self._not_writable("it was opened to be read only")
        return self.do(whole)

    def _connect(self) -> sqlite3.Connection:
        """Opens the file, and looks for damage before anything is written."""
        if self._read_only:
            self._connection, self._ready = self._connect_to_read(), True
            return self._connection
        has_log = self._size("-wal") > 0  # looked at first: a healthy file has a page before it has a log
        if self._size() < SMALLEST_PAGE and (has_log or self._size()):
            raise DamagedError("it is shorter than a page")
        self._connection = connection = _opened(str(self._path))
        version = self._version(connection)
        left, torn = self._calls_behind_log(connection)
        self._look_through(connection, whole=torn)
        kept = f"{self._free_name()}-wal"
        if torn:
            shutil.copyfile(self._beside("-wal"), kept)
        share(connection)
        if version < VERSION:
            migrate(connection)
        if left:
            with transaction(connection):
                insert(connection, left)
        if torn:
            logger.warning(
                "call store %s: its write-ahead log was damaged: %d answers in it were saved, and it is kept as %s",
                *(self._path, len(left), kept),
            )
        self._ready = True
        return connection

    def _connect_to_read(self) -> sqlite3.Connection:
        """Opens the file where SQLite cannot make its `-shm`: a log is then read without locks, as nobody writes."""
        if not self._path.is_file():
            raise UserError(f"call store {self._path}: no such file; name the --store of an earlier build")
        alone = "mode=ro&vfs=unix-none" if self._size("-wal") else "immutable=1"
        for way in ("mode=ro", alone):
            connection = _opened(f"file:{quote(str(self._path))}?{way}", uri=True)
            if way != "mode=ro":
                connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            try:
                version = self._version(connection)
            except sqlite3.OperationalError:
                connection.close()
                if way == alone:
                    raise
                continue
            if version == 0:  # not migrated, so it is made to look so
                connection.execute("PRAGMA temp_store=MEMORY")
                connection.execute("CREATE TEMP VIEW calls AS SELECT *, NULL AS crc FROM main.calls")
                connection.execute("CREATE TEMP TABLE failures (key, attempt, problem, at)")
            return connection
        raise AssertionError

    def _version(self, connection: sqlite3.Connection) -> int:
        """The version of a call store; 0 for a new file as well.

        Raises:
            UserError: it is something else, or newer than this code.
        """
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "calls" not in tables:
            raise UserError(
                f"call store {self._path}: it is a database of another kind (its tables: {', '.join(sorted(tables))}); "
                "name another file with --store"
            )
        if tables:
            connection.execute("SELECT key, request, answer, stored_at FROM calls LIMIT 0")
        if not 0 <= version <= VERSION:
            raise UserError(
                f"call store {self._path}: it is of version {version}, and this Foils knows versions up to {VERSION}; "
                "use the newer Foils that made it, or name another file with --store"
            )
        if version and not tables:
            raise DamagedError("its tables are gone")
        return version

    def _calls_behind_log(self, connection: sqlite3.Connection) -> tuple[list[Call], bool]:
        """Calls in the write-ahead log that SQLite does not see, and whether that is since the log is damaged.

        Else a build was killed when it had written them and not yet committed: they are true all the same.
        """
        if not self._size("-wal"):
            return [], False
        seen = max(0, int(connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]))
        size = int(connection.execute("PRAGMA page_size").fetchone()[0])
        log = self._beside("-wal").read_bytes()
        calls = [row for row in dict.fromkeys(rows_in_log(log, size, seen)) if isinstance(row, Call)]
        for pause in (0.0, 0.2):  # another process may have been about to commit them
            time.sleep(pause if calls else 0)
            if not calls or not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone():
                break
            known = "SELECT 1 FROM calls WHERE key = ?"
            calls = [call for call in calls if not connection.execute(known, (call.key,)).fetchone()]
        return calls, bool(calls) and breaks_off(log, size, seen)

    def _look_through(self, connection: sqlite3.Connection, *, whole: bool) -> None:
        """Reads as much of the file as can be read in a moment, or the whole.

        Raises:
            DamagedError: it is damaged; what SQLite itself notices comes as its own error.
        """
        size = int(connection.execute("PRAGMA page_size").fetchone()[0])
        if not self._size("-wal") and self._size() % size:  # with a log, somebody may be writing
            raise DamagedError("its last page is cut off")
        if whole or self._size() <= SMALL_BYTES:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise DamagedError(" ".join(str(found).split()))
        else:
            connection.execute("SELECT count(*) FROM calls").fetchone()
            connection.execute("SELECT hex(answer) FROM calls ORDER BY rowid DESC LIMIT 1").fetchone()

    def _repair(self, why: str) -> None:
        """Replaces the file by one with all rows that can be read; keeps the damaged one beside it.

        Raises:
            UserError: it is opened elsewhere, or holds no answer, so that it may be no call store at all.
        """
        if self._read_only:
            raise UserError(
                f"call store {self._path}: it is damaged ({why}); copy it, and the -wal beside it, to a place that can "
                "be written to: it is repaired when it is opened there"
            )
        damaged = self._path.stat().st_ino
        self._wait_until_alone(damaged)
        try:
            self._ready = False
            log = self._beside("-wal").read_bytes() if self._size("-wal") else b""
            self._connection.close()  # may remove the log
            if self._path.stat().st_ino == damaged:
                self._replace(log, why)
        finally:
            fcntl.flock(self._guard, fcntl.LOCK_SH)

    def _replace(self, log: bytes, why: str) -> None:
        new, kept = self._beside(".repairing"), self._free_name()
        saved = rebuild(self._path, log, new)
        if not saved:
            new.unlink()
            raise UserError(
                f"call store {self._path}: it holds no answer that can be read ({why}); name another file with "
                "--store, or move it away"
            )
        if log:
            Path(f"{kept}-wal").write_bytes(log)
        try:
            kept.hardlink_to(self._path)
        except OSError:  # a file system without links
            shutil.copyfile(self._path, kept)
        for suffix in ("-wal", "-shm"):
            self._beside(suffix).unlink(missing_ok=True)
        new.replace(self._path)
        logger.warning(
            "call store %s was damaged (%s): %d answers were saved; the damaged file is kept as %s",
            *(self._path, why, saved, kept),
        )

    def _wait_until_alone(self, damaged: int) -> None:
        """Returns when nobody else has the file with this number open, or another process has replaced it."""
        until = time.monotonic() + REPAIR_WAIT_S
        while self._path.stat().st_ino == damaged:
            with suppress(BlockingIOError):
                fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() > until:
                raise UserError(
                    f"call store {self._path}: it is damaged, and cannot be repaired while another process has it "
                    "open; wait for that one or end it, then run the same command again"
                )
            time.sleep(0.05)

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _size(self, suffix: str = "") -> int:
        with suppress(FileNotFoundError):
            return self._beside(suffix).stat().st_size
        return 0

    def _free_name(self) -> Path:
        names = (self._beside(f".damaged-{number}") for number in count(1))
        return next(name for name in names if not name.exists() and not Path(f"{name}-wal").exists())

    def _not_writable(self, why: str) -> StoreNotWritableError:
        return StoreNotWritableError(
            f"call store {self._path}: it cannot be written to ({why}); name a file in another place with --store, or "
            "copy it there; answers so far are kept"
        )

    def _explained(self, error: Exception) -> UserError:
        """An error of SQLite or the system as the user should read it."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
            return StoreNotWritableError(
                f"call store {self._path}: the disk is full; free some space and run the same command again: answers "
                "so far are kept"
            )
        if isinstance(error, OSError):
            return self._not_writable(error.strerror or str(error))
        if code in _REFUSED:
            return self._not_writable("it is a folder" if self._path.is_dir() else str(error))
        if code == sqlite3.SQLITE_IOERR:
            return StoreNotWritableError(
                f"call store {self._path}: the disk failed ({getattr(error, 'sqlite_errorname', error)}); see to its "
                "free space, your quota and its health, then run the same command again: answers so far are kept"
            )
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return UserError(
                f"call store {self._path}: another process has kept it locked for {WAIT_S} s; end that one, then run "
                "the same command again"
            )
        return UserError(f"call store {self._path}: cannot be used: {error}; name another file with --store")


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    no_text = "Could not decode to UTF-8" in str(error)  # has no code
    return isinstance(error, DamagedError) or no_text or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _opened(name: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=WAIT_S, isolation_level=None, check_same_thread=False, uri=uri)
