"""Stemmers and stop words by language, as far as Snowball and bm25s have them."""

from typing import Any

import Stemmer
from bm25s import stopwords

from foils.languages import english_name


def stemmer_of(language: str) -> Any:
    """The Snowball stemmer of a language; None where there is none, so that words are compared as they are.

    >>> stemmer_of("nb").stemWord("ugler"), stemmer_of("vi")
    ('ugl', None)
    """
    names = {*english_name(language).lower().split()}.intersection(Stemmer.algorithms())  # "Norwegian Bokmål"
    return Stemmer.Stemmer(names.pop()) if names else None


def stop_words_of(language: str) -> tuple[str, ...]:
    """The most frequent words of a language; empty where bm25s has none: by BM25's weights they count little.

    >>> "the" in stop_words_of("en"), "und" in stop_words_of("de"), stop_words_of("pl")
    (True, True, ())
    """
    name = english_name(language).upper().partition(" ")[0]
    if language == "en":
        # The short list keeps "how", "do" and "you": one chatty passage would be the best hit of most questions.
        name = "EN_PLUS"
    found: tuple[str, ...] = getattr(stopwords, f"STOPWORDS_{name}", ())
    return found
