"""Which script a text is written in."""

import re
import unicodedata
from collections import Counter

_ASCII_LETTER = re.compile(r"[A-Za-z]")
_SAME_SCRIPT = {"HIRAGANA": "HAN", "KATAKANA": "HAN", "CJK": "HAN", "HALFWIDTH": "HAN", "FULLWIDTH": "LATIN"}


def script(text: str) -> str:
    """The script that most letters of a text are in, as Unicode names it; that of Japan is one with Han.

    >>> script("Привет, world"), script("how?"), script("42"), script("フクロウは") == script("梟")
    ('CYRILLIC', 'LATIN', '', True)
    """
    if text.isascii():  # by far the most frequent case, and this is looked at for every answer
        return "LATIN" if _ASCII_LETTER.search(text) else ""
    scripts: Counter[str] = Counter()
    for letter, times in Counter(text).items():
        if letter.isalpha():
            name = unicodedata.name(letter, "").partition(" ")[0]
            scripts[_SAME_SCRIPT.get(name, name)] += times
    return scripts.most_common(1)[0][0] if scripts else ""
