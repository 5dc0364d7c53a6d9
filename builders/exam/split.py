"""Which passages the exam may ask about, in the order in which they are asked."""

import numpy as np

from builders.exam import STAGE
from builders.exam.groups import Groups
from builders.hashing import keyed_hashes
from builders.passages import Passages, Positions

MOST = 0.5
"""Of the corpus; the rest is left to train on."""
ENOUGH = 0.2
"""Of the corpus; for an exam that would take more, further passages of the same groups are asked about."""
LARGE = 0.1
"""Groups with a larger share of the corpus come last: their few queries would cost training all of their passages."""
PER_GROUP = 3
"""Passages of one group that are asked about before the next group's turn, where that takes no more than `ENOUGH`:
queries of one document resemble each other."""


def in_turn(passages: Passages, groups: Groups, barred: Positions, seed: int, wanted: int, held: int = 0) -> Positions:
    """Positions of the passages that the exam may ask about: of groups at random, with at most half of the passages.

    Ids and the seed alone decide, whatever the order of the passages.

    Args:
        passages: the corpus.
        groups: theirs.
        barred: positions of passages whose groups belong to training.
        seed: the exam's.
        wanted: how many passages are asked about, as far as is known before.
        held: passages of the half that are the exam's already, as people's own queries are about them.
    """
    room = MOST * len(passages) - held
    keys = keyed_hashes(seed, STAGE, ids=groups.names.to_pylist())
    in_order = np.lexsort((keys, groups.sizes > LARGE * len(passages)))
    is_free = np.isin(np.arange(len(in_order)), groups.of[barred], invert=True) & (groups.sizes <= room)
    is_free[in_order] &= np.cumsum((groups.sizes * is_free)[in_order]) <= room
    place = np.argsort(in_order)
    found = np.flatnonzero(is_free[groups.of])
    keys = keyed_hashes(seed, STAGE, "passage", ids=passages.ids_at(found).to_pylist())
    found = found[np.lexsort((keys, place[groups.of[found]]))]
    sizes = groups.sizes[in_order][is_free[in_order]]
    turn = _places_within(groups.of[found]) // _per_group(sizes, wanted, ENOUGH * len(passages))
    return found[np.argsort(turn, kind="stable")]


def _per_group(sizes: Positions, wanted: int, enough: float) -> int:
    """The fewest passages of each group, from `PER_GROUP`, with which the groups that are asked about hold `enough`.

    All passages of a group where none is few enough.

    >>> [_per_group(np.full(50, 50), wanted, 500) for wanted in (10, 100, 1000)]
    [3, 12, 96]
    """
    each = PER_GROUP
    while each < sizes.max(initial=0):
        taken = np.searchsorted(np.cumsum(np.minimum(sizes, each)), wanted) + 1
        if sizes[:taken].sum() <= enough:
            break
        each *= 2
    return each


def _places_within(values: Positions) -> Positions:
    """The place of each value among its equals, which stand one behind the other."""
    begins = np.flatnonzero(np.append(True, np.diff(values) != 0)[: len(values)])
    return np.arange(len(values)) - np.repeat(begins, np.diff(np.append(begins, len(values))))
