"""The phrases by which an answer speaks of itself, of its task or to its reader; they are data, `meta_talk.toml`.

They are matched against `folded` texts. A phrase that the corpus itself uses gives nothing away: `written_checks`
leaves those out for negatives, `queries` those of the query's own passage.
"""

import re
import tomllib
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path

from foils.texts import folded as one_form

_FILE = Path(__file__).with_suffix(".toml")
_START = r"(?:^|(?<=[.!?:] ))"  # of a sentence
_OPENING = 200  # characters


def phrases(language: str) -> tuple[re.Pattern[str], ...]:
    """All phrases in a language; English ones always, since LLMs fall back on it.

    >>> any(phrase.search("sure! here is a passage about owls.") for phrase in phrases("de"))
    True
    """
    return (*refusals(language), *_compiled(_listed("talk", {"en", language})))


@lru_cache(maxsize=32)
def refusals(language: str) -> tuple[re.Pattern[str], ...]:
    """The phrases of an LLM that declines, asks back or thinks aloud, in a language and in English.

    The last pattern holds the phrases of all other languages, near the start of a text: an LLM may fall back on any.

    >>> uses("I cannot fulfil this request.", refusals("de")), uses("i cannot log in", refusals("en"))
    (True, False)
    """
    own = {"en", language}
    elsewhere = "|".join(_listed("refusals", _phrases().keys() - own))
    # No phrase begins within a word: to try them there too would take four times as long.
    return _compiled([*_listed("refusals", own), rf"\A(?s:.{{0,{_OPENING}}}?)(?:(?<![a-z])|(?![a-z]))(?:{elsewhere})"])


def uses(text: str, listed: Iterable[re.Pattern[str]]) -> bool:
    """Whether a text uses one of some phrases."""
    plain = folded(text)
    return any(phrase.search(plain) for phrase in listed)


def folded(text: str) -> str:
    """A text as the phrases expect it: in one form, with its punctuation.

    >>> folded("This  passage doesn\u2019t answer")
    "this passage doesn't answer"
    """
    return " ".join(one_form(text).split())


@lru_cache(maxsize=1)
def _phrases() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(_FILE.read_text("utf-8"))


def _listed(kind: str, languages: Collection[str]) -> list[str]:
    return [phrase for code, kinds in _phrases().items() if code in languages for phrase in kinds.get(kind, [])]


def _compiled(listed: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(phrase.replace("{start}", _START)) for phrase in listed)
