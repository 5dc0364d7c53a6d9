"""The draw of a row's negatives where kinds have shares; the grammar of kinds is in `foils.kinds`."""

import hashlib
from collections.abc import Sequence

from foils.kinds import Draw

_KEYS = 2**64


def drawn(query: str, draws: Sequence[Draw], seed: int) -> int:
    """The number of the draw that a row gets. It depends on the query alone, not on its place or on other rows.

    >>> from foils.kinds import parse
    >>> draws = parse("llm:0.7,bm25:0.3", ["llm", "bm25"], "x")
    >>> found = [drawn(f"query {number}", draws, seed=1) for number in range(1000)]
    >>> found.count(0), found.count(1)
    (678, 322)
    """
    if len(draws) == 1:
        return 0
    point, reached = random_key((query,), seed) / _KEYS, 0.0
    for number, draw in enumerate(draws):
        reached += draw.share
        if point < reached:
            return number
    return len(draws) - 1  # rounding


def random_key(texts: Sequence[str], seed: int) -> int:
    """A random number from 0 to 2^64 - 1 that depends on a row's texts and the seed alone."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8)
    for text in texts:
        digest.update(b"\0")
        digest.update(text.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big")
