"""The script and the language that a text is written in."""

import logging
import re
import unicodedata
from collections import Counter
from functools import cache, lru_cache

import pyarrow as pa

from builders.corpus import sample
from builders.passages import Passages

logger = logging.getLogger(__name__)

SCRIPTS = {
    "ar": ("ARABIC",),
    "el": ("GREEK",),
    "hy": ("ARMENIAN",),
    "ru": ("CYRILLIC",),
    "sr": ("CYRILLIC", "LATIN"),
    "yi": ("HEBREW",),
}
"""Of languages that are not written in Latin letters."""
LANGUAGE_WORDS = 20
"""Shorter texts say too little about their language."""
LEAST_STOP_WORDS = 0.05
OTHER_LANGUAGE = 1.5
SAMPLED = 200
_WORD = re.compile(r"[^\W\d_]+")
_ASCII_LETTER = re.compile(r"[A-Za-z]")
_SAME_SCRIPT = {"HIRAGANA": "HAN", "KATAKANA": "HAN", "CJK": "HAN", "HALFWIDTH": "HAN", "FULLWIDTH": "LATIN"}


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


def is_in(text: str, language: str) -> bool:
    """Whether a text may be in a language: false only if its stop words clearly speak for another one, or are missing.

    >>> german = "der Igel schläft im Winter in einem Nest aus Laub und wacht nur auf, wenn es ihm dort zu kalt wird"
    >>> is_in(german, "de"), is_in(german, "en"), is_in("zu kurz", "en")
    (True, False, True)
    """
    words = _WORD.findall(text.casefold())
    if len(words) < LANGUAGE_WORDS or language not in stop_words():
        return True
    shares = {code: sum(word in listed for word in words) / len(words) for code, listed in _ordered(language)}
    own = shares.pop(language)
    return own >= LEAST_STOP_WORDS and max(shares.values()) <= OTHER_LANGUAGE * own


def warn_of_language(passages: pa.Table, language: str, seed: int) -> None:
    """Warns if most passages seem to be in another language than the recipe's, which may be its default."""
    texts = [text for batch in Passages(sample(passages, SAMPLED, seed)).batches() for text in batch.to_pylist()]
    own = {"", *SCRIPTS.get(language, ("LATIN",))}
    others = sum(script(text) not in own or not is_in(text, language) for text in texts)
    if others > len(texts) / 2:
        logger.warning(
            "corpus.language %r: %d of %d passages seem to be in another; set it to theirs: BM25, prompts, checks and "
            "card go by it",
            language,
            others,
            len(texts),
        )


@cache
def stop_words() -> dict[str, frozenset[str]]:
    """Language -> its most frequent words."""
    from builders.retrieval.bm25.languages import STOP_WORDS  # loads bm25s: reading a recipe need not wait for it

    return {language: frozenset(words) for language, words in STOP_WORDS.items()}


@lru_cache(maxsize=16)
def _ordered(language: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Stop-word lists to compare with: this language's, and those that share fewer than half of its words."""
    own = stop_words()[language]
    return tuple(
        (code, listed)
        for code, listed in stop_words().items()
        if code == language or len(own & listed) < 0.5 * min(len(own), len(listed))
    )
