"""The one loop of selection that no array operation expresses, compiled by numba."""

import numpy as np
from numba import njit


@njit(cache=True)
def take_capped(passage, bounds, per_query, turns, passages, max_uses):
    """Goes through the queries by turns and takes what still may serve."""
    uses = np.zeros(passages, np.int64)
    taken = np.zeros(len(passage), np.bool_)
    for query in turns:
        count = 0
        for place in range(bounds[query], bounds[query + 1]):
            if count == per_query[query]:
                break
            if uses[passage[place]] < max_uses:
                uses[passage[place]] += 1
                taken[place] = True
                count += 1
    return taken
