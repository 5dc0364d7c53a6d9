"""Loops over bytes and numbers, compiled by numba; arrays in, arrays out."""

import numpy as np
from numba import njit, prange

SHINGLE_WORDS = 3
ASCII = 128


@njit(cache=True)
def mixed(value: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64: every bit of the input moves every bit of the output."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, parallel=True)
def hashes(content, offsets, lower, space):
    """FNV-1a over lower-cased bytes with white space folded; and which texts are ASCII alone."""
    total = len(offsets) - 1
    hashes = np.empty(total, np.uint64)
    is_ascii = np.ones(total, np.bool_)
    for row in prange(total):
        state, waiting, begun = np.uint64(0xCBF29CE484222325), False, False
        for place in range(offsets[row], offsets[row + 1]):
            byte = content[place]
            if byte >= ASCII:
                is_ascii[row] = False
            if space[byte]:
                waiting = begun
                continue
            if waiting:
                state = (state ^ np.uint64(32)) * np.uint64(0x100000001B3)
                waiting = False
            begun = True
            state = (state ^ np.uint64(lower[byte])) * np.uint64(0x100000001B3)
        hashes[row] = mixed(state)
    return hashes, is_ascii


@njit(cache=True)
def word_hashes(content, start, end, lower, word):
    """Hashes of a text's words, in their order."""
    hashes = np.empty((end - start) // 2 + 1, np.uint64)
    count, inside, state = 0, False, np.uint64(0)
    for place in range(start, end):
        byte = content[place]
        if word[byte]:
            if not inside:
                inside, state = True, np.uint64(0xCBF29CE484222325)
            state = (state ^ np.uint64(lower[byte])) * np.uint64(0x100000001B3)
        elif inside:
            hashes[count] = mixed(state)
            count, inside = count + 1, False
    if inside:
        hashes[count] = mixed(state)
        count += 1
    return hashes[:count]


@njit(cache=True)
def distinct_shingles(words):
    """Sorted distinct hashes of every three words in a row."""
    if len(words) == 0:
        return words
    total = max(len(words) - SHINGLE_WORDS + 1, 1)
    found = np.empty(total, np.uint64)
    for place in range(total):
        state = np.uint64(0)
        for word in words[place : place + SHINGLE_WORDS]:
            state = mixed(state * np.uint64(3) + word)
        found[place] = state
    found.sort()
    kept = 1
    for place in range(1, total):
        if found[place] != found[place - 1]:
            found[kept] = found[place]
            kept += 1
    return found[:kept]


@njit(cache=True, parallel=True)
def shingles(content, offsets, lower, word):
    """Each text's distinct shingles, sorted, one behind the other at `offsets / 2`; and how many each has."""
    total = len(offsets) - 1
    starts = (offsets - offsets[0]) // 2 + np.arange(total + 1)
    found = np.empty(starts[total], np.uint64)
    counts = np.empty(total, np.int64)
    for row in prange(total):
        shingles = distinct_shingles(word_hashes(content, offsets[row], offsets[row + 1], lower, word))
        counts[row] = len(shingles)
        found[starts[row] : starts[row] + len(shingles)] = shingles
    return found, starts, counts


@njit(cache=True, parallel=True)
def jaccards(found, starts, counts, others, other_starts, other_counts, left, right):
    """Merges two sorted runs a pair."""
    similarities = np.zeros(len(left), np.float64)
    for pair in prange(len(left)):
        one, two = starts[left[pair]], other_starts[right[pair]]
        one_end, two_end = one + counts[left[pair]], two + other_counts[right[pair]]
        union, shared = one_end - one + two_end - two, 0
        while one < one_end and two < two_end:
            if found[one] == others[two]:
                shared, one, two = shared + 1, one + 1, two + 1
            elif found[one] < others[two]:
                one += 1
            else:
                two += 1
        if union:
            similarities[pair] = shared / (union - shared)
    return similarities


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
