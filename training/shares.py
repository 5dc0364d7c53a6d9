"""How many rows of each source a share takes, and which: by their texts and the seed, whatever their order."""

import math
from collections.abc import Mapping

import numpy as np
from datasets import Dataset

from foils.errors import UserError
from training.kinds import lot_of


def wanted(shares: Mapping[str, float | None], rows: Mapping[str, int]) -> dict[str, int]:
    """How many rows of each source make the shares come true.

    >>> wanted({"ours": None, "general": 0.2}, {"ours": 800, "general": 1000})
    {'ours': 800, 'general': 200}

    Args:
        shares: of each source; None for all its rows.
        rows: that each has.

    Raises:
        UserError: a source has too few rows for its share, or a share is not one row.
    """
    whole = sum(rows[name] for name, share in shares.items() if share is None)
    given = math.fsum(share or 0 for share in shares.values())
    taken = {}
    for name, share in shares.items():
        there = rows[name]
        if share is None:
            taken[name] = there
            continue
        taken[name] = number = round(share * whole / (1 - given))
        if number > there:
            most = there * (1 - given + share) / (whole + there)
            raise UserError(
                f"recipe: also: {name}: a share of {share:g} beside {whole:,} rows takes {number:,} rows; it "
                f"has {there:,}: {number - there:,} are missing, and none is used twice; lower the share to at most "
                f"{math.floor(most * 1e4) / 1e4:g}, or leave it out to use all rows"
            )
        if number == 0:
            raise UserError(
                f"recipe: also: {name}: a share of {share:g} beside {whole:,} rows takes not one row; give more"
            )
    return taken


def sample(rows: Dataset, number: int, seed: int) -> Dataset:
    """The rows whose texts draw the lowest lots, in the data's order."""
    if number == len(rows):
        return rows
    lots = np.fromiter((lot_of(tuple(row.values()), seed) for row in rows), np.uint64, len(rows))
    return rows.select(np.sort(np.argsort(lots, kind="stable")[:number]))
