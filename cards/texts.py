"""Passages as models read them, and when two texts are the same: one rule for all stages."""

import re
import unicodedata
from itertools import repeat

_ENDS = ".,;:!?"  # what only ends a word or a sentence
_ENDS_OF_ALL_SCRIPTS = _ENDS + "\u3001\u3002\u060c\u061b\u061f\u06d4\u0964\u0965\u0589\u1362\u17d4\u104a\u104b"
_SINGLE_QUOTES = "\u2018\u2019\u201a\u201b\u2039\u203a\u02bc\u2032\u00b4"
_DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u301d\u301e\u301f"
_FULL_WIDTH = range(0xFF01, 0xFF5F)  # of "!" to "~"; NFKC takes far longer over them
_ONE_FORM = {
    **dict.fromkeys(map(ord, _SINGLE_QUOTES), "'"),
    **dict.fromkeys(map(ord, _DOUBLE_QUOTES), '"'),
    **{point: chr(point - _FULL_WIDTH[0] + ord("!")) for point in _FULL_WIDTH},
    **{ord(letter): f"^{digit}" for digit, letter in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},  # NFKC makes 102 of 10²
    0x2212: "-",  # the minus sign, the one dash that is not of category Pd
    0x2800: " ",  # an empty braille cell
    **dict.fromkeys(map(ord, "¿¡"), " "),  # many leave them out
}
# Invisible, and yet neither controls nor formats: joiners, fillers of Hangul, selectors of variants.
_INVISIBLE = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0}
_INVISIBLE |= {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
# Where such characters are; `tests/cards/test_texts.py` holds it against all of Unicode.
_PLACES = ((0, 0x3400), (0xA000, 0xAC00), (0xFB00, 0x11400), (0x13430, 0x13460), (0x1BC00, 0x1D200), (0xE0000, 0xE0200))
_FRENCH_SPACES = re.compile("[\u00a0\u202f](?=[!?;:»])|(?<=«)[\u00a0\u202f]")
_AMID_IDEOGRAPHS = re.compile("[.,;:!?。、]+(?=[\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff])")
_FIRST_IDEOGRAPH = "\u3000"


def _replacement(point: int) -> str | None:
    """What stands for a character before letters are composed: mostly itself; None for nothing at all."""
    letter = chr(point)
    if point in _ONE_FORM:
        return _ONE_FORM[point]
    if letter.isspace():
        return " "
    category = unicodedata.category(letter)
    if category in {"Cc", "Cf"} or point in _INVISIBLE:
        return None
    return "-" if category == "Pd" else letter


_ASCII = {point: (_replacement(point) or "").lower() for point in range(128)}
_REPLACED = {
    chr(point): found for place in _PLACES for point in range(*place) if (found := _replacement(point)) != chr(point)
}
_SPECIAL = frozenset(_REPLACED)
INVISIBLE = frozenset(letter for letter, found in _REPLACED.items() if found is None and not letter.isascii())
"""Characters that no reader sees; without those in ASCII."""


def passage_text(title: str | None, text: str) -> str:
    """A passage as models read it: title, a space, text, as MTEB joins them.

    >>> passage_text("json.dumps", "Serialize obj."), passage_text(None, "text")
    ('json.dumps Serialize obj.', 'text')
    """
    return f"{title or ''} {text}".strip()


def folded(text: str) -> str:
    r"""A text with one form for all characters that a reader cannot tell apart; its white space is spaces.

    Case is folded, letters are composed (NFKC), invisible characters are gone; quotes and dashes have one form each.

    >>> folded("\u201cRE\u00adSUME\u0301\u201d \u2013 \uff11 \ufb01n")
    '"resumé" - 1 fin'
    """
    if text.isascii():
        return text.translate(_ASCII)
    if "\u00a0" in text or "\u202f" in text:
        text = _FRENCH_SPACES.sub("", text)
    letters = set(text)
    special = letters & _SPECIAL
    if special:
        text = text.translate({ord(letter): _REPLACED[letter] for letter in special})
    text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKC", text)  # case folding may decompose
    return _AMID_IDEOGRAPHS.sub(" ", text) if max(letters) > _FIRST_IDEOGRAPH else text


def normalised(text: str) -> str:
    r"""What two texts share when a reader would call them the same; empty where there is nothing to read.

    Beyond what is `folded`, white space counts once, and punctuation at a word's end does not count. Within a word it
    does, and so does what stands alone.

    >>> normalised("  A\u200b  Passage, it\u2019s: C#... ")
    "a passage it's c#"
    >>> normalised("1.5"), normalised("x+1"), normalised("?!")
    ('1.5', 'x+1', '?!')
    """
    words = folded(text).split()
    bare = [*map(str.rstrip, words, repeat(_ENDS if text.isascii() else _ENDS_OF_ALL_SCRIPTS))]
    if not all(bare):  # punctuation that stands alone
        bare = [word or words[place] for place, word in enumerate(bare)]
    return " ".join(bare)
