"""Texts to ids of words by bm25s's rule: Python's lower case, two or more word characters, no stop words, stems.

Unlike there, a text's form does not count: letters are composed (NFC), invisible characters left out, and marks that
have no composed form (vowels of Arabic and Hindi) belong to the word that they stand in.
"""

import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import Stemmer

from builders.bm25.languages import STEMMERS, STOP_WORDS
from builders.bm25.token_kernels import (
    MARK,
    SPECIAL,
    WORD,
    Bytes,
    Ids,
    Table,
    numbered,
    special_rows,
    split,
    translated,
)
from foils.texts import INVISIBLE

VERSION = "3"
"""Changes with the rule: an index of another version is built anew."""
_STEMS_AT_ONCE = 50_000
_POINTS = 0x110000
_ASSIGNED = (
    *range(0x80, 0xD800),
    *range(0xE000, 0x33480),
    *range(0xE0000, 0xE0200),
)  # and nothing else but private use
_DOTTED_I, _SIGMA, _JAMO = 0x130, 0x3A3, range(0x1160, 0x1200)


class Words(NamedTuple):
    """Ids of the words of some texts.

    Attributes:
        ids: all texts' words in order.
        lengths: words of each text.
    """

    ids: Ids
    lengths: Ids


class Vocabulary:
    """Distinct words, numbered as they come.

    >>> vocabulary = Vocabulary()
    >>> vocabulary.split(pa.array(["Straße_1, a straße_1 ÉTÉ", ""]))
    Words(ids=array([0, 0, 1], dtype=int32), lengths=array([3, 0], dtype=int32))
    >>> vocabulary.words().to_pylist()
    ['straße_1', 'été']
    """

    def __init__(self) -> None:
        room = 1 << 12
        self._table = Table(
            slots=np.zeros(2 * room, np.int32),
            hashes=np.empty(room, np.int64),
            ends=np.zeros(room + 1, np.int64),
            pool=np.empty(8 * room, np.uint8),
            known=np.zeros(1, np.int64),
        )

    def __len__(self) -> int:
        return int(self._table.known[0])

    def split(self, texts: pa.Array) -> Words:
        """The words of texts; new ones are added."""
        content, offsets = _buffers(texts)
        special = special_rows(content, offsets, _classes())
        if special.any():
            content, offsets = _buffers(_prepared(texts, special))
        ids, lengths, self._table = split(content, offsets, _classes(), self._table)
        return Words(ids, lengths)

    def add(self, words: pa.Array) -> Ids:
        """Numbers of words; new ones are added."""
        ids, self._table = numbered(*_buffers(words), self._table, True)
        return ids

    def find(self, words: pa.Array) -> Ids:
        """Numbers of words; -1 for those that are not here."""
        return numbered(*_buffers(words), self._table, False)[0]

    def words(self) -> pa.Array:
        """All words by number."""
        size = len(self)
        ends = self._table.ends[: size + 1]
        pool = self._table.pool[: ends[-1]]
        return pa.LargeStringArray.from_buffers(size, pa.py_buffer(ends.copy()), pa.py_buffer(pool.copy())).cast(
            pa.string()
        )


class Language:
    """Stop words and stems of one language.

    Args:
        code: two letters, one of `STEMMERS`.
    """

    def __init__(self, code: str) -> None:
        self._stemmer = Stemmer.Stemmer(STEMMERS[code])
        self._stop_words = pa.array(STOP_WORDS.get(code, ()), pa.string())

    def meanings(self, words: pa.Array, stems: Vocabulary, *, add: bool) -> Ids:
        """For each word the number of its stem; -1 for stop words, and for unknown stems unless they are added."""
        meanings = [
            self._meanings(words.slice(start, _STEMS_AT_ONCE), stems, add)
            for start in range(0, len(words), _STEMS_AT_ONCE)
        ]
        return np.concatenate([np.empty(0, np.int32), *meanings])

    def _meanings(self, words: pa.Array, stems: Vocabulary, add: bool) -> Ids:
        kept = pc.invert(pc.is_in(words, value_set=self._stop_words))
        found = pa.array(self._stemmer.stemWords(words.filter(kept).to_pylist()), pa.string())
        meanings = np.full(len(words), -1, np.int32)
        meanings[kept.to_numpy(zero_copy_only=False)] = stems.add(found) if add else stems.find(found)
        return meanings


def query_words(texts: pa.Array, language: Language, stems: Vocabulary) -> Words:
    """Stems of texts as `stems` numbers them; words that it does not know are left out."""
    vocabulary = Vocabulary()
    words = vocabulary.split(texts)
    meanings = language.meanings(vocabulary.words(), stems, add=False)
    return Words(translated(words.ids, words.lengths, meanings), words.lengths)


def split_by_threads(texts: pa.Array, vocabularies: list[Vocabulary], pool: ThreadPoolExecutor) -> list[Words]:
    """Splits texts into as many parts as there are vocabularies and splits each by its own, at the same time."""
    edges = [len(texts) * part // len(vocabularies) for part in range(len(vocabularies) + 1)]
    parts = [texts.slice(start, end - start) for start, end in pairwise(edges)]
    return list(pool.map(Vocabulary.split, vocabularies, parts))


@cache
def _classes() -> Ids:
    """By code point: its lower case, and `WORD` where that is a word character of Python's `re`; from Python itself.

    `MARK` says that it belongs to a word that has begun; `SPECIAL`, that Python has to prepare a text that holds it.
    """
    points = np.arange(_POINTS, dtype=np.uint32)
    points[0xD800:0xE000] = 0  # surrogates stand in no UTF-8
    points[[_DOTTED_I, _SIGMA]] = 0  # special: these come lower-cased
    lower = "".join(map(chr, points.tolist())).lower()
    classes = np.frombuffer(lower.encode("utf-32-le"), np.int32).copy()
    for run in re.finditer(r"\w+", lower):
        classes[run.start() : run.end()] |= WORD
    classes[[_DOTTED_I, _SIGMA, *_JAMO]] |= SPECIAL  # lower case by neighbours; a letter of its own or part of one
    for point in _ASSIGNED:
        letter = chr(point)
        if letter in INVISIBLE or not unicodedata.is_normalized("NFC", letter):
            classes[point] |= SPECIAL
        elif unicodedata.category(letter)[0] == "M":
            classes[point] |= SPECIAL | MARK
    return classes


def _prepared(texts: pa.Array, rows: npt.NDArray[np.bool_]) -> pa.Array:
    """Texts, some of them composed and lower-cased, without what is invisible."""
    chosen = pa.array(map(_in_one_form, texts.filter(pa.array(rows)).to_pylist()), texts.type)
    return pc.replace_with_mask(texts, pa.array(rows), chosen)


def _in_one_form(text: str) -> str:
    invisible = INVISIBLE.intersection(text)
    if invisible:
        text = text.translate(dict.fromkeys(map(ord, invisible)))
    # Python's lower case of the Turkish capital would be two characters.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).replace("\u0130", "i").lower())


def _buffers(texts: pa.Array) -> tuple[Bytes, Ids]:
    """UTF-8 and offsets of a string array without nulls."""
    _, offsets, content = texts.buffers()
    if offsets is None or not len(texts):
        return np.empty(0, np.uint8), np.zeros(1, np.int32)
    edges = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset)
    return np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8), edges
