"""When two texts are the same, and when they are not."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foils import texts
from foils.texts import folded, normalised

SAME = {
    "composed or not": ("Caf\u00e9 na\u00efve", "Cafe\u0301 nai\u0308ve"),
    "zero width": ("passage", "pas\u200bs\u2060age\ufeff"),
    "soft hyphen": ("hyphenation", "hy\u00adphen\u00adation"),
    "direction marks": ("abc", "\u202aabc\u202c\u200f"),
    "full width": ("Full, no 1.5!", "\uff26\uff55\uff4c\uff4c\uff0c\u3000\uff4e\uff4f \uff11\uff0e\uff15\uff01"),
    "ligature": ("fine office", "\ufb01ne o\ufb03ce"),
    "quotes": ("\"it's\" 'so'", "\u201cit\u2019s\u201d \u2018so\u2019"),
    "guillemets": ('"oui" fin', "\u00ab\u00a0oui\u00a0\u00bb fin"),
    "dashes": ("a-b - c", "a\u2010b \u2014 c"),
    "minus": ("x-1", "x\u22121"),
    "ellipsis": ("wait... so", "wait\u2026 so"),
    "sentence ends": ("Owls hunt mice; bees dance.", "owls hunt mice, bees dance"),
    "space before a mark": ("Quoi\u202f?", "quoi"),
    "any space before a mark": ("Quoi\u202f? Rien\u00a0: non\u00a0!", "Quoi ? Rien : non !"),
    "any space in guillemets": ("\u00ab\u00a0oui\u00a0\u00bb fin", "\u00ab oui \u00bb fin"),
    "German guillemets": ("er \u00bboui\u00ab und \u00bbnon\u00ab", 'er "oui" und "non"'),
    "Turkish": ("\u0130stanbul'da KIRLANGI\u00c7", "i\u0307stanbul'da k\u0131rlang\u0131\u00e7"),
    "presentation forms": ("\ufedf\ufedc \ufef3\ufeee\ufee1", "\u0644\u06a9 \u06cc\u0648\u0645"),
    "Arabic and Persian letters": ("\u0643\u062a\u0627\u0628\u064a \u0665", "\u06a9\u062a\u0627\u0628\u06cc \u06f5"),
    "vowel points": ("כתב \u0643\u062a\u0628 \u0622", "כָּתַב \u0643\u064e\u062a\u064e\u0628\u064e \u0627\u0653"),
    "digits": ("12 \u0967\u0968", "\u0e51\u0e52 12"),
    "tatweel": ("\u0643\u062a\u0640\u0640\u0627\u0628", "\u0643\u062a\u0627\u0628"),
    "jamo": ("\ud55c\uae00", "\u1112\u1161\u11ab\u1100\u1173\u11af"),
    "fractions": ("2\u00bd cups", "2 1/2 cups"),
    "geresh": ("\u05e6\u05d4\u05f4\u05dc \u05d2\u05f3", "\u05e6\u05d4\"\u05dc \u05d2'"),
    "wave dash": ("10\u301c20", "10\uff5e20"),
    "inverted marks": ("\u00bfQu\u00e9 es\u00a0?", "Qu\u00e9 es?"),
    "ideographic": ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u4f60\u597d, \u4e16\u754c"),
    "arabic question mark": ("\u0645\u0627 \u0647\u0630\u0627\u061f", "\u0645\u0627 \u0647\u0630\u0627"),
    "danda": ("\u092f\u0939 \u0939\u0948\u0964", "\u092f\u0939 \u0939\u0948"),
    "emoji or text": ("\u2764\ufe0f red", "\u2764 red"),
    "case": ("STRASSE", "stra\u00dfe"),
    "controls": ("a\x00b", "ab"),
    "white space": ("a\u00a0b\u2003c\u3000d", "a b\nc\td"),
}
DIFFERENT = [
    ("C#", "C"), ("C++", "C"), (".NET", "NET"), ("1.5", "15"), ("1.5", "1,5"), ("10:30", "1030"), ("f(x)", "g(x)"),
    ("x-1", "x+1"), ("-1", "1"), ("5%", "5"), ("a/b", "ab"), ("it's", "its"), ("cd ..", "cd ."), ("cd .", "cd"),
    ("a ? b : c", "a b c"), ("...", "?"), ("", "."), ("10\u00b2", "102"), ("x = 1", "x \u2260 1"), ("\u00e9", "e"),
    ("\u732b\u3001\u72ac", "\u732b\u72ac"),
    ("what does ! do", "what does ? do"), ("2\u00bd cups", "21/2 cups"), ("f\u0303", "f"),
]  # fmt: skip


@pytest.mark.parametrize("form", SAME)
def test_one_text_in_two_forms(form):
    one, other = SAME[form]
    assert normalised(one) == normalised(other)
    assert normalised(normalised(one)) == normalised(one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_things_stay_different(one, other):
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\ufeff \u00ad", "\u3164", "\u2800", "\x00\x01"])
def test_nothing_to_read(text):
    assert normalised(text) == ""


LETTERS = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]


def test_no_character_is_overlooked():
    special = {letter for letter in LETTERS if unicodedata.category(letter) in {"Cf", "Pd", "Zs"}}
    assert {letter for letter in special if letter in folded(letter)} <= {"-", " "}
    assert {letter for letter in LETTERS if texts._replacement(ord(letter)) != letter} == texts._REPLACED.keys()


def by_the_book(text):
    """Folding without any short cut."""
    text = texts._IN_GUILLEMETS.sub(lambda found: found[1] or f"«{found[2]}»", text)
    text = "".join(texts._replacement(ord(letter)) or "" for letter in text)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = "".join(texts._replacement(ord(letter)) or "" for letter in text).replace("i\u0307", "i")
    return texts._AMID_IDEOGRAPHS.sub(" ", text)


@pytest.mark.parametrize("between", ["", " ", "é ", "e\u0301"])
def test_each_letter_is_folded_as_by_the_book(between):
    for start in range(0, len(LETTERS), 1000):
        text = between.join(LETTERS[start : start + 1000])
        assert folded(text) == by_the_book(text), f"from {start}"


PIECES = [*"aI \néß中", "\u0130", "\u0307", "\u0301", "\u200d", "\ufe0f", "\U000e0101", "\U0001f600"]


@given(st.lists(st.sampled_from([*PIECES, *"".join(map("".join, SAME.values()))]) | st.characters()).map("".join))
def test_texts_are_folded_as_by_the_book(text):
    assert folded(text) == by_the_book(text)
