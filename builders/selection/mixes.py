"""Mixes of kinds, such as `llm+bm25`: rows with as many negatives as elsewhere, from several kinds by share."""

from collections.abc import Mapping, Sequence

import numpy as np

from builders.selection.choice import Queue, drawn, uniform
from builders.selection.config import JOINT
from builders.selection.frame import Flags, Frame, Numbers
from foils.errors import UserError


def parts_of(kind: str) -> list[str]:
    """Returns the kinds that a mix draws from; a plain kind is its own part.

    >>> parts_of("llm+bm25"), parts_of("bm25")
    (['llm', 'bm25'], ['bm25'])
    """
    return kind.split(JOINT)


def is_mix(kind: str) -> bool:
    """Whether a kind is a mix of others."""
    return JOINT in kind


def shares_of(kind: str, shares: Mapping[str, Mapping[str, float]]) -> list[float]:
    """Returns the parts' shares, which sum to 1: the recipe's, else equal ones.

    >>> shares_of("llm+bm25", {"llm+bm25": {"llm": 3, "bm25": 1}})
    [0.75, 0.25]

    Raises:
        UserError: shares are missing, or are for other kinds.
    """
    parts = parts_of(kind)
    given = shares.get(kind, dict.fromkeys(parts, 1.0))
    if set(given) != set(parts):
        raise UserError(f"recipe: negatives.shares.{kind!r}: has {', '.join(given)}; wanted {', '.join(parts)}")
    return [given[part] / sum(given.values()) for part in parts]


def quotas(frame: Frame, kind: str, shares: Sequence[float], per_query: int, seed: int) -> Numbers:
    """Returns how many negatives of each part a query gets, `(n_parts, n_queries)`; each column sums to `per_query`.

    Systematic sampling (Madow 1949): the expected numbers are exactly the shares, and no query is off by more than one.
    """
    randoms = uniform(drawn(frame.query_keys, seed, f"quotas {kind}"))
    bounds = np.round(np.cumsum([0.0, *shares]) * per_query, 9)
    steps = np.floor(bounds[:, None] + randoms[None, :]).astype(np.int64)
    return np.diff(steps, axis=0)


def blend(frame: Frame, queues: Sequence[Queue], wanted: Numbers, *, fill: bool) -> tuple[Queue, Numbers]:
    """Makes one queue of several kinds' queues: first each part's quota, and behind it what may stand in for it.

    A text that an earlier part gives a query is not taken from a later one.

    Args:
        frame: for texts.
        queues: each part's.
        wanted: `quotas`.
        fill: whether a part may stand in for another that has too few.

    Returns:
        The queue, and `(n_queue,)` the part that each candidate comes from.
    """
    taken = np.empty(0, np.int64)
    parts, reserves = list[Queue](), list[Flags]()
    for queue, quota in zip(queues, wanted, strict=True):
        fresh = queue.at(np.flatnonzero(~np.isin(_texts(frame, queue), taken)))
        behind = fresh.place_in_query() >= quota[fresh.query]
        taken = np.concatenate([taken, _texts(frame, fresh)[~behind]])
        parts.append(fresh)
        reserves.append(behind)
    part = np.repeat(np.arange(len(parts)), [len(queue.query) for queue in parts])
    within = np.concatenate([queue.place_in_query() for queue in parts])
    joined = Queue(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    reserve = np.concatenate(reserves)
    order = np.lexsort((part, within, reserve, joined.query))
    if not fill:
        order = order[~reserve[order]]
    _, first = np.unique(_texts(frame, joined)[order], return_index=True)
    order = order[np.sort(first)]
    return joined.at(order), part[order]


def _texts(frame: Frame, queue: Queue) -> Numbers:
    """Returns one number for each candidate's query and text."""
    return frame.text_pair(queue.query, frame.text[queue.passage])
