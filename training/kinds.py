"""Which negatives a row gets: what a recipe may write as a kind, and the lot that decides where kinds have shares.

bm25                    one kind
llm+bm25                both: each row gets the negatives of all
llm:0.7,bm25:0.3        either: each row gets those of one, drawn by its query's text and the seed
"""

import hashlib
import math
from collections.abc import Sequence

from msgspec import Struct

from foils.errors import UserError

NO_NEGATIVES = "none"
LOTS = 2**64


class Draw(Struct, frozen=True):
    """What a row may be given.

    Attributes:
        share: of the rows, in expectation; those of a kind sum to 1.
        parts: configurations whose negatives the row gets, one after the other.
    """

    share: float
    parts: tuple[str, ...]


def parse(kind: str, known: Sequence[str], name: str) -> tuple[Draw, ...]:
    """Reads a kind; one draw of share 1 unless it has shares.

    A configuration of that very name goes first: a build may have made a mix, with as many negatives as any other kind.

    Args:
        kind: as the recipe has it; not `none`.
        known: the data set's configurations for training.
        name: the data set's.

    Raises:
        UserError: a configuration is unknown or named twice, or the shares are none.
    """
    if kind in known:
        return (Draw(1.0, (kind,)),)
    if ":" not in kind and "," not in kind:
        return (Draw(1.0, _parts(kind, known, kind, name)),)
    draws = []
    for each in kind.split(","):
        what, colon, share = each.strip().rpartition(":")
        if not colon:
            raise UserError(f"kind {kind!r}: {each.strip()!r} has no share; wanted NAME:SHARE for each, {_EXAMPLE}")
        draws.append(Draw(_share(share, kind), _parts(what.strip(), known, kind, name)))
    if len({draw.parts for draw in draws}) < len(draws):
        raise UserError(f"kind {kind!r}: names a kind twice; add their shares up")
    total = math.fsum(draw.share for draw in draws)
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise UserError(f"kind {kind!r}: its shares make {total:g} together; they must make 1, {_EXAMPLE}")
    return tuple(draws)


def drawn(query: str, draws: Sequence[Draw], seed: int) -> int:
    """Which of the draws a row gets, by its query alone: neither its place nor the other rows count.

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


def _parts(what: str, known: Sequence[str], kind: str, name: str) -> tuple[str, ...]:
    parts = (what,) if what in known else tuple(part.strip() for part in what.split("+"))
    unknown = [part for part in parts if part not in known]
    if unknown or not parts:
        raise UserError(
            f"kind {kind!r}: {name} has no configuration {', '.join(unknown)!r}; allowed: {', '.join(known)}, several "
            f"joined by '+', or {NO_NEGATIVES}; each with a share, {_EXAMPLE}"
        )
    if len(set(parts)) < len(parts):
        raise UserError(f"kind {kind!r}: names a configuration twice")
    return parts


def _share(text: str, kind: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise UserError(f"kind {kind!r}: {text.strip()!r} is no share; wanted a number above 0 and below 1, {_EXAMPLE}")
    return share


_EXAMPLE = "such as llm:0.7,bm25:0.3"
