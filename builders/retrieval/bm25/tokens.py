"""Texts to stems by bm25s's rule: lower case, two or more word characters, no stop words.

Unlike there, a text's form does not count: letters have one form (NFKC), invisible characters are left out, and marks
that have no composed form (vowels of Hindi) belong to the word that they stand in; the vowel points of Arabic and
Hebrew, which most writers leave out, are dropped. Scripts without spaces are cut into pairs of characters (`bigrams`).
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders.retrieval.bm25.bigrams import CUT, cut
from builders.retrieval.bm25.kernels import Ids, translated
from foils.stems import stemmer_of, stop_words_of
from foils.texts import INVISIBLE

VERSION = "6"
"""Changes with the rule: an index of another version is built anew."""
SHORTEST = 2  # letters of a word, unless it is cut from a script without spaces
_BETWEEN = r"[^\pL\pN_\pM]+"
# A mark belongs to a word that has begun. This is asked of each distinct word, as it costs much.
_MARKS = r"^\pM+|[\x{591}-\x{5c7}\x{610}-\x{61a}\x{64b}-\x{65f}\x{670}\x{6d6}-\x{6dc}\x{6df}-\x{6e8}\x{6ea}-\x{6ed}]+"
# Beyond the letters of Latin, Greek, Cyrillic, kana, ideographs and Hangul that have one form: to compose takes long.
_NOT_IN_ONE_FORM = (
    r"[^\x00-\x7f\x{c0}-\x{131}\x{134}-\x{13e}\x{141}-\x{148}\x{14a}-\x{17e}\x{391}-\x{3ce}\x{400}-\x{52f}"
    r"\x{2013}-\x{2019}\x{201c}-\x{201e}\x{3041}-\x{3096}\x{30a1}-\x{30fa}\x{4e00}-\x{9fff}\x{ac00}-\x{d7a3}]"
)
_INVISIBLE = f"[{''.join(sorted(INVISIBLE))}]+"


class Words(NamedTuple):
    """The words of some texts, by id.

    Attributes:
        ids: all texts' words in order.
        lengths: words of each text.
    """

    ids: Ids
    lengths: Ids


class Split(NamedTuple):
    """The words of some texts; a separator at a text's end leaves an empty word beside it.

    Attributes:
        distinct: the words; each once, but for those that have lost marks.
        words: their numbers in `distinct`.
    """

    distinct: pa.Array
    words: Words


def split(texts: pa.Array) -> Split:
    """Splits texts into lower-case words.

    >>> found = split(pa.array(["Straße_1, a straße_1 ÉTÉ", ""]))
    >>> found.distinct.to_pylist(), found.words.ids.tolist(), found.words.lengths.tolist()
    (['straße_1', 'a', 'été', ''], [0, 1, 0, 2, 3], [4, 1])
    """
    parts = pc.split_pattern_regex(cut(_in_one_form(texts)), _BETWEEN)
    found = parts.flatten().dictionary_encode()
    lengths = np.diff(parts.offsets.to_numpy()).astype(np.int32)
    words = found.dictionary.cast(pa.string())
    bare = pc.replace_substring_regex(words, _MARKS, "")
    distinct = pc.if_else(pc.match_substring_regex(words, f"^{CUT}"), words, bare)  # a pair may begin with a mark
    return Split(distinct, Words(found.indices.to_numpy(), lengths))


class Language:
    """The stop words and stems of one language.

    Args:
        code: of ISO 639; one without a stemmer keeps its words as they are.
    """

    def __init__(self, code: str) -> None:
        self._stemmer = stemmer_of(code)
        self._stop_words = pa.array(stop_words_of(code), pa.string())

    def stems(self, words: pa.Array) -> pa.Array:
        """Returns the stem of each word; null for stop words and for single letters."""
        is_long = pc.or_(pc.greater_equal(pc.utf8_length(words), SHORTEST), pc.match_substring_regex(words, CUT))
        kept = pc.and_(is_long, pc.invert(pc.is_in(words, value_set=self._stop_words)))
        stems = words.filter(kept)
        if self._stemmer is not None:
            stems = pa.array(self._stemmer.stemWords(stems.to_pylist()), pa.string())
        stems = pc.replace_substring(stems, "\u0131", "i")  # Turkish "I", lowered by a rule that knows no Turkish
        return pc.replace_with_mask(pa.nulls(len(words), pa.string()), kept, stems)


class Vocabulary:
    """The stems of a language, numbered as they come.

    Args:
        language: stems words.
    """

    def __init__(self, language: Language) -> None:
        self._language = language
        self._of_word: dict[str, int] = {}
        self._of_stem: dict[str, int] = {}

    def numbers(self, words: pa.Array) -> Ids:
        """Returns the number of each word's stem, -1 for words that do not count; new stems are added."""
        listed = words.to_pylist()
        numbers = [*map(self._of_word.get, listed)]
        new = [place for place, number in enumerate(numbers) if number is None]
        stems = self._language.stems(words.take(pa.array(new, pa.int32()))).to_pylist()
        for place, stem in zip(new, stems, strict=True):
            number = -1 if stem is None else self._of_stem.setdefault(stem, len(self._of_stem))
            numbers[place] = self._of_word[listed[place]] = number
        return np.array(numbers, np.int32)

    def stems(self) -> pa.Array:
        """Returns all stems by number."""
        return pa.array(self._of_stem, pa.string())


def query_words(texts: pa.Array, language: Language, stems: pa.Array) -> Words:
    """Returns the stems of texts by their places in `stems`; words that are not there are left out."""
    found = split(texts)
    places = pc.fill_null(pc.index_in(language.stems(found.distinct), value_set=stems), -1)
    return with_meaning(found.words, places.to_numpy().astype(np.int32))


def with_meaning(words: Words, meanings: Ids) -> Words:
    """Replaces ids by their meanings; words whose meaning is -1 are left out."""
    lengths = words.lengths.copy()
    return Words(translated(words.ids, lengths, meanings), lengths)


def _in_one_form(texts: pa.Array) -> pa.Array:
    """Texts in lower case and one form; those that have one are only lower-cased."""
    beyond = pc.match_substring_regex(texts, _NOT_IN_ONE_FORM)
    if pc.any(beyond).as_py():
        seen = pc.replace_substring_regex(texts.filter(beyond), _INVISIBLE, "")
        texts = pc.replace_with_mask(texts, beyond, pc.utf8_normalize(seen, "NFKC"))
    return pc.utf8_lower(texts)
