"""Cuts text of scripts without spaces into pairs of neighbouring characters, as Lucene's CJK analyzer does.

No dictionary is needed, and queries and passages are cut alike. A character that stands alone is kept, and so is every
ideograph, which often is a word by itself. Korean is cut too, since its particles are written onto the words.

Measured with Django's messages, searched by their translations in earlier versions (MRR@10): 94 Chinese ones among 748
are found at .84 so, at .80 by pairs alone and at .72 by jieba's words; 49 Korean ones at .69, and .66 by words.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders.retrieval.bm25.kernels import Longs, compiled
from foils.languages import UNSPACED

Bytes = npt.NDArray[np.uint8]

_HANGUL = "\uac00-\ud7a3"
CUT = f"[{UNSPACED}{_HANGUL}]"
"""The pattern of a character that is cut off its neighbours."""
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WHOLE, _PAIRED, _ALONE_TOO = 0, 1, 2
_SPACE = 0x20
_GROWTH = 4  # a character of three bytes becomes itself, a pair and two spaces


def _kinds() -> Bytes:
    """What is done with each character, by its code point."""
    kinds = np.zeros(0x110000, np.uint8)
    for kind, ranges in ((_PAIRED, UNSPACED + _HANGUL), (_ALONE_TOO, _IDEOGRAPHS)):
        for start, end in zip(ranges[::3], ranges[2::3], strict=True):
            kinds[ord(start) : ord(end) + 1] = kind
    return kinds


_KINDS = _kinds()


def cut(texts: pa.Array) -> pa.Array:
    """Texts with spaces between the pairs; of a larger type where anything is cut.

    >>> cut(pa.array(["owls", "iPhoneの設定", "จอ"])).to_pylist()
    ['owls', 'iPhone の設 設 設定 定 ', ' จอ ']
    """
    rows = pc.match_substring_regex(texts, CUT)
    if not pc.any(rows).as_py():
        return texts
    chosen = texts.filter(rows).cast(pa.large_string())
    _, offsets, data = chosen.buffers()
    edges = np.frombuffer(offsets, np.int64, len(chosen) + 1, 8 * chosen.offset)
    made = np.empty(_GROWTH * int(edges[-1] - edges[0]), np.uint8)
    ends = np.zeros(len(edges), np.int64)
    total = _write(np.frombuffer(data, np.uint8), edges, _KINDS, made, ends)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(made[:total])]
    done = pa.Array.from_buffers(pa.large_string(), len(chosen), buffers)
    return pc.replace_with_mask(texts.cast(pa.large_string()), rows, done)


@compiled
def _copy(data: Bytes, start: int, end: int, made: Bytes, total: int) -> int:
    """Appends bytes and a space; returns how many there are now."""
    for at in range(start, end):
        made[total] = data[at]
        total += 1
    made[total] = _SPACE
    return total + 1


@compiled
def _write(data: Bytes, edges: Longs, kinds: Bytes, made: Bytes, ends: Longs) -> int:
    """Writes texts with their pairs to `made`, and where each text ends to `ends`; returns how many bytes there are."""
    total = 0
    for row in range(len(edges) - 1):
        at, end = edges[row], edges[row + 1]
        before, alone = -1, False  # where a character to be paired begins, and whether it stands in no pair yet
        while at < end:
            size = 1 if data[at] < 0x80 else 2 if data[at] < 0xE0 else 3 if data[at] < 0xF0 else 4  # noqa: PLR2004
            point = np.int64(data[at]) & (0x7F if size == 1 else 0x7F >> size)
            for place in range(at + 1, at + size):
                point = point << 6 | (np.int64(data[place]) & 0x3F)
            kind = kinds[point]
            if alone and kind == _WHOLE:
                total = _copy(data, before, at, made, total)
            if kind == _WHOLE:
                total = _copy(data, at, at + size, made, total) - 1  # the space is for what is cut
                before, alone = -1, False
            else:
                if before >= 0:
                    total = _copy(data, before, at + size, made, total)
                else:
                    made[total] = _SPACE
                    total += 1
                alone = before < 0 and kind == _PAIRED
                if kind == _ALONE_TOO:
                    total = _copy(data, at, at + size, made, total)
                before = at
            at += size
        if alone:
            total = _copy(data, before, end, made, total)
        ends[row + 1] = total
    return total
