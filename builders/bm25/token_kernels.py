"""Compiled loops that split UTF-8 text into words and number the distinct ones."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from builders.bm25.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

WORD, MARK, SPECIAL = 1 << 30, 1 << 29, 1 << 28
"""Bits of a code point's class: it belongs to words; only to one that has begun; its text needs preparing.

The bits below 21 are its lower case.
"""
LOWER = (1 << 21) - 1
SHORTEST = 2  # letters of a word
_TWO, _THREE, _FOUR = 0x80, 0x800, 0x10000  # the first code points of so many bytes
_LEAD_OF_THREE, _LEAD_OF_FOUR = 0xE0, 0xF0


class Table(NamedTuple):
    """Distinct words, numbered as they come; found again by hash and then by their bytes.

    Attributes:
        slots: number of a word + 1, or 0 where free; a power of two of them, at most half in use.
        hashes: by number.
        ends: word `n` is `pool[ends[n]:ends[n + 1]]`.
        pool: the words' UTF-8, one after the other.
        known: how many words there are; the one element of an array, so that a kernel can change it.
    """

    slots: Ids
    hashes: Longs
    ends: Longs
    pool: Bytes
    known: Longs


@compiled
def with_room(table: Table, words: int, size: int) -> Table:
    """The table with room for so many more words of so many bytes in all; the same one where it has it."""
    known = table.known[0]
    slots, hashes, ends, pool = table.slots, table.hashes, table.ends, table.pool
    if known + words > len(hashes):
        room = max(2 * len(hashes), known + words)
        hashes = np.empty(room, np.int64)
        hashes[:known] = table.hashes[:known]
        ends = np.empty(room + 1, np.int64)
        ends[: known + 1] = table.ends[: known + 1]
    if ends[known] + size > len(pool):
        pool = np.empty(max(2 * len(pool), ends[known] + size), np.uint8)
        pool[: ends[known]] = table.pool[: ends[known]]
    if 2 * (known + words) > len(slots):
        capacity = len(slots)
        while capacity < 2 * (known + words):
            capacity *= 2
        slots = np.zeros(capacity, np.int32)
        for number in range(known):
            place = hashes[number] & (capacity - 1)
            while slots[place]:
                place = (place + 1) & (capacity - 1)
            slots[place] = number + 1
    return Table(slots, hashes, ends, pool, table.known)


@compiled
def number_of(table: Table, word: Bytes, size: int, add: bool) -> int:
    """The number of the word in the first `size` bytes; a new one is added (there must be room) or is -1."""
    mixed = 0
    for at in range(size):
        mixed = (mixed ^ word[at]) * 0x100000001B3 + 0x9E37  # FNV-1a's prime; wraps around
    mixed ^= mixed >> 29
    mask = len(table.slots) - 1
    place = mixed & mask
    while table.slots[place]:
        number = table.slots[place] - 1
        start = table.ends[number]
        if table.hashes[number] == mixed and table.ends[number + 1] - start == size:
            same = 0
            while same < size and table.pool[start + same] == word[same]:
                same += 1
            if same == size:
                return int(number)
        place = (place + 1) & mask
    if not add:
        return -1
    number = table.known[0]
    start = table.ends[number]
    for at in range(size):
        table.pool[start + at] = word[at]
    table.ends[number + 1] = start + size
    table.hashes[number] = mixed
    table.slots[place] = number + 1
    table.known[0] = number + 1
    return int(number)


@compiled
def _decoded(content: Bytes, at: int) -> tuple[int, int]:
    """The code point at a byte, and where the next one starts."""
    first = int(content[at])
    if first < _TWO:
        return first, at + 1
    second = int(content[at + 1]) & 0x3F
    if first < _LEAD_OF_THREE:
        return (first & 0x1F) << 6 | second, at + 2
    third = int(content[at + 2]) & 0x3F
    if first < _LEAD_OF_FOUR:
        return (first & 0x0F) << 12 | second << 6 | third, at + 3
    return (first & 0x07) << 18 | second << 12 | third << 6 | int(content[at + 3]) & 0x3F, at + 4


@compiled
def _encoded(point: int, word: Bytes, size: int) -> int:
    """Appends a code point to a word of `size` bytes and returns its new size."""
    if point < _TWO:
        word[size] = point
        return size + 1
    more = 1 if point < _THREE else 2 if point < _FOUR else 3
    word[size] = (0xF0 << (3 - more)) & 0xFF | point >> 6 * more
    for at in range(1, more + 1):
        word[size + at] = 0x80 | (point >> 6 * (more - at)) & 0x3F
    return size + more + 1


@compiled
def split(content: Bytes, offsets: Ids, classes: Ids, table: Table) -> tuple[Ids, Ids, Table]:
    """Words of texts, lower-cased and numbered.

    Args:
        content: UTF-8 of all texts.
        offsets: text `n` is `content[offsets[n]:offsets[n + 1]]`.
        classes: by code point: its lower case and bits.
        table: grows by the words that it does not know.

    Returns:
        Numbers of all words in order; how many each text has; the table.
    """
    rows = len(offsets) - 1
    ids = np.empty((offsets[rows] - offsets[0]) // 3 + rows, np.int32)  # two bytes and one between: three at least
    lengths = np.empty(rows, np.int32)
    word = np.empty(16, np.uint8)
    total = 0
    for row in range(rows):
        at, end = int(offsets[row]), int(offsets[row + 1])
        longest = 2 * (end - at) + 4  # lower case takes at most three bytes for two
        if longest > len(word):
            word = np.empty(longest, np.uint8)
        table = with_room(table, (end - at) // 3 + 1, longest)
        start, letters, size = total, 0, 0
        while at < end:
            point, at = _decoded(content, at)
            kind = classes[point]
            if kind & WORD or (kind & MARK and letters):
                letters += 1
                size = _encoded(kind & LOWER, word, size)
                if at < end:
                    continue
            if letters >= SHORTEST:
                ids[total] = number_of(table, word, size, True)
                total += 1
            letters, size = 0, 0
        lengths[row] = total - start
    return ids[:total].copy(), lengths, table


@compiled
def special_rows(content: Bytes, offsets: Ids, classes: Ids) -> npt.NDArray[np.bool_]:
    """Which texts hold a code point of the class `SPECIAL`; none in ASCII is."""
    rows = len(offsets) - 1
    found = np.zeros(rows, np.bool_)
    for row in range(rows):
        at, end = int(offsets[row]), int(offsets[row + 1])
        while at < end:
            if content[at] < _TWO:
                at += 1
                continue
            point, at = _decoded(content, at)
            if classes[point] & SPECIAL:
                found[row] = True
                break
    return found


@compiled
def numbered(content: Bytes, offsets: Ids, table: Table, add: bool) -> tuple[Ids, Table]:
    """Numbers of whole texts, each one word; unknown ones are added to the table or are -1."""
    rows = len(offsets) - 1
    ids = np.empty(rows, np.int32)
    if add:
        table = with_room(table, rows, offsets[rows] - offsets[0])
    for row in range(rows):
        ids[row] = number_of(table, content[offsets[row] :], offsets[row + 1] - offsets[row], add)
    return ids, table


@compiled
def translated(ids: Ids, lengths: Ids, meaning: Ids) -> Ids:
    """Replaces ids by their meaning and leaves out those whose meaning is -1; changes `lengths` to fit."""
    result = np.empty(len(ids), np.int32)
    total, at = 0, 0
    for row in range(len(lengths)):
        start = total
        for _ in range(lengths[row]):
            new = meaning[ids[at]]
            at += 1
            if new >= 0:
                result[total] = new
                total += 1
        lengths[row] = total - start
    return result[:total].copy()
