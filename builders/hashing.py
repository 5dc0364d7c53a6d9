"""Hashes of texts and ids: randomness that a seed and an id determine."""

import hashlib
import json
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
