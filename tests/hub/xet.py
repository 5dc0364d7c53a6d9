"""A Xet content store: files cut into chunks, chunks gathered in xorbs, shards that say which chunks make which file.

The client does the cutting and the hashing; the store keeps what it is sent, and says how to put a file together.
Hashes of xorbs and files are taken on trust (they are keyed BLAKE3, which the standard library lacks), but a file that
the store itself puts together is checked against the SHA-256 in its shard.
"""

import hashlib
import secrets
import struct
import threading
import time
import uuid
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from tests.hub.answers import RefusedError
from tests.hub.store import Blobs

LZ4 = pa.Codec("lz4")
TOKEN_LIFE_S = 3600
END_OF_FILES = b"\xff" * 32
RECORD = 48  # bytes of each record in a shard


@dataclass(frozen=True)
class Xorb:
    """Where the chunks of a xorb lie: chunk i is bytes `starts[i]` to `starts[i + 1]`, `lengths[i]` bytes unpacked."""

    path: Path
    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def scan(cls, path: Path) -> "Xorb":
        """Walks over the chunk headers, which stand before each chunk, up to the footer if there is one."""
        starts, lengths = [0], []
        size = path.stat().st_size
        with path.open("rb") as file:
            while starts[-1] < size:
                file.seek(starts[-1])
                header = file.read(8)
                if header[0] != 0:  # the footer begins with a letter, chunks with version 0
                    break
                starts.append(starts[-1] + 8 + int.from_bytes(header[1:4], "little"))
                lengths.append(int.from_bytes(header[5:8], "little"))
        if not lengths or starts[-1] > size:
            raise RefusedError(400, "the xorb is cut off, or holds no chunk")
        return cls(path, tuple(starts), tuple(lengths))

    def chunks(self, first: int, end: int) -> Iterator[bytes]:
        """The unpacked chunks `first` to `end`."""
        with self.path.open("rb") as file:
            for i in range(first, end):
                file.seek(self.starts[i])
                data = file.read(self.starts[i + 1] - self.starts[i])
                yield _unpack(data[4], data[8:], self.lengths[i])


@dataclass(frozen=True)
class Term:
    """A run of chunks of one xorb."""

    xorb: str
    length: int  # bytes, unpacked
    first: int
    end: int


@dataclass(frozen=True)
class XetFile:
    """A file as a list of runs."""

    hash: str
    sha256: str | None
    terms: tuple[Term, ...]

    @property
    def size(self) -> int:
        return sum(term.length for term in self.terms)


class Xet:
    """The store. `uuid` is part of its URL: clients remember by URL which chunks a store already has."""

    def __init__(self, folder: Path, blobs: Blobs):
        self.uuid = str(uuid.uuid4())
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.blobs = blobs
        self.xorbs: dict[str, Xorb] = {}
        self.files: dict[str, XetFile] = {}
        self.by_sha256: dict[str, XetFile] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def token(self, scope: str) -> tuple[str, int]:
        """A short-lived token for "read" or "write", and when it ends."""
        token, end = f"xet_{secrets.token_hex(16)}", int(time.time()) + TOKEN_LIFE_S
        self._tokens[token] = (scope, end)
        return token, end

    def check_token(self, authorization: str | None, scope: str) -> None:
        known, end = self._tokens.get((authorization or "").removeprefix("Bearer "), ("", 0.0))
        if end < time.time():
            raise RefusedError(401, "unknown or expired Xet token")
        if scope not in (known, "read"):
            raise RefusedError(403, "this Xet token is for reading only")

    def add_xorb(self, name: str, incoming: Path) -> bool:
        """Takes in an uploaded xorb; False if it was there before."""
        if name in self.xorbs:
            return False
        path = self.folder / f"{name}.xorb"
        incoming.replace(path)
        self.xorbs[name] = Xorb.scan(path)
        return True

    def add_shard(self, shard: bytes) -> None:
        """Registers the files of a shard, all of them or, if any names chunks that are not here, none.

        A client with a cache from another store may send a shard alone; accepted, its files could never be read.
        """
        (self.folder / f"{hashlib.sha256(shard).hexdigest()}.shard").write_bytes(shard)
        try:
            files = list(_shard_files(shard))
        except (struct.error, IndexError) as error:
            raise RefusedError(400, f"the shard cannot be read: {error}") from error
        for file in files:
            for term in file.terms:
                xorb = self.xorbs.get(term.xorb)
                if xorb is None or term.end > len(xorb.lengths):
                    raise RefusedError(400, f"the shard names chunks of xorb {term.xorb} that are not here")
                if term.length != sum(xorb.lengths[term.first : term.end]):
                    raise RefusedError(400, f"the shard gives a wrong length for chunks of xorb {term.xorb}")
        for file in files:
            self.files[file.hash] = file
            if file.sha256:
                self.by_sha256[file.sha256] = file

    def assemble(self, sha256: str) -> None:
        """Puts a file together as a plain blob, for those who do not speak Xet."""
        file = self.by_sha256.get(sha256)
        if file is None:
            return
        with self._lock, self.blobs.incoming() as path:
            digest = hashlib.sha256()
            with path.open("wb") as out:
                for term in file.terms:
                    for chunk in self.xorbs[term.xorb].chunks(term.first, term.end):
                        digest.update(chunk)
                        out.write(chunk)
            if digest.hexdigest() != sha256:
                raise RefusedError(
                    500, f"the chunks of Xet file {file.hash} do not make the content its shard promised"
                )
            path.replace(self.blobs.path(sha256))

    def reconstruction(self, file: XetFile, start: int, end: int) -> tuple[int, list[Term]]:
        """The runs of chunks that cover bytes `start` to `end`, and how far into the first of them `start` is."""
        terms, at, skip = [], 0, 0
        for term in file.terms:
            if at < end and at + term.length > start:
                lengths = self.xorbs[term.xorb].lengths[term.first : term.end]
                ends = list(accumulate(lengths, initial=at))
                first = max(bisect_right(ends, start) - 1, 0)
                last = next((i for i, edge in enumerate(ends) if edge >= end), len(lengths))
                if not terms:
                    skip = max(start - ends[first], 0)
                terms.append(Term(term.xorb, ends[last] - ends[first], term.first + first, term.first + last))
            at += term.length
        return skip, terms


def _unpack(scheme: int, data: bytes, length: int) -> bytes:
    """A chunk as it was: stored plain (0), LZ4 (1), or LZ4 after sorting the bytes of 4-byte numbers by place (2)."""
    if scheme == 0:
        return data
    data = LZ4.decompress(data, length, asbytes=True)
    if scheme == 1:
        return data
    out, at = bytearray(len(data)), 0
    for place in range(4):
        group = out[place::4]
        out[place::4] = data[at : at + len(group)]
        at += len(group)
    return bytes(out)


def _shard_files(shard: bytes) -> Iterator[XetFile]:
    """The files in a shard: a header record, then for each file its own record and those of its runs of chunks."""
    at = RECORD
    while shard[at : at + 32] != END_OF_FILES:
        name = _hex(shard[at : at + 32])
        flags, n = struct.unpack_from("<II", shard, at + 32)
        at += RECORD
        terms = []
        for _ in range(n):
            length, first, end = struct.unpack_from("<III", shard, at + 36)
            terms.append(Term(_hex(shard[at : at + 32]), length, first, end))
            at += RECORD
        if flags >> 31 & 1:  # hashes that prove the client has the chunks: one record a run
            at += n * RECORD
        sha256 = None
        if flags >> 30 & 1:
            sha256 = _hex(shard[at : at + 32])
            at += RECORD
        yield XetFile(name, sha256, tuple(terms))


def _hex(raw: bytes) -> str:
    """A hash in hexadecimal: four little-endian numbers of 8 bytes."""
    if len(raw) != 32:
        raise IndexError("the shard ends amid a record")
    return "".join(raw[i : i + 8][::-1].hex() for i in range(0, 32, 8))
