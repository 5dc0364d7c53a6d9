"""The sentences of a written passage: where they end, and where a small model begins to repeat itself."""

import re

from builders.prompts import CHARACTERS
from foils.languages import is_unspaced, length
from foils.texts import normalised

_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019\u00bb)\]]*(?=\s|\Z)|"
    r"[\u3002\uff01\uff1f\uff61\u061f\u06d4\u0589\u0964\u0965\u1362\u1367\u17d4\u17d5\u104b\u0f0d]+[\u300d\u300f\u201d]*"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'\u201e\u201c])(?:[^\W\d_]|(?:[^\W\d_]\.\s?)+[^\W\d_]{1,2}|"
    r"dr|mr|mrs|ms|prof|st|sr|jr|rev|hon|gen|col|capt|lt|sgt|gov|sen|rep|vs|etc|cf|ca|al|inc|ltd|co|corp|dept|est|fig|"
    r"figs|eq|eqs|no|nos|nr|vol|vols|pp?|ed|eds|approx|viz|resp|ibid|bzw|usw|evtl|ggf|vgl|abb|abs|bd|hr|fr|frau|str|tel|"
    r"inkl|sog|mio|mrd|geb|gest|mme|mlle|mm|art|env|chap|n[or]s?|sra?|srta|dra?|ud|uds|pág|núm|sig|dott|ing|avv|pag|"
    r"cap|exmo|dhr|mevr|bijv|enz|jan|feb|mar|apr|jun|jul|aug|sept?|oct|okt|nov|dec|dez)\.\Z",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<!\S)\d{1,2}\.\Z")
_FEWEST_WORDS = 3
"""A shorter sentence may well stand twice in a passage, unless it follows itself."""


def tidy(text: str, *, is_cut: bool) -> str:
    """A passage up to its last whole sentence, if it was cut, or to where it began to repeat itself.

    >>> tidy("Dr. Lee saw owls. Dr. Lee saw bats. They saw Dr.", is_cut=True)
    'Dr. Lee saw owls. Dr. Lee saw bats.'
    >>> tidy("梟は夜に狩る。鼠は昼に眠る。梟は夜に狩る。鼠は", is_cut=True)
    '梟は夜に狩る。鼠は昼に眠る。'
    """
    found = sentences(text)
    if is_cut and found and not _ends(found[-1].rstrip()):
        last = found.pop()
        if not found and is_unspaced(last):  # Thai sentences end in a space
            found = [last.rstrip().rpartition(" ")[0]]
    return up_to_repetition(found).strip()


def up_to_repetition(found: list[str]) -> str:
    """Joins sentences until nothing but earlier ones follows: small models loop, and poems have refrains.

    >>> up_to_repetition(sentences("A list holds items. It grows. A list holds items. It grows."))
    'A list holds items. It grows. '
    >>> up_to_repetition(sentences("Row the boat. Gently. Row the boat. Merrily."))
    'Row the boat. Gently. Row the boat. Merrily.'
    """
    said = list(map(normalised, found))
    is_begun = any(each.startswith(said[-1]) for each in said[:-1])  # the last one may be unfinished
    new = [place for place, each in enumerate(said[: len(said) - is_begun]) if each not in said[:place]]
    for place in range(new[-1] + 1 if new else 0, len(said)):
        fewest = _FEWEST_WORDS * (CHARACTERS[0] if is_unspaced(said[place]) else 1)
        if length(said[place]) >= fewest or said[place] == said[place - 1]:
            return "".join(found[:place])
    return "".join(found)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with the white space behind it.

    >>> sentences("He met Dr. Lee, e.g. in the U.S. Army. When? z. B. 1990!")
    ['He met Dr. Lee, e.g. in the U.S. Army. ', 'When? ', 'z. B. 1990!']
    """
    found, start = [], 0
    for end in _END.finditer(text):
        so_far = text[start : end.end()]
        if end[0] == "." and (not _ends(so_far) or _NUMBER.search(so_far)):  # an ordinal, or an item of a list
            continue
        stop = end.end() + len(text[end.end() :]) - len(text[end.end() :].lstrip())
        found.append(text[start:stop])
        start = stop
    return [*found, text[start:]] if text[start:] else found


def _ends(text: str) -> bool:
    """Whether a sentence ends where a text ends: not behind an abbreviation or an initial."""
    ends = [end for end in _END.finditer(text) if end.end() == len(text)]
    return bool(ends) and not (ends[0][0] == "." and _ABBREVIATION.search(text))
