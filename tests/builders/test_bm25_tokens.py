"""Words as bm25s splits them, for all that Unicode has."""

# ruff: noqa: RUF001 - letters that look like others are what is tested

import re
import unicodedata

import bm25s
import numpy as np
import pyarrow as pa
import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from builders.bm25.languages import STEMMERS, STOP_WORDS
from builders.bm25.token_kernels import LOWER
from builders.bm25.tokens import Language, Vocabulary, _classes, query_words
from foils.texts import INVISIBLE

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


MARKS = "".join(letter for point in range(0x110000) if unicodedata.category(letter := chr(point))[0] == "M")
WORDS = re.compile(rf"\w[\w{MARKS}]+")


def in_one_form(text):
    text = "".join(letter for letter in text if letter not in INVISIBLE)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).replace("İ", "i").lower())


def split(texts):
    """Our words of texts, and theirs."""
    vocabulary = Vocabulary()
    ids, lengths = vocabulary.split(pa.array(texts, pa.string()))
    words = vocabulary.words().to_pylist()
    found = [[words[n] for n in part] for part in np.split(ids, np.cumsum(lengths))[:-1]]
    theirs = bm25s.tokenize(texts, stopwords=[], stemmer=None, return_ids=False, show_progress=False)
    return found, theirs


@pytest.mark.parametrize("text", HARD)
def test_hard_texts(text):
    found, theirs = split([text])
    assert found == [WORDS.findall(in_one_form(text))]
    if text == in_one_form(text) and not set(text) & set(MARKS):
        assert found == theirs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("e\u0301te\u0301 a\u0300 Orle\u0301ans", ["été", "orléans"]),
        ("كَتَبَ الوَلَدُ", ["كَتَبَ", "الوَلَدُ"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("hy\u00adphen\u200bated İSTANBUL", ["hyphenated", "istanbul"]),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", ["한글"]),
        ("\u0301\u0301 \u2764\ufe0f", []),
    ],
)
def test_words_stay_whole_in_any_form(text, words):
    assert split([text])[0] == [words]


def test_vowelled_arabic_finds_what_has_no_vowels():
    stems, arabic = Vocabulary(), Language("ar")
    for text in ("كَتَبَ الدَّرْسَ فِي المَدْرَسَةِ", "كتب الدرس في المدرسة"):
        vocabulary = Vocabulary()
        ids = vocabulary.split(pa.array([text])).ids
        found = arabic.meanings(vocabulary.words(), stems, add=True)[ids].tolist()
        assert found == [0, 1, 2, 3]


@given(
    st.lists(st.one_of(st.text(), st.text("abAB_1 éΣσİiß\u0301東😀٣ǅ"), st.sampled_from(HARD)), min_size=1, max_size=8)
)
def test_words_equal_those_of_bm25s_on_composed_text(texts):
    plain = ["".join(letter for letter in in_one_form(text) if letter not in MARKS) for text in texts]
    found, wanted = split([text for text in plain if text == in_one_form(text)])
    assert found == wanted
    assert split(texts)[0] == [WORDS.findall(in_one_form(text)) for text in texts]


def test_every_code_point_alone_and_doubled():
    points = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]
    texts = [
        "".join(f"{point} {point}{point} b{point}" for point in points[n : n + 500]) for n in range(0, len(points), 500)
    ]
    vocabulary = Vocabulary()
    ids, lengths = vocabulary.split(pa.array(texts))
    words = vocabulary.words().to_pylist()
    for text, part in zip(texts, np.split(ids, np.cumsum(lengths))[:-1], strict=True):
        assert [words[n] for n in part] == WORDS.findall(in_one_form(text))


def test_lower_case_of_lower_case_is_itself():
    """So that texts which Python has lower-cased go through the same loop."""
    classes = _classes()
    lower = classes & LOWER
    assert (lower[lower] == lower).all()


@pytest.mark.parametrize("language", ["en", "de", "tr", "ru", "fr"])
def test_stems_and_stop_words_equal_those_of_bm25s(language):
    plain = [text for text in HARD if text == in_one_form(text) and not set(text) & set(MARKS)]
    texts = [*plain, "the running cows and the owls", "die Häuser und das Haus", "les chevaux du roi", "и коровы бегут"]
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
