"""Stemmers and stop words by language."""

import logging

from bm25s import stopwords

from foils.errors import UserError

logger = logging.getLogger(__name__)

# Two-letter code -> Snowball stemmer.
STEMMERS = {
    "ar": "arabic",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "tr": "turkish",
    "yi": "yiddish",
}
# bm25s's short English list keeps "how", "do" and "you": one chatty passage would be the best hit of most questions.
# For a language that is not here bm25s has no list; BM25's weights alone make its frequent words count little.
STOP_WORDS: dict[str, tuple[str, ...]] = {
    "da": stopwords.STOPWORDS_DANISH,
    "de": stopwords.STOPWORDS_GERMAN,
    "en": stopwords.STOPWORDS_EN_PLUS,
    "es": stopwords.STOPWORDS_SPANISH,
    "fr": stopwords.STOPWORDS_FRENCH,
    "it": stopwords.STOPWORDS_ITALIAN,
    "nl": stopwords.STOPWORDS_DUTCH,
    "no": stopwords.STOPWORDS_NORWEGIAN,
    "pt": stopwords.STOPWORDS_PORTUGUESE,
    "ru": stopwords.STOPWORDS_RUSSIAN,
    "sv": stopwords.STOPWORDS_SWEDISH,
    "tr": stopwords.STOPWORDS_TURKISH,
}
# bm25s has no stemmer for these, and their words are written apart: they are searched unstemmed.
UNSTEMMED = ("bg", "bs", "cs", "fa", "he", "hr", "is", "lv", "mk", "pl", "sk", "sl", "sq", "uk", "ur", "vi")
# Their words cannot be told apart by what is no letter, digit or underscore: they are written without spaces, in one
# word with their particles, or with vowel signs that Python does not count as letters.
NOT_SPLIT = ("hi", "ja", "km", "ko", "lo", "my", "ne", "ta", "th", "zh")


def check_language(language: str) -> None:
    """Refuses a language that BM25 cannot serve, and says where its words are not stemmed.

    Raises:
        UserError: its words cannot be split, or the code is not known.
    """
    if language in NOT_SPLIT:
        raise UserError(
            f"corpus.language {language!r}: BM25 cannot split this language into words; take the kind dense, "
            'pool_from = ["dense"] and queries.round_trip_model in its place'
        )
    if language in UNSTEMMED:
        logger.warning("corpus.language %r: BM25 has no stemmer for it and compares words as they are", language)
    elif language not in STEMMERS:
        allowed = ", ".join(sorted({*STEMMERS, *UNSTEMMED}))
        raise UserError(f"corpus.language {language!r}: BM25 does not know it; allowed: {allowed}")
