"""Words as bm25s splits them, for all that Unicode has."""

# ruff: noqa: RUF001 - letters that look like others are what is tested

import re
import unicodedata

import bm25s
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders.retrieval.bm25 import tokens
from builders.retrieval.bm25.bigrams import CUT
from builders.retrieval.bm25.tokens import Language, Vocabulary, query_words, with_meaning
from foils.stems import stemmer_of, stop_words_of
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


VOWELS = re.compile("[\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]")
IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")


def in_one_form(text):
    text = unicodedata.normalize("NFKC", "".join(letter for letter in text if letter not in INVISIBLE))
    return "".join("i" if letter == "İ" else letter.lower() for letter in text)


def words_of(text):
    """The words of a text by the rule's own words: pairs in scripts without spaces, else two characters or more."""
    found = []
    for part in re.findall(f"{CUT}+|(?:(?!{CUT}).)+", VOWELS.sub("", in_one_form(text)), re.DOTALL):
        if re.match(CUT, part):
            pairs = [part[n : n + 2] for n in range(len(part) - 1)] or [part]
            alone = [letter for letter in part if IDEOGRAPH.match(letter) and len(part) > 1]
            found += [*pairs, *alone]
        else:
            found += WORDS.findall(part)
    return found


def listed(names, words):
    return [[names[n] for n in part] for part in np.split(words.ids, np.cumsum(words.lengths))[:-1]]


def ours(texts):
    """Our words of texts."""
    found = tokens.split(pa.array(texts, pa.string()))
    words = found.distinct.to_pylist()
    counted = np.array([n if len(word) > 1 or re.match(CUT, word) else -1 for n, word in enumerate(words)], np.int32)
    return listed(words, with_meaning(found.words, counted))


def split(texts):
    """Our words of texts, and theirs."""
    theirs = bm25s.tokenize(texts, stopwords=[], stemmer=None, return_ids=False, show_progress=False)
    return ours(texts), theirs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("e\u0301te\u0301 a\u0300 Orle\u0301ans", ["été", "orléans"]),
        ("كَتَبَ الوَلَدُ שָׁלוֹם", ["كتب", "الولد", "שלום"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("hy\u00adphen\u200bated İSTANBUL", ["hyphenated", "istanbul"]),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", ["한글"]),
        ("\u0301\u0301 \u2764\ufe0f", []),
        ("猫。ＷＭ2で設定", ["猫", "wm2", "で設", "設", "設定", "定"]),
        ("แมวกิน ABC", ["แม", "มว", "วก", "กิ", "ิน", "abc"]),
    ],
)
def test_words_stay_whole_in_any_form(text, words):
    assert split([text])[0] == [words]


# Arrow knows characters that are younger than this Python's Unicode, and bm25s does not.
KNOWN = st.text(st.characters(exclude_categories=["Cs", "Cn"]))


@example(HARD)
@given(st.lists(st.one_of(KNOWN, st.text("abAB_1 éΣσİiß\u0301東😀٣ǅ"), st.sampled_from(HARD)), min_size=1, max_size=8))
def test_words_equal_those_of_bm25s_on_composed_text(texts):
    plain = [re.sub(f"[{MARKS}]|{CUT}", "", in_one_form(text)) for text in texts]
    found, wanted = split([text for text in plain if text == in_one_form(text)])
    assert found == wanted
    assert [*map(sorted, split(texts)[0])] == [sorted(words_of(text)) for text in texts]


def test_every_code_point_alone_and_doubled():
    """But for those that this Python knows nothing of: Arrow may have a later Unicode."""
    points = [chr(n) for n in range(0x110000) if unicodedata.category(chr(n)) not in ("Cs", "Cn")]
    texts = [
        "".join(f"{point} {point}{point} b{point}" for point in points[n : n + 500]) for n in range(0, len(points), 500)
    ]
    for text, found in zip(texts, ours(texts), strict=True):
        assert sorted(found) == sorted(words_of(text))


@pytest.mark.parametrize("language", ["en", "de", "tr", "ru", "fr"])
def test_stems_and_stop_words_equal_those_of_bm25s(language):
    plain = [text for text in HARD if text == in_one_form(text) and not re.search(f"[{MARKS}]|{CUT}", text)]
    texts = [*plain, "the running cows and the owls", "die Häuser und das Haus", "les chevaux du roi", "и коровы бегут"]
    vocabulary, found = Vocabulary(Language(language)), tokens.split(pa.array(texts))
    words = with_meaning(found.words, vocabulary.numbers(found.distinct))
    known = {"stopwords": list(stop_words_of(language)), "stemmer": stemmer_of(language)}
    wanted = bm25s.tokenize(texts, **known, return_ids=False, show_progress=False)
    stems = vocabulary.stems()
    assert listed(stems.to_pylist(), words) == wanted
    assert listed(stems.to_pylist(), query_words(pa.array(texts), Language(language), stems)) == wanted


def test_a_turkish_i_is_one_letter_in_either_case():
    lower, upper = (tokens.split(pa.array([text])).distinct for text in ("ışıklı ısparta", "IŞIKLI ISPARTA"))
    assert Language("tr").stems(lower) == Language("tr").stems(upper)


def test_slices_of_arrays_and_many_words():
    words = [f"word{n}" for n in range(30_000)]
    texts = pa.array(["not this", *words, "nor that"]).slice(1, 30_000)
    found = tokens.split(texts)
    assert found.words.ids.tolist() == list(range(30_000))
    assert found.distinct.to_pylist() == words
    asked = pa.array(["word7", "word", "", "word29999 word30000"])
    assert query_words(asked, Language("en"), found.distinct).ids.tolist() == [7, 29999]
