"""The loops of pre-flight that no array operation expresses, compiled by numba."""

import numpy as np
from numba import njit

_START, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_EIGHT, _SIXTEEN, _TWENTY_FOUR, _MIX = np.uint64(8), np.uint64(16), np.uint64(24), np.uint64(29)


@njit(cache=True, nogil=True)
def hash_texts(data, offsets, weights, exact, folded):
    """Two hashes of each text, in one go over its bytes.

    Args:
        data: UTF-8 of all texts, `(n_bytes,)`.
        offsets: where each text starts, `(n_texts + 1,)`.
        weights: what each byte adds to `folded`, `(256,)`.
        exact: filled: FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/) over words of four bytes, mixed downwards.
        folded: filled: the sum of the bytes' weights, so equal where texts differ in bytes without weight only.
    """
    for text in range(len(exact)):
        at, end = offsets[text], offsets[text + 1]
        found, total = _START ^ np.uint64(end - at), np.uint64(0)
        while at + 4 <= end:
            one, two, three, four = data[at], data[at + 1], data[at + 2], data[at + 3]
            word = (
                np.uint64(one)
                | (np.uint64(two) << _EIGHT)
                | (np.uint64(three) << _SIXTEEN)
                | (np.uint64(four) << _TWENTY_FOUR)
            )
            found = (found ^ word) * _PRIME
            found ^= found >> _MIX
            total += weights[one] + weights[two] + weights[three] + weights[four]
            at += 4
        while at < end:
            found = (found ^ np.uint64(data[at])) * _PRIME
            found ^= found >> _MIX
            total += weights[data[at]]
            at += 1
        exact[text], folded[text] = found, total


@njit(cache=True, nogil=True)
def one_pass(codes, n_codes, batch_size, drop_last, limits):
    """Batches without a value twice, first come first served: `NoDuplicatesBatchSampler._iter_one_pass`.

    Args:
        codes: values of the rows in the order of the shuffle, `(n_rows, n_columns)`; -1 is one that no other row has.
        n_codes: codes are below.
        batch_size: rows of a whole batch.
        drop_last: whether batches that are not whole are left out.
        limits: batches that are wanted, and rows to look at before giving up.

    Returns:
        Places in `codes` in the order of use, where each batch ends among them, how many rows the sampler has looked
        at by then (each as often as it does) and at the end, how many were looked at here, and whether that was enough.
    """
    wanted, budget = limits
    n_rows = len(codes)
    following = np.arange(1, n_rows + 1).astype(np.int32)
    following[-1] = -1
    used, ends, looks_by = np.empty(n_rows, np.int32), np.empty(n_rows, np.int32), np.empty(n_rows + 1, np.int64)
    left = _tally(codes, n_codes)
    in_batch = np.zeros(n_codes, np.int32)
    n_used, n_batches, head, looks, worked, remaining, turn = 0, 0, 0, 0, 0, n_rows, 0
    while head != -1 and n_batches < wanted and worked < budget:
        turn += 1
        batch = used[n_used : n_used + min(batch_size, remaining)]
        head, taken, passed = _fill(codes, following, head, left, in_batch, turn, batch)
        remaining -= taken
        worked += taken + passed
        whole = taken == batch_size
        looks += taken + (passed if whole else remaining)  # it looks through the rest even where that is in vain
        if whole or not drop_last:
            n_used += taken
            ends[n_batches], looks_by[n_batches] = n_used, looks
            n_batches += 1
    looks_by[n_batches] = looks
    enough = head == -1 or n_batches == wanted
    return used[:n_used], ends[:n_batches], looks_by[: n_batches + 1], worked, enough


@njit(cache=True, nogil=True)
def _fill(codes, following, head, left, in_batch, turn, batch):
    """Takes rows for one batch, until it is full or no row that is left can go into it.

    Returns:
        The new head of the list, how many were taken, how many that clashed were passed over.
    """
    uses, unique, alive = left
    barred = np.zeros(len(unique), np.int64)
    at, before, taken, passed = head, -1, 0, 0
    while at != -1:
        after = following[at]
        if _clashes(codes[at], in_batch, turn):
            passed += 1
            before, at = at, after
            continue
        batch[taken] = at
        taken += 1
        if before == -1:
            head = after
        else:
            following[before] = after
        _take(codes[at], uses, unique, alive)
        if taken == len(batch):
            break
        _bar(codes[at], in_batch, turn, uses, barred)
        if _nothing_fits(unique, barred, alive):
            break
        at = after
    return head, taken, passed


@njit(cache=True, nogil=True)
def _tally(codes, n_codes):
    """Of the rows that are left, by column: uses of each code, rows without a code, distinct codes."""
    n_columns = codes.shape[1]
    uses = np.zeros((n_columns, n_codes), np.int32)
    unique, alive = np.zeros(n_columns, np.int64), np.zeros(n_columns, np.int64)
    for row in range(len(codes)):
        for column in range(n_columns):
            code = codes[row, column]
            if code < 0:
                unique[column] += 1
            else:
                alive[column] += uses[column, code] == 0
                uses[column, code] += 1
    return uses, unique, alive


@njit(cache=True, nogil=True)
def _take(row, uses, unique, alive):
    for column in range(len(row)):
        if row[column] < 0:
            unique[column] -= 1
        else:
            uses[column, row[column]] -= 1
            alive[column] -= uses[column, row[column]] == 0


@njit(cache=True, nogil=True)
def _clashes(row, in_batch, turn):
    for code in row:  # noqa: SIM110 - any() over a generator compiles to slower code
        if code >= 0 and in_batch[code] == turn:
            return True
    return False


@njit(cache=True, nogil=True)
def _bar(row, in_batch, turn, uses, barred):
    """Marks the row's codes as in the batch, and counts those that other rows still have, by column."""
    for code in row:
        if code >= 0 and in_batch[code] != turn:
            in_batch[code] = turn
            for column in range(len(barred)):
                barred[column] += uses[column, code] > 0


@njit(cache=True, nogil=True)
def _nothing_fits(unique, barred, alive):
    """Whether every row that is left has, in some column, a value that the batch has."""
    for column in range(len(unique)):  # noqa: SIM110
        if unique[column] == 0 and barred[column] == alive[column]:
            return True
    return False
