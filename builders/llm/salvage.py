"""Finds the calls that a damaged store still holds, page by page, without SQLite.

A row of `calls` proves itself: its key is the hash of its request, and its answer has a checksum. So any page image
that holds one will do, wherever it lies: under a lost root page, or behind the break of a write-ahead log.

The formats: https://www.sqlite.org/fileformat2.html
"""

import mmap
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from builders.llm.store_format import Call, Failure, checksum, insert, is_call, migrate, transaction

PAGE_BYTES = 4096  # of every store that was made here
_PAGE_SIZES = {2**power for power in range(9, 17)}
_LOG_HEADER, _FRAME_HEADER = 32, 24
_TABLE_LEAF = 13
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type -> size
_FIRST_BLOB = 12  # even serial types from here are blobs, odd ones texts

Buffer: TypeAlias = "bytes | mmap.mmap"
Value: TypeAlias = "str | int | None"


def rebuild(damaged: Path, log: bytes, new: Path) -> int:
    """Writes a healthy store with all rows of a damaged one; returns the number of answers.

    Args:
        damaged: its file, which nobody has open.
        log: what its write-ahead log held.
        new: where the healthy store shall lie; what a killed repair left there is removed.
    """
    for leftover in (new, new.with_name(f"{new.name}-journal")):
        leftover.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection, damaged.open("rb") as file:
        migrate(connection)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if damaged.stat().st_size else b""
        with transaction(connection):
            insert(connection, rows_in_file(data, log))
        return int(connection.execute("SELECT count(*) FROM calls").fetchone()[0])


def page_bytes(data: Buffer) -> int:
    """The page size that a file's header names; the usual one where the header is damaged."""
    size = int.from_bytes(data[16:18], "big")
    size = 65536 if size == 1 else size
    return size if size in _PAGE_SIZES else PAGE_BYTES


def rows_in_file(data: Buffer, log: Buffer) -> Iterator[Call | Failure]:
    """All rows in a store's file and in its write-ahead log; the same row may come several times."""
    size = page_bytes(data)
    for start in range(0, len(data), size):
        yield from _rows(data[start : start + size], size, lambda number: data[(number - 1) * size : number * size])
    yield from rows_in_log(log, size, 0, data)


def rows_in_log(log: Buffer, size: int, skip: int, data: Buffer = b"") -> Iterator[Call | Failure]:
    """All rows in a write-ahead log, valid or not.

    Args:
        log: its bytes.
        size: of a page, in bytes.
        skip: frames at its begin that need not be looked at.
        data: the file that it belongs to, for the overflow pages that are not in the log.
    """
    frames = [(int.from_bytes(log[at : at + 4], "big"), at + _FRAME_HEADER) for at in _frames(log, size)]
    latest = dict(frames)

    def page(number: int) -> bytes:
        at = latest.get(number)
        return log[at : at + size] if at is not None else data[(number - 1) * size : number * size]

    for _, at in frames[skip:]:
        yield from _rows(log[at : at + size], size, page)


def breaks_off(log: bytes, size: int, seen: int) -> bool:
    """Whether a write-ahead log holds commits behind the frames that SQLite sees, so that it must be damaged.

    Without any, the frames behind are those of a process that was killed before its commit, or are left from before the
    log was last begun anew: then their salts are not those of its header.
    """
    frames = _frames(log, size)
    own = [at for at in frames if log[at + 8 : at + 16] == log[16:24]]
    return not own or any(any(log[at + 4 : at + 8]) for at in own if frames.index(at) >= seen)


def _frames(log: Buffer, size: int) -> range:
    """Where the frames of a write-ahead log begin."""
    return range(_LOG_HEADER, len(log) - _FRAME_HEADER - size + 1, _FRAME_HEADER + size)


def _rows(page: bytes, size: int, page_of: Callable[[int], bytes]) -> Iterator[Call | Failure]:
    """The rows on one page that prove themselves; none if it is no leaf of a table."""
    if len(page) < 8 or page[0] != _TABLE_LEAF:  # noqa: PLR2004
        return
    for cell in range(int.from_bytes(page[3:5], "big")):
        pointer = page[8 + 2 * cell : 10 + 2 * cell]
        if len(pointer) < 2:  # noqa: PLR2004
            return
        try:
            row = _proven(list(_values(_payload(page, int.from_bytes(pointer, "big"), size, page_of))))
        except (IndexError, ValueError, RecursionError):
            continue  # this one is damaged; its neighbours may not be
        if row is not None:
            yield row


def _proven(values: list[Value]) -> Call | Failure | None:
    match values:
        case [str(key), str(request), str(answer), str(at), *rest]:
            right = not rest or rest[0] in (None, checksum(key, answer.encode()))
            if right and is_call(key, request, answer):
                return Call(key, request, answer, at)
        case [str(key), int(attempt), str(problem), str(at)]:
            return Failure(key, attempt, problem, at)
    return None


def _payload(page: bytes, at: int, size: int, page_of: Callable[[int], bytes]) -> bytes:
    """The record of the cell at `at`, put together from its page and its chain of overflow pages."""
    length, at = _varint(page, at)
    _, at = _varint(page, at)  # the row's number
    most, least = size - 35, (size - 12) * 32 // 255 - 23
    if length <= most:
        local = length
    else:
        local = least + (length - least) % (size - 4)
        local = local if local <= most else least
    parts = [page[at : at + local]]
    left = length - local
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    while left > 0:
        overflow = page_of(following) if following else b""
        if len(overflow) < min(size, left + 4):
            raise ValueError("the chain of overflow pages is broken")
        parts.append(overflow[4 : 4 + left])
        left -= size - 4
        following = int.from_bytes(overflow[:4], "big")
    payload = b"".join(parts)
    if len(payload) != length:
        raise ValueError("the page ends within the record")
    return payload


def _values(payload: bytes) -> Iterator[Value]:
    """The columns of a record; those of kinds that a store does not use are None."""
    end, at = _varint(payload, 0)
    body = end
    while at < end:
        kind, at = _varint(payload, at)
        size = (kind - _FIRST_BLOB) // 2 if kind >= _FIRST_BLOB else _INTEGER_BYTES.get(kind, 8 if kind == 7 else 0)  # noqa: PLR2004
        value = payload[body : body + size]
        if len(value) != size:
            raise ValueError("the record ends within a column")
        body += size
        if kind > _FIRST_BLOB and kind % 2:
            yield value.decode()
        elif kind in _INTEGER_BYTES:
            yield int.from_bytes(value, "big", signed=True)
        else:
            yield kind - 8 if kind in {8, 9} else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """SQLite's integer of 1 to 9 bytes, and where it ends.

    >>> _varint(bytes([0x81, 0x00]), 0)
    (128, 2)
    """
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:  # noqa: PLR2004
            return value, place + 1
    return value << 8 | data[at + 8], at + 9
