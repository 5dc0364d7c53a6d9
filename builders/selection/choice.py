"""Which usable candidates are taken: an order for each query, and at most n from its front.

Nothing here depends on the order of candidates or queries: random keys are hashes of ids and the seed.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from builders.hashing import keyed_hash, mixed
from builders.selection.config import Rules
from builders.selection.frame import Flags, Floats, Frame, Numbers
from builders.selection.rules import Judged

_TINY = 2.0**-54


class Queue(NamedTuple):
    """The usable candidates of one kind in the order in which they are taken, query by query.

    Attributes:
        query: `(n_usable,)`.
        passage: `(n_usable,)`.
        source: `(n_usable,)` where the candidate stands in its pool.
    """

    query: Numbers
    passage: Numbers
    source: Numbers

    def at(self, places: Numbers) -> "Queue":
        """Returns the candidates at some places."""
        return Queue(*(column[places] for column in self))

    def place_in_query(self) -> Numbers:
        """Returns `(n_usable,)` 0 for the first of each query, 1 for the second, ..."""
        starts = np.flatnonzero(np.r_[True, self.query[1:] != self.query[:-1]]) if len(self.query) else self.query
        return np.arange(len(self.query)) - np.repeat(starts, np.diff(np.r_[starts, len(self.query)]))


def queue_up(frame: Frame, kind: str, judged: Judged, rules: Rules, seed: int) -> Queue:
    """Orders a kind's usable candidates.

    Args:
        frame: for the hashes of ids.
        kind: each kind has random keys of its own.
        judged: candidates with what the rules say of them.
        rules: how candidates are sampled.
        seed: any integer.
    """
    pool, places = judged.pool, np.flatnonzero(judged.outcome == 0)
    key = _sampling_keys(frame, kind, judged, rules, seed)[places]
    chosen = places[np.lexsort((pool.passage[places], key, pool.query[places]))]
    return Queue(pool.query[chosen], pool.passage[chosen], chosen)


def take_turns(
    frame: Frame, queues: Sequence[Queue], max_uses: Sequence[int | None], wanted: int, seed: int
) -> list[tuple[Numbers, Numbers]]:
    """Takes candidates of all kinds from each query's front, passing over passages that serve too often.

    Queries have their turns in random order. One that some kind cannot serve takes nothing, so that it uses up
    nothing that others may still take.

    Args:
        frame: for the hashes of ids.
        queues: each kind's.
        max_uses: how often each kind may take a passage; None = no limit.
        wanted: what a query takes of every kind.
        seed: any integer.

    Returns:
        Of each kind, the places in its queue that are taken, and `(n_queries,)` how many each query found.
    """
    queries = len(frame.query_keys)
    starts = np.cumsum([0, *(len(queue.query) for queue in queues)])
    bounds = [
        start + np.searchsorted(queue.query, np.arange(queries + 1))
        for start, queue in zip(starts, queues, strict=False)
    ]
    turns = np.lexsort((frame.query_keys, drawn(frame.query_keys, seed, "turns")))
    caps = np.array([-1 if cap is None else cap for cap in max_uses])
    passage = np.concatenate([queue.passage for queue in queues])
    taken, counts = _take_together(passage, np.array(bounds), turns, wanted, len(frame.positions), caps)
    parts = (np.flatnonzero(taken[start:end]) for start, end in pairwise(starts))
    return list(zip(parts, counts, strict=True))


@njit(cache=True)  # type: ignore[untyped-decorator]  # the one loop of selection that no array operation expresses
def _take_together(
    passage: Numbers, bounds: Numbers, turns: Numbers, wanted: int, passages: int, max_uses: Numbers
) -> tuple[Flags, Numbers]:
    """Lets the queries take turns: each takes what still may serve, from every kind, or nothing at all.

    Args:
        passage: `(n,)` of the candidates, all kinds' one behind the other.
        bounds: `(n_kinds, n_queries + 1)`, where each query's candidates begin.
        turns: `(n_queries,)`.
        wanted: what a query takes of each kind.
        passages: how many there are.
        max_uses: `(n_kinds,)`, below 0 where there is no limit.

    Returns:
        `(n,)` whether a candidate is taken, and `(n_kinds, n_queries)` how many each query found that still might
        serve, at most `wanted`.
    """
    kinds = len(bounds)
    uses = np.zeros((kinds, passages if max_uses.max() >= 0 else 0), np.int32)
    taken = np.zeros(len(passage), np.bool_)
    counts = np.zeros((kinds, len(turns)), np.int64)
    for query in turns:
        for kind in range(kinds):
            for place in range(bounds[kind, query], bounds[kind, query + 1]):
                if counts[kind, query] == wanted:
                    break
                if max_uses[kind] < 0 or uses[kind, passage[place]] < max_uses[kind]:
                    taken[place] = True
                    counts[kind, query] += 1
        stays = counts[:, query].min() == wanted
        for kind in range(kinds):
            for place in range(bounds[kind, query], bounds[kind, query + 1]):
                if taken[place] and not stays:
                    taken[place] = False
                elif taken[place] and max_uses[kind] >= 0:
                    uses[kind, passage[place]] += 1
    return taken, counts


def drawn(keys: npt.NDArray[np.uint64], seed: int, what: str) -> npt.NDArray[np.uint64]:
    """Returns 64 random bits for each key, determined by key, seed and what they are for.

    >>> bool((drawn(np.arange(3, dtype=np.uint64), 1, "a") == drawn(np.arange(3, dtype=np.uint64), 1, "b")).any())
    False
    """
    return mixed(keys ^ np.uint64(keyed_hash(seed, "selection", what)))


def uniform(bits: npt.NDArray[np.uint64]) -> Floats:
    """Turns 64 random bits into numbers between 0 and 1, both excluded."""
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53 + _TINY)


def _sampling_keys(frame: Frame, kind: str, judged: Judged, rules: Rules, seed: int) -> Floats:
    """Returns `(n_candidates,)` numbers; smaller ones are taken first."""
    pool = judged.pool
    if rules.sampling == "top":
        return pool.rank.astype(np.float64)
    if rules.sampling == "hardest":
        return -judged.scores[rules.around_scorer]  # usable ones have a score
    bits = drawn(frame.query_keys, seed, kind)[pool.query] + frame.passage_keys[pool.passage]
    randoms = uniform(mixed(bits))
    if rules.sampling == "random":
        return randoms
    # Sampling without replacement by weight (Efraimidis & Spirakis 2006): the smallest of -log(u) / w, here as
    # logarithms, so that no weight vanishes.
    gap = judged.scores[rules.around_scorer] - judged.positive_scores[rules.around_scorer] - rules.around_b
    return np.asarray(np.log(-np.log(randoms)) + rules.around_a * np.square(np.nan_to_num(gap)))
