"""Which passages the exam may ask about, in the order in which they are asked."""

import numpy as np

from builders.exam import STAGE
from builders.exam.groups import Groups
from builders.hashing import keyed_hashes
from builders.passages import Passages, Positions

MOST = 0.5
"""Of the corpus; the rest is left to train on."""
LARGE = 0.1
"""Groups with a larger share of the corpus come last: their few queries would cost training all of their passages."""
PER_GROUP = 3
"""Passages of one group that are asked about before the next group's turn: queries of one document resemble each other,
and a few of each are enough to keep the exam from taking most documents away from training."""


def in_turn(passages: Passages, groups: Groups, barred: Positions, seed: int) -> Positions:
    """Positions of the passages that the exam may ask about: of groups at random, with at most half of the passages.

    Ids and the seed alone decide, whatever the order of the passages.

    Args:
        passages: the corpus.
        groups: theirs.
        barred: positions of passages whose groups belong to training.
        seed: the exam's.
    """
    room = MOST * len(passages)
    keys = keyed_hashes(seed, STAGE, ids=groups.names.to_pylist())
    in_order = np.lexsort((keys, groups.sizes > LARGE * len(passages)))
    is_free = np.isin(np.arange(len(in_order)), groups.of[barred], invert=True) & (groups.sizes <= room)
    is_free[in_order] &= np.cumsum((groups.sizes * is_free)[in_order]) <= room
    place = np.argsort(in_order)
    found = np.flatnonzero(is_free[groups.of])
    keys = keyed_hashes(seed, STAGE, "passage", ids=passages.ids_at(found).to_pylist())
    found = found[np.lexsort((keys, place[groups.of[found]]))]
    turn = _places_within(groups.of[found]) // PER_GROUP
    return found[np.argsort(turn, kind="stable")]


def _places_within(values: Positions) -> Positions:
    """The place of each value among its equals, which stand one behind the other."""
    begins = np.flatnonzero(np.append(True, np.diff(values) != 0)[: len(values)])
    return np.arange(len(values)) - np.repeat(begins, np.diff(np.append(begins, len(values))))
