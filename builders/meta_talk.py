"""The phrases by which an answer speaks of itself, of its task or to its reader; they are data, `meta_talk.toml`.

They are matched against `folded` texts. A phrase that the corpus itself uses gives nothing away: `written_checks`
leaves those out for negatives, `queries` those of the query's own passage.
"""

import re
import tomllib
from collections.abc import Collection, Iterable
from functools import cached_property, lru_cache
from pathlib import Path

from foils.texts import folded as one_form

_FILE = Path(__file__).with_suffix(".toml")
_START = r"(?:^|(?<=[.!?:] ))"  # of a sentence
_FRONTS = (_START, "^", r"\b", "")
_OPENING = 200  # characters


class Phrases:
    """Phrases that a text can be searched for at once.

    Args:
        each: the phrases as regular expressions, for `folded` texts.
        simpler: phrases one of which is in any text that has one of `each`; they are looked for first.

    Attributes:
        each: as given.
    """

    def __init__(self, each: Iterable[str], simpler: Iterable[str] = ()) -> None:
        self.each = tuple(each)
        self.simpler = tuple(simpler) or self.each

    @cached_property
    def _any(self) -> re.Pattern[str]:
        return re.compile(_joined(self.simpler) or r"(?!)")

    def used_in(self, text: str) -> list[str]:
        """The phrases that a text uses."""
        plain = folded(text)
        return [phrase for phrase in self.each if re.search(phrase, plain)] if self._any.search(plain) else []


NONE = Phrases(())


@lru_cache(maxsize=32)
def phrases(language: str) -> Phrases:
    """All phrases in a language; English ones always, since LLMs fall back on it.

    >>> len(phrases("de").used_in("Sure! Here is a passage about owls."))
    1
    """
    declining, talk = refusals(language), _listed("talk", {"en", language})
    return Phrases([*declining.each, *talk], [*declining.simpler, *talk])


@lru_cache(maxsize=32)
def refusals(language: str) -> Phrases:
    """The phrases of an LLM that declines, asks back or thinks aloud, in a language and in English.

    The last one holds the phrases of all other languages, near the start of a text: an LLM may fall back on any.

    >>> [len(refusals(code).used_in(f"I cannot {rest}")) for code, rest in (("de", "fulfil this."), ("en", "log in"))]
    [1, 0]
    """
    own = _listed("refusals", {"en", language})
    elsewhere = _listed("refusals", _phrases().keys() - {"en", language})
    return Phrases([*own, rf"\A(?s:.{{0,{_OPENING}}}?)(?:{_joined(elsewhere)})"], [*own, *elsewhere])


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
    found = [phrase for code, kinds in _phrases().items() if code in languages for phrase in kinds.get(kind, [])]
    return [phrase.replace("{start}", _START) for phrase in found]


def _joined(listed: Iterable[str]) -> str:
    """One pattern for all phrases: where several may begin is looked for once, which takes a fifth of the time."""
    rests: dict[str, list[str]] = {front: [] for front in _FRONTS}
    for phrase in listed:
        front = next(filter(phrase.startswith, _FRONTS))
        rests[front].append(phrase.removeprefix(front))
    return "|".join(f"{front}(?:{'|'.join(those)})" for front, those in rests.items() if those)
