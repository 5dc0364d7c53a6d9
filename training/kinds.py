"""Which negatives a row gets where kinds have shares; the grammar of kinds is in `foils.kinds`."""

import hashlib
from collections.abc import Sequence

from foils.kinds import Draw

LOTS = 2**64


def drawn(query: str, draws: Sequence[Draw], seed: int) -> int:
    """Which of the draws a row gets, by its query alone: neither its place nor the other rows count.

    >>> from foils.kinds import parse
    >>> draws = parse("llm:0.7,bm25:0.3", ["llm", "bm25"], "x")
    >>> lots = [drawn(f"query {number}", draws, seed=1) for number in range(1000)]
    >>> lots.count(0), lots.count(1)
    (678, 322)
    """
    if len(draws) == 1:
        return 0
    lot, reached = lot_of((query,), seed) / LOTS, 0.0
    for number, draw in enumerate(draws):
        reached += draw.share
        if lot < reached:
            return number
    return len(draws) - 1  # rounding


def lot_of(texts: Sequence[str], seed: int) -> int:
    """A number from 0 to 2^64 - 1 for a row's texts."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8)
    for text in texts:
        digest.update(b"\0")
        digest.update(text.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big")
