"""Random draws that depend on a row's texts and the seed alone: whose negatives it gets, and whether it is taken."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from datasets import Dataset

from foils.errors import UserError
from foils.kinds import Draw

_KEYS = 2**64


def random_key(texts: Sequence[str], seed: int) -> int:
    """A random number from 0 to 2^64 - 1 that depends on texts and seed alone."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8)
    for text in texts:
        digest.update(b"\0")
        digest.update(text.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big")


def drawn(query: str, draws: Sequence[Draw], seed: int) -> int:
    """The number of the draw that a query's row gets, in proportion to the draws' shares.

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


def rows_for_shares(shares: Mapping[str, float | None], rows: Mapping[str, int]) -> dict[str, int]:
    """The number of rows of each source that make the shares come true.

    >>> rows_for_shares({"ours": None, "general": 0.2}, {"ours": 800, "general": 1000})
    {'ours': 800, 'general': 200}

    Args:
        shares: of each source; None for all its rows.
        rows: that each has.

    Raises:
        UserError: a source has too few rows for its share, or a share is less than one row.
    """
    whole = sum(rows[name] for name, share in shares.items() if share is None)
    given = math.fsum(share or 0 for share in shares.values())
    taken = {name: rows[name] if s is None else round(s * whole / (1 - given)) for name, s in shares.items()}
    for name, share in shares.items():
        there, number = rows[name], taken[name]
        asked = f"recipe: also: {name}: a share of {share or 1:g} beside {whole:,} rows takes"
        if share is not None and number > there:
            most = math.floor(there * (1 - given + share) / (whole + there) * 1e4) / 1e4
            raise UserError(
                f"{asked} {number:,} rows; it has {there:,}: {number - there:,} are missing, and no row is used twice; "
                f"lower the share to at most {most:g}, or leave it out to use all rows"
            )
        if share is not None and number == 0:
            raise UserError(f"{asked} not one row; give more")
    return taken


def sample(rows: Dataset, number: int, seed: int) -> Dataset:
    """Takes the rows whose texts have the smallest random keys, in the data's order."""
    if number == len(rows):
        return rows
    keys = np.fromiter((random_key(tuple(row.values()), seed) for row in rows), np.uint64, len(rows))
    return rows.select(np.sort(np.argsort(keys, kind="stable")[:number]))
