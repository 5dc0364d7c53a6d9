"""Stemmers and stop words by language."""

from bm25s import stopwords

from foils.errors import UserError

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
# Splitting at what is no letter, digit or underscore tells no words apart here: they are written without spaces, in
# one word with their particles, or with vowel signs that are no letters to Python.
NOT_SPLIT = ("hi", "ja", "km", "ko", "lo", "my", "ne", "ta", "th", "zh")


def check_language(language: str) -> None:
    """Refuses a language that BM25 cannot serve.

    Raises:
        UserError: its words cannot be split, or there is no stemmer for it.
    """
    allowed = f"allowed: {', '.join(STEMMERS)}"
    if language in NOT_SPLIT:
        raise UserError(f"corpus.language {language!r}: BM25 cannot tell this language's words apart; {allowed}")
    if language not in STEMMERS:
        raise UserError(f"corpus.language {language!r}: BM25 has no stemmer for it; {allowed}")
