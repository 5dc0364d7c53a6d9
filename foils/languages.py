"""Languages: their codes and English names, which one a text is in, and how long a text is in its script."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foils.errors import UserError

_OTHER_CODES = {
    "alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces", "dut": "nld", "fre": "fra",
    "geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl", "mac": "mkd", "mao": "mri", "may": "msa", "per": "fas",
    "rum": "ron", "slo": "slk", "tib": "bod", "wel": "cym", "iw": "heb", "in": "ind", "ji": "yid",
}  # fmt: skip
"""Those that libraries use, and those that ISO 639-1 has replaced."""
UNDETERMINED = "zxx"
"""What the detector calls code, numbers and tables: there is no language in them."""
LIKELY = 0.5
"""Less probable than this, the best guess is none: names and product codes seem to be Luxembourgish, at .1."""
UNLIKELY = 0.01
"""Less probable than this beside a better guess, a language is not that of a text."""
FEWEST_LETTERS = 60
"""Shorter texts say too little about their language. A character of a script without spaces counts as three."""
READ = 600
"""Characters of a text from which its language is read."""
_ASCII_LETTER = re.compile(r"[A-Za-z]")
_SAME_SCRIPT = {"HIRAGANA": "HAN", "KATAKANA": "HAN", "CJK": "HAN", "HALFWIDTH": "HAN", "FULLWIDTH": "LATIN"}
# Thai, Lao, Myanmar, Khmer, Tai, kana, ideographs: no spaces stand between their words.
UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0edf\u1000-\u1049\u1050-\u109d\u1780-\u17d3"
    "\u1950-\u19da\u1a20-\u1a99"
    "\u3005-\u3007\u3041-\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua9e0-\ua9fe\uaa60-\uaa76\uaa7a-\uaa7f\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_UNSPACED = re.compile(f"[{UNSPACED}]")
_UNIT = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def code_of(tag: str, key: str) -> str:
    """The shortest ISO 639 code of a language tag; region and script do not count.

    Args:
        tag: as BCP 47 has it; its language is of ISO 639-1 or 639-3.
        key: of the recipe, for the error.

    >>> [code_of(tag, "corpus.language") for tag in ("deu", "ger", "pt-BR", "zh-Hant", "hsb")]
    ['de', 'de', 'pt', 'zh', 'hsb']

    Raises:
        UserError: the language is not known.
    """
    found = re.fullmatch(r"([a-z]{2,3})([-_][a-z0-9]{2,8})*", tag.strip().lower())
    two_letters, names = _tables()
    three = found and (_OTHER_CODES | two_letters).get(found[1], found[1])
    if three not in names:
        raise UserError(
            f"recipe: {key} {tag!r}: not a language code; wanted one of ISO 639, such as en or deu, or with a region "
            "(pt-BR); leave the key out to have the language detected"
        )
    return next((two for two, each in two_letters.items() if each == three), str(three))


def english_name(code: str) -> str:
    """What a language is called in English.

    >>> english_name("el"), english_name("sw")
    ('Greek', 'Swahili')
    """
    return re.sub(r"^Modern | \(.*\)", "", _tables()[1][three_letters(code)])


def three_letters(code: str) -> str:
    """The ISO 639-3 code of a language."""
    return _tables()[0].get(code, code)


@cache
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    """Two-letter codes with those of three letters, and these with their names, from mteb's files.

    They are read as files: to import mteb takes seconds.
    """
    spec = find_spec("mteb")
    folder = Path(str(spec and spec.origin)).parent / "languages"
    files = (folder / f"{name}.json" for name in ("iso_639_1_to_3", "iso_639_3_to_language"))
    two_letters, names = (json.loads(file.read_text("utf-8")) for file in files)
    return two_letters, names


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # reading a recipe need not wait for it

    detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # Tables under English titles are taken for Pidgin, and Hebrew with its vowels for that of the Bible.
    detector.set_languages([each for each in detector.labels if each == UNDETERMINED or len(each) == len("en")])
    return detector


def detects(code: str) -> bool:
    """Whether a language is among those that are detected."""
    return bool(code in _detector().nb_classes)


def is_in(text: str, code: str) -> bool:
    """Whether a text may be in a language: false only where another one is far more probable.

    >>> german = "Der Igel schläft im Winter in einem Nest aus Laub und wacht nur auf, wenn es ihm dort zu kalt wird."
    >>> is_in(german, "de"), is_in(german, "en"), is_in("zu kurz", "en")
    (True, False, True)
    """
    if letters(text) < FEWEST_LETTERS or not detects(code):
        return True
    ranked = dict(_detector().rank(text[:READ]))
    return bool(ranked[code] >= UNLIKELY) or max(ranked, key=lambda each: ranked[each]) == UNDETERMINED


def detected(texts: Iterable[str]) -> dict[str, float]:
    """The languages of texts with their shares, the most frequent first; empty where there is nothing to read.

    >>> list(detected(["Der Igel schläft im Winter", "in einem Nest aus Laub und wacht selten auf."]))
    ['de']
    """
    found: Counter[str] = Counter()
    waiting, count = "", 0
    for text in (*texts, None):
        waiting += f" {text[:READ]}" if text else ""
        count += letters(text or "")
        if count >= (1 if text is None and not found else FEWEST_LETTERS):
            best, chance = _detector().classify(waiting)
            found[best if chance >= LIKELY else UNDETERMINED] += 1
            waiting, count = "", 0
    del found[UNDETERMINED]
    return {code: times / found.total() for code, times in found.most_common()}


def letters(text: str) -> int:
    """How many letters the beginning of a text has; one of a script without spaces counts as three."""
    read = text[:READ]
    return sum(map(str.isalpha, read)) + 2 * len(_UNSPACED.findall(read)) * (not read.isascii())


def script(text: str) -> str:
    """The script of most letters of a text, as Unicode names it; Japanese counts as Han.

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


def length(text: str) -> int:
    """How long a text is in words; where no spaces stand between words, each character counts.

    >>> length("how do owls hunt?"), length("フクロウはいつ鳴くか"), length("PostgreSQL 16 の設定")
    (4, 10, 5)
    """
    if text.isascii() or not _UNSPACED.search(text):
        return len(text.split())
    return len(_UNIT.findall(text))


def is_unspaced(text: str) -> bool:
    """Whether most of a text's length is in characters of scripts without spaces."""
    return not text.isascii() and 2 * len(_UNSPACED.findall(text)) > length(text)
