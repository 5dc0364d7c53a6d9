"""Rows of fp32 numbers by the hash of what they were computed from: embeddings, scores. Computed once, kept over kills.

    store = RowStore(folder, width=384, about={"model": "..."})
    known = store.find(keys)          # positions, -1 where a row is missing
    store.add(keys[known < 0], rows)  # on disk before this returns

Rows are appended and never changed. A row counts once its key is written, which is after the row itself, so a process
may be killed at any point; what it had not finished is cut off when the next one writes. Several processes may write.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from foils.errors import UserError

Keys = npt.NDArray[np.uint64]  # (n, 2)
KEY_BYTES = 16
_CHUNKS = 8
_DTYPE = np.dtype(np.float32)


def keys_of(texts: Iterable[str]) -> Keys:
    """Returns 128-bit keys of texts, shape `(n, 2)`.

    >>> keys_of(["a", "b"]).shape
    (2, 2)
    """
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest() for text in texts)
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


class RowStore:
    """The rows of one width in a folder.

    Args:
        folder: made if it is missing.
        width: numbers in a row.
        about: what the rows are, in words; refused if the folder's says otherwise.

    Raises:
        UserError: the folder holds rows of another form, or cannot be written.
    """

    def __init__(self, folder: Path, width: int, about: Mapping[str, str]) -> None:
        self.folder, self.width, self.about = folder, width, about
        self._widths = {"rows.bin": width * _DTYPE.itemsize, "keys.bin": KEY_BYTES}  # bytes of an entry
        self._sorted: list[tuple[Keys, npt.NDArray[np.int64]]] = []  # first halves in order, and their positions
        self._known = 0
        form = {"dtype": _DTYPE.name, "width": width, **about}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                found = folder / "about.json"
                if not found.exists():
                    found.write_text(json.dumps(form, indent=2) + "\n", "utf-8")
                if json.loads(found.read_text("utf-8")) != form:
                    raise UserError(f"store {folder}: it holds other rows ({found}); delete the folder or name another")
                self._cut_off_unfinished()
        except OSError as error:
            raise UserError(f"store {folder}: cannot be written ({error.strerror}); name a writable folder") from None
        except ValueError:
            raise UserError(f"store {folder}: about.json is not JSON; delete the folder (it is only a cache)") from None
        self._learn()

    def __len__(self) -> int:
        return self._known

    def find(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Returns the positions of keys `(n, 2)` in `rows()`; -1 for those that have no row yet."""
        found = np.full(len(keys), -1, np.int64)
        halves = self._halves()
        for firsts, positions in self._sorted:
            places = np.minimum(np.searchsorted(firsts, keys[:, 0]), len(firsts) - 1)
            candidates = positions[places]
            hit = (firsts[places] == keys[:, 0]) & (halves[candidates, 1] == keys[:, 1])
            found[hit] = candidates[hit]
        return found

    def keys(self, positions: npt.NDArray[np.int64]) -> Keys:
        """Returns the keys of rows by their positions, `(n, 2)`."""
        return np.asarray(self._halves()[positions])

    def rows(self) -> npt.NDArray[np.float32]:
        """Returns all rows, `(n, width)`, mapped from disk."""
        if not self._known:
            return np.empty((0, self.width), _DTYPE)
        return np.memmap(self.folder / "rows.bin", _DTYPE, "r", shape=(self._known, self.width))

    def add(self, keys: Keys, rows: npt.NDArray[Any]) -> None:
        """Appends rows `(n, width)` under keys `(n, 2)`; on disk when this returns.

        Raises:
            UserError: the disk is full, or the folder cannot be written any more.
        """
        if rows.shape != (len(keys), self.width):
            raise ValueError(f"{rows.shape} rows for {len(keys)} keys of width {self.width}")
        try:
            with FileLock(self.folder / "lock"):
                self._cut_off_unfinished()
                self._append("rows.bin", np.ascontiguousarray(rows, _DTYPE).tobytes())
                self._append("keys.bin", np.ascontiguousarray(keys).tobytes())
        except OSError as error:
            raise UserError(
                f"store {self.folder}: {error.strerror}; make room or name another folder; what was stored is kept"
            ) from None
        self._learn()

    def _learn(self) -> None:
        """Takes up the keys that have come since, by this process or another."""
        total = self._complete()
        if total == self._known:
            return
        start, self._known = self._known, total
        if len(self._sorted) == _CHUNKS:
            start, self._sorted = 0, []
        firsts = np.array(self._halves()[start:, 0])
        order = np.argsort(firsts, kind="stable")
        self._sorted.append((firsts[order], order + start))

    def _halves(self) -> Keys:
        if not self._known:
            return np.empty((0, 2), np.uint64)
        return np.memmap(self.folder / "keys.bin", np.uint64, "r", shape=(self._known, 2))

    def _complete(self) -> int:
        return min(_size(self.folder / name) // width for name, width in self._widths.items())

    def _cut_off_unfinished(self) -> None:
        total = self._complete()
        for name, width in self._widths.items():
            path = self.folder / name
            if _size(path) != total * width:
                os.truncate(path, total * width)

    def _append(self, name: str, content: bytes) -> None:
        with (self.folder / name).open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
