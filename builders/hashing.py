"""Hashes of texts and ids: randomness that a seed and an id determine, and which rows repeat an earlier one."""

import hashlib
import json
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Hashed = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


def hashed(texts: Iterable[str]) -> Hashed:
    """64 bits that stand for each text, shape `(n,)`; the chance that any two of a million collide is 3e-8.

    >>> first, second = hashed(["a", "b"])
    >>> bool(first != second)
    True
    """
    digests = b"".join([hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts])
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def mixed(numbers: Hashed) -> Hashed:
    """Makes all bits depend on all bits (the finisher of SplitMix64: Steele, Lea, Flood 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def keyed_hash(seed: int, *parts: str) -> int:
    """A 64-bit number that a seed and a row's id determine: randomness that no order of rows can change."""
    digest = hashlib.blake2b(json.dumps([seed, *parts]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def keyed_hashes(seed: int, *parts: str, ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """`keyed_hash(seed, *parts, id)` of many ids, shape `(n,)`.

    >>> int(keyed_hashes(42, "sample", ids=["ü1"])[0]) == keyed_hash(42, "sample", "ü1")
    True
    """
    opening = json.dumps([seed, *parts])[:-1]
    return hashed(f"{opening}, {json.dumps(row_id)}]" for row_id in ids)


class FirstSeen:
    """Which rows repeat an earlier one, by their hashes, at sixteen bytes a row; rows come in batches, in order.

    >>> seen = FirstSeen()
    >>> [each.tolist() for each in seen.repeats(np.array([7, 8, 7], np.uint64))]
    [[2], [0]]
    >>> [each.tolist() for each in seen.repeats(np.array([9, 8], np.uint64))]
    [[1], [1]]
    """

    def __init__(self) -> None:
        # Sorted hashes with their rows, in runs each more than twice as long as the next: few to search, seldom merged.
        self._runs: list[tuple[Hashed, Rows]] = []
        self._rows = 0

    def repeats(self, hashes: Hashed) -> tuple[Rows, Rows]:
        """Adds a batch `(n,)`; returns the places in it of repeats, and the first row of all that had each one's hash.

        A row that repeats one of its own batch counts.
        """
        unique, index, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        firsts = index.astype(np.int64) + self._rows
        for known, rows in self._runs:
            places = np.minimum(np.searchsorted(known, unique), len(known) - 1)
            hit = known[places] == unique
            firsts[hit] = rows[places[hit]]
        new = firsts >= self._rows
        if new.any():
            self._runs.append((unique[new], firsts[new]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            (left, left_rows), (right, right_rows) = self._runs[-2:]
            both = np.concatenate([left, right])
            order = np.argsort(both, kind="stable")
            self._runs[-2:] = [(both[order], np.concatenate([left_rows, right_rows])[order])]
        found = firsts[inverse]
        again = np.flatnonzero(found != np.arange(self._rows, self._rows + len(hashes)))
        self._rows += len(hashes)
        return again, found[again]
