"""Passages as models read them, and when two texts are the same: one rule for all stages."""

import re
import unicodedata
from itertools import repeat

from foils.languages import UNSPACED, is_unspaced, length

_ENDS = ".,;:!?"  # what only ends a word or a sentence
_ENDS_OF_ALL_SCRIPTS = _ENDS + "\u3001\u3002\u060c\u061b\u061f\u06d4\u0964\u0965\u0589\u1362\u17d4\u104a\u104b"
_SINGLE_QUOTES = "\u2018\u2019\u201a\u201b\u2039\u203a\u02b9\u02bb\u02bc\u2032\u2035\u05f3\u00b4"
_DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb\u02ba\u2033\u2036\u05f4\u301d\u301e\u301f"
_FRACTIONS = {0xBC: "1/4", 0xBD: "1/2", 0xBE: "3/4"}
_ZEROS = (0x660, 0x6F0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0x1040, 0x17E0)
"""Of Arabic, Persian, the scripts of India, Thai, Lao, Burmese and Khmer."""
_FULL_WIDTH = range(0xFF01, 0xFF5F)  # of "!" to "~"; NFKC takes far longer over them
_ONE_FORM = {
    **dict.fromkeys(map(ord, _SINGLE_QUOTES), "'"),
    **dict.fromkeys(map(ord, _DOUBLE_QUOTES), '"'),
    **{point: chr(point - _FULL_WIDTH[0] + ord("!")) for point in _FULL_WIDTH},
    **{ord(letter): f"^{digit}" for digit, letter in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},  # NFKC makes 102 of 10²
    **{zero + digit: str(digit) for zero in _ZEROS for digit in range(10)},
    **{point: f" {fraction}" for point, fraction in _FRACTIONS.items()},  # NFKC makes 21/2 of 2½
    **dict.fromkeys((0x2212, 0x2043), "-"),  # minus sign and hyphen bullet, dashes that are not of category Pd
    **dict.fromkeys((0x301C, 0x223C), "~"),  # of category Pd, and a tilde in some fonts and encodings
    **dict.fromkeys((0x2044, 0x2215), "/"),
    0x131: "i",  # the small letter of a Turkish "I", whose case cannot be told from that of other languages
    0x643: "\u06a9",
    0x64A: "\u06cc",  # Arabic and Persian kaf and yeh
    0x22EF: "...",
    0x2800: " ",  # an empty braille cell
    **dict.fromkeys(map(ord, "¿¡"), " "),  # many leave them out
}
# Neither controls nor formats, and yet not read: joiners, fillers of Hangul, selectors of variants, Arabic's tatweel.
_INVISIBLE = {0x34F, 0x640, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0}
_INVISIBLE |= {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
# Vowel points of Hebrew and Arabic, which most writers leave out; without those that are part of a letter (hamza).
_POINTS = (
    (0x591, 0x5BD), (0x5BF, 0x5BF), (0x5C1, 0x5C2), (0x5C4, 0x5C5), (0x5C7, 0x5C7), (0x610, 0x61A), (0x64B, 0x652),
    (0x656, 0x65F), (0x670, 0x670), (0x6D6, 0x6DC), (0x6DF, 0x6E4), (0x6E7, 0x6E8), (0x6EA, 0x6ED),
)  # fmt: skip
_INVISIBLE |= {point for first, last in _POINTS for point in range(first, last + 1)}
# Where such characters are; `tests/foils/test_texts.py` holds it against all of Unicode.
_PLACES = ((0, 0x3400), (0xA000, 0xAC00), (0xFB00, 0x11400), (0x13430, 0x13460), (0x1BC00, 0x1D200), (0xE0000, 0xE0200))
_IN_GUILLEMETS = re.compile("(»[^«»]*«)|«\\s*([^«»]*?)\\s*»")
_SPACED_MARK = re.compile(r"(?<=[^\W\d_]{2})\s+(?=[:;](?:\s|\Z)|[!?]+\s*(?:\Z|\s[^\sa-zà-ÿ]))")
"""White space before a mark that ends a clause, as in French; before a small letter the mark may be the subject."""
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_AMID_IDEOGRAPHS = re.compile("[.,;:!?。、]+(?=[\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff])")


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
_BEYOND_16_BITS = "\U00010000-\U0010ffff"  # whole: `re` is slow over a class with single characters among them
_SPECIAL = re.compile(f"[{''.join(re.escape(each) for each in _REPLACED if ord(each) < 2**16)}{_BEYOND_16_BITS}]")
QUOTE_WORDS, QUOTE_CHARACTERS = 3, 6
"""What a quote has at least; characters where no spaces stand between words."""
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
    if "«" in text:
        text = _IN_GUILLEMETS.sub(lambda found: found[1] or f"«{found[2]}»", text)
    text = _in_one_form(text)
    return text.casefold() if _PLAIN.fullmatch(text) else _composed(text)


def _in_one_form(text: str) -> str:
    return _SPECIAL.sub(lambda found: _REPLACED.get(found[0], found[0]) or "", text)


def _composed(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKC", text)  # case folding may decompose
    text = _in_one_form(text).replace("i\u0307", "i")  # what composing has brought, such as letters of Arabic
    return _AMID_IDEOGRAPHS.sub(" ", text)


def _is_plain(letter: str) -> bool:
    """Whether nothing but case is folded in a letter, whatever stands beside it."""
    return not unicodedata.combining(letter) and _composed(_in_one_form(letter)) == letter.casefold()


_LATIN_GREEK_CYRILLIC = map(chr, range(0x530))
_PLAIN = re.compile(f"[{''.join(map(re.escape, filter(_is_plain, _LATIN_GREEK_CYRILLIC)))}]*")


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
        closed = _SPACED_MARK.sub("", text)
        if closed != text:
            return normalised(closed)
        bare = [word or words[place] for place, word in enumerate(bare)]
    return " ".join(bare)


def is_quote(quote: str, passage: str) -> bool | None:
    """Whether a quote stands in a passage, word for word once both are `normalised`; None for one that says too little.

    A quote may leave out words where it has "...".

    >>> [is_quote(each, "At 24 degrees, dough rises.") for each in ("24 degrees dough", "dough rises slowly", "dough")]
    [True, False, None]
    """
    there = normalised(passage)
    fewest = min(QUOTE_CHARACTERS if is_unspaced(quote) else QUOTE_WORDS, length(passage))
    parts = [quote] if normalised(quote) in there else quote.replace("\u2026", "...").split("...")
    if any(length(part) < fewest for part in parts):
        return None
    apart = "" if is_unspaced(quote) else r"(?<!\w){}(?!\w)"
    return all(re.search((apart or "{}").format(re.escape(normalised(part))), there) for part in parts)


def overlap(query: str, passage: str, language: str) -> float:
    """The share of a query's content words whose stems stand in a passage, within 0 and 1; 0 for a query without any.

    In scripts without spaces each character counts.

    >>> overlap("how do owls hunt mice?", "The owl hunts at night.", "en")
    0.6666666666666666
    """
    from foils.stems import stemmer_of, stop_words_of  # slow to import, and most of what reads texts needs no stems

    stop_words, stemmer = stop_words_of(language), stemmer_of(language)
    asked, there = (_WORD.findall(folded(text)) for text in (query, passage))
    asked = [word for word in asked if word not in stop_words]
    if stemmer is not None:
        asked, there = stemmer.stemWords(asked), stemmer.stemWords(there)
    stems = {*asked}
    return len(stems & {*there}) / len(stems) if stems else 0.0
