"""Which rows repeat an earlier one: by the hash of their text, at sixteen bytes a row."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Hashed = npt.NDArray[np.uint64]


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


class FirstSeen:
    """For each row, the number of the first row that had the same hash; rows come in batches, in order.

    >>> seen = FirstSeen()
    >>> seen.add(np.array([7, 8, 7], np.uint64)).tolist()
    [0, 1, 0]
    >>> seen.add(np.array([9, 8], np.uint64)).tolist()
    [3, 1]
    """

    def __init__(self) -> None:
        # Sorted hashes with their rows, in runs each more than twice as long as the next: few to search, seldom merged.
        self._runs: list[tuple[Hashed, npt.NDArray[np.int64]]] = []
        self._rows = 0

    def add(self, hashes: Hashed) -> npt.NDArray[np.int64]:
        """Adds rows `(n,)` and returns, for each, the first row of all that had its hash: itself where it is new."""
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
        self._rows += len(hashes)
        found: npt.NDArray[np.int64] = firsts[inverse]
        return found
