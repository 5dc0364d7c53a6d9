"""What a recipe or a run record may call the negatives of a training: one grammar for all stages.

bm25                    one kind
llm+bm25                both: each row gets the negatives of all
llm:0.7,bm25:0.3        either: each row gets those of one, drawn by its query's text and the seed
none                    no negatives
"""

import math
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from foils.errors import UserError

NO_NEGATIVES = "none"
PAIRS = ("titles", "crops")
"""Configurations of queries that the corpus itself holds; their rows are not those of the kinds of negatives."""
_EXAMPLE = "such as llm:0.7,bm25:0.3"


class Draw(Struct, frozen=True):
    """What a row may be given.

    Attributes:
        share: of the rows, in expectation; the shares of a kind sum to 1.
        parts: configurations whose negatives the row gets, one after the other.
    """

    share: float
    parts: tuple[str, ...]


def parse(kind: str, known: Sequence[str], name: str) -> tuple[Draw, ...]:
    """Reads a kind; without shares it is one draw of share 1.

    A configuration of that very name goes first: a build may have made a mix, with as many negatives as any other kind.

    Args:
        kind: as the recipe has it; not `none`.
        known: the data set's configurations for training.
        name: the data set's.

    Raises:
        UserError: a configuration is unknown or named twice, or the shares are wrong.
    """
    draws = _draws(kind, known)
    for draw in draws:
        own = [part for part in draw.parts if part in PAIRS]
        if own and (len(draws) > 1 or len(draw.parts) > 1):
            why = "has rows of its own; train on it alone, or name it in [[also]] beside another kind"
            raise UserError(f"kind {kind!r}: {own[0]} {why}")
        unknown = [part for part in draw.parts if part not in known]
        if unknown:
            raise UserError(
                f"kind {kind!r}: {name} has no configuration {', '.join(unknown)!r}; allowed: {', '.join(known)}, "
                f"several joined by '+', or {NO_NEGATIVES}; each with a share, {_EXAMPLE}"
            )
        if len(set(draw.parts)) < len(draw.parts):
            raise UserError(f"kind {kind!r}: names a configuration twice")
    if len({draw.parts for draw in draws}) < len(draws):
        raise UserError(f"kind {kind!r}: names a kind twice; add their shares up")
    total = math.fsum(draw.share for draw in draws)
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise UserError(f"kind {kind!r}: its shares make {total:g} together; they must make 1, {_EXAMPLE}")
    return draws


def kinds_of(kind: str, known: Collection[str] = (), variants: Mapping[str, str] | None = None) -> list[str]:
    """The configurations that a kind names, each once; the kinds that they are variants of in place of variants.

    >>> kinds_of("llm + bm25:0.5, random:0.5")
    ['llm', 'bm25', 'random']
    >>> kinds_of("llm+bm25:0.5,random:0.5", ["llm+bm25", "random"])
    ['llm+bm25', 'random']
    >>> kinds_of("llm:0.7,bm25-limited:0.3", variants={"bm25-limited": "bm25"})
    ['llm', 'bm25']

    Raises:
        UserError: a share is wrong.
    """
    if kind == NO_NEGATIVES:
        return []
    parts = (part for draw in _draws(kind, known) for part in draw.parts)
    return list(dict.fromkeys((variants or {}).get(part, part) for part in parts))


def _draws(kind: str, known: Collection[str]) -> tuple[Draw, ...]:
    if kind in known:
        return (Draw(1.0, (kind,)),)
    if ":" not in kind and "," not in kind:
        return (Draw(1.0, _parts(kind, known)),)
    draws = []
    for each in kind.split(","):
        what, colon, share = each.strip().rpartition(":")
        if not colon:
            raise UserError(f"kind {kind!r}: {each.strip()!r} has no share; wanted NAME:SHARE for each, {_EXAMPLE}")
        draws.append(Draw(_share(share, kind), _parts(what.strip(), known)))
    return tuple(draws)


def _parts(what: str, known: Collection[str]) -> tuple[str, ...]:
    return (what,) if what in known else tuple(part.strip() for part in what.split("+"))


def _share(text: str, kind: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise UserError(f"kind {kind!r}: {text.strip()!r} is not a share; wanted one above 0 and below 1, {_EXAMPLE}")
    return share
