"""Words as bm25s splits them, for all that Unicode has."""

# ruff: noqa: RUF001 - letters that look like others are what is tested

import re

import bm25s
import numpy as np
import pyarrow as pa
import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from builders.bm25.languages import STEMMERS, STOP_WORDS
from builders.bm25.token_kernels import WORD
from builders.bm25.tokens import Language, Vocabulary, _classes, query_words

HARD = [
    "",
    "a",
    "ab",
    "İstanbul'da IĞDIR ısı İİ Iİ",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ Σ ΑΣ. ΑΣΑ ΑΣ\u0301 ΣΣ",
    "Straße STRASSE ẞẞ Füße",
    "cafe\u0301 e\u0301e\u0301 n\u0303a",
    "東京 は日本の首都 한국어 ひらがな",
    "😀😀 a😀b 👩‍👩‍👧 ok",
    "١٢٣ ४५ ๓๔ Ⅷ ²³ ½¾ 𝟘𝟙",
    "_ __ _a a_ snake_case __init__",
    "KELVIN \u212a\u212a ÅÅ Ⱥb ȺȺ ﬁﬁ Ǆǅ",
    "don't stop-words I'm x y zz",
    "\x00\x00ab\x00cd \u2028ef\u200bgh",
    "𐐀𐐁 𐒰𐒱 𞤀𞤁",
]


def split(texts):
    """Our words of texts, and theirs."""
    vocabulary = Vocabulary()
    ids, lengths = vocabulary.split(pa.array(texts, pa.string()))
    words = vocabulary.words().to_pylist()
    found = [[words[n] for n in part] for part in np.split(ids, np.cumsum(lengths))[:-1]]
    theirs = bm25s.tokenize(texts, stopwords=[], stemmer=None, return_ids=True, show_progress=False)
    names = {number: word for word, number in theirs.vocab.items()}
    return found, [[names[n] for n in part] for part in theirs.ids]


@pytest.mark.parametrize("text", HARD)
def test_hard_texts(text):
    found, wanted = split([text])
    assert found == wanted


@given(
    st.lists(st.one_of(st.text(), st.text("abAB_1 éΣσİiß\u0301東😀٣ǅ"), st.sampled_from(HARD)), min_size=1, max_size=8)
)
def test_words_equal_those_of_bm25s(texts):
    found, wanted = split(texts)
    assert found == wanted


def test_every_code_point_alone_and_doubled():
    points = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]
    texts = [
        "".join(f"{point} {point}{point} b{point}" for point in points[n : n + 500]) for n in range(0, len(points), 500)
    ]
    vocabulary = Vocabulary()
    ids, lengths = vocabulary.split(pa.array(texts))
    words = vocabulary.words().to_pylist()
    for text, part in zip(texts, np.split(ids, np.cumsum(lengths))[:-1], strict=True):
        assert [words[n] for n in part] == re.findall(r"(?u)\b\w\w+\b", text.lower())


def test_lower_case_of_lower_case_is_itself():
    """So that texts which Python has lower-cased go through the same loop."""
    classes = _classes()
    lower = classes & (WORD - 1)
    assert (lower[lower] == lower).all()


@pytest.mark.parametrize("language", ["en", "de", "tr", "ru", "fr"])
def test_stems_and_stop_words_equal_those_of_bm25s(language):
    texts = [*HARD, "the running cows and the owls", "die Häuser und das Haus", "les chevaux du roi", "и коровы бегут"]
    stems, tongue, vocabulary = Vocabulary(), Language(language), Vocabulary()
    ids, lengths = vocabulary.split(pa.array(texts))
    meanings = tongue.meanings(vocabulary.words(), stems, add=True)
    names = stems.words().to_pylist()
    found = [[names[meanings[n]] for n in part if meanings[n] >= 0] for part in np.split(ids, np.cumsum(lengths))[:-1]]
    stemmer = Stemmer.Stemmer(STEMMERS[language])
    stop_words = list(STOP_WORDS[language])
    wanted = bm25s.tokenize(texts, stopwords=stop_words, stemmer=stemmer, return_ids=False, show_progress=False)
    assert found == wanted
    again = query_words(pa.array(texts), tongue, stems)
    assert [[names[n] for n in part] for part in np.split(again.ids, np.cumsum(again.lengths))[:-1]] == wanted


def test_slices_of_arrays_and_many_words():
    words = [f"word{n}" for n in range(30_000)]
    texts = pa.array(["not this", *words, "nor that"]).slice(1, 30_000)
    vocabulary = Vocabulary()
    assert vocabulary.split(texts).ids.tolist() == list(range(30_000))
    assert vocabulary.words().to_pylist() == words
    assert vocabulary.find(pa.array(["word7", "word", "", "word29999", "word30000"])).tolist() == [7, -1, -1, 29999, -1]
    assert vocabulary.add(pa.array(["new", "word3"])).tolist() == [30_000, 3]
