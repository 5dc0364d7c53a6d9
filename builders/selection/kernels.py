"""The one loop of selection that no array operation expresses, compiled by numba."""

import numpy as np
from numba import njit


@njit(cache=True)
def take_together(passage, bounds, turns, wanted, passages, max_uses):
    """Goes through the queries by turns: each takes what still may serve, from every kind, or nothing at all.

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
