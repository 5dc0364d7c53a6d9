"""Checks on passages that an LLM wrote as negatives: none that a reader, or a model, would know at a glance.

    manner = manner_of(material.corpus.table, material.language, material.seed, config.checks, config.max_tokens)
    reason = reject(text, positive, manner, config.checks)

The LLM of kind `llm` never sees the corpus. These checks do: they compare what it has answered with the query's own
passage and with figures over the corpus. That changes no request; an answer that fails is asked for again, as any other
that cannot be used. Each check can be switched off.
"""

import logging
import re
from collections import Counter
from functools import cache, lru_cache
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from msgspec import Meta, Struct

from builders.corpus import sample
from builders.meta_talk import folded, phrases, uses
from builders.passages import Passages
from builders.texts import Shingles, containment, shingles, similarity
from builders.writing_systems import script

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
SAMPLED = 2000
"""Passages that stand for the corpus."""
LANGUAGE_WORDS = 20  # shorter texts say too little about their language
LEAST_STOP_WORDS = 0.05
OTHER_LANGUAGE = 1.5
USED_BY_CORPUS = 0.005
MIXED_CORPUS = 0.05
_WORD = re.compile(r"[^\W\d_]+")
_RULE = re.compile(r"\s*[-*_=\u2014]*\s*")
_ROOM_FOR_SHORT = 8
_ROOM_FOR_LONG = 2


class WrittenChecks(Struct, frozen=True, forbid_unknown_fields=True):
    """What a written negative must not be. One that is, is asked for again, and dropped after the last attempt.

    Attributes:
        near_copy: texts that share so large a part of their word triples (Jaccard similarity) are copies of each other.
        quoted: so are two of which one holds so large a part of the other's word triples.
        positive: compares with the query's own passage; false keeps `llm` wholly apart from the corpus's texts.
        max_repeats: queries that may have the very same text as a negative; 0 = any number.
        shortest: an answer has at least this share of the words of a short passage (the corpus's 5th percentile); no
            more than an eighth of `max_tokens` is ever asked for, since a few sentences are not a long document.
        longest: and at most this many times the words of a long passage (99th percentile), or half of `max_tokens`
            where that is more; 0 = any length.
        language: the corpus's script, and its language by the share of stop words in answers of 20 words or more.
        meta_talk: refuses phrases such as "hard negative", "Sure, here is", "This passage does not answer".
    """

    near_copy: Annotated[float, Meta(gt=0, le=1)] = 0.6
    quoted: Annotated[float, Meta(gt=0, le=1)] = 0.8
    positive: bool = True
    max_repeats: Annotated[int, Meta(ge=0)] = 3
    shortest: Annotated[float, Meta(ge=0)] = 0.25
    longest: Annotated[float, Meta(ge=0)] = 2.0
    language: bool = True
    meta_talk: bool = True


class Manner(NamedTuple):
    """How the corpus's passages are written, as far as answers must be like them.

    Attributes:
        fewest: words of an answer.
        most: words of an answer; 0 = any number.
        script: as `writing_systems.script` names it; empty = any.
        language: two-letter code; empty = any.
        told_by: phrases by which a text speaks of itself, without those that the corpus uses.
    """

    fewest: int = 0
    most: int = 0
    script: str = ""
    language: str = ""
    told_by: tuple[re.Pattern[str], ...] = ()


def manner_of(passages: pa.Table, language: str, seed: int, checks: WrittenChecks, max_tokens: int) -> Manner:
    """How a corpus is written, from a seeded sample of it.

    A rule that the corpus itself breaks is not applied: a phrase that more than one passage in 200 uses gives nothing
    away, and a corpus of which more than one passage in 20 is in another script or language is not held to its own.

    Args:
        passages: `schema.CORPUS`.
        language: two-letter code.
        seed: the recipe's.
        checks: which of them are made.
        max_tokens: of one answer.
    """
    sampled = Passages(sample(passages, SAMPLED, seed))
    texts = [text for batch in sampled.batches() for text in batch.to_pylist()]
    words = np.array([len(text.split()) for text in texts])
    short, long = np.percentile(words, [5, 99])
    fewest = min(int(checks.shortest * short), max_tokens // _ROOM_FOR_SHORT)
    most = max(int(checks.longest * long), max_tokens // _ROOM_FOR_LONG) if checks.longest else 0
    told_by = _not_used_by(sampled.table["text"].to_pylist(), phrases(language)) if checks.meta_talk else ()
    if not checks.language:
        return Manner(fewest, most, told_by=told_by)
    scripts = Counter(script(text) for text in texts)
    without_letters = scripts.pop("", 0)
    main, times = scripts.most_common(1)[0] if scripts else ("", 0)
    foreign = sum(not is_in(text, language) for text in texts)
    some = MIXED_CORPUS * len(texts)
    return Manner(
        fewest,
        most,
        main if len(texts) - without_letters - times <= some else "",
        language if foreign <= some else "",
        told_by,
    )


def lifted(manner: Manner, language: str, checks: WrittenChecks) -> list[str]:
    """The checks that were wanted and are not made, because the corpus itself would not pass them."""
    found = []
    if checks.language:
        found = [name for name, value in (("script", manner.script), ("language", manner.language)) if not value]
    phrased = len(phrases(language)) - len(manner.told_by) if checks.meta_talk else 0
    return [*found, *([f"{phrased} of {len(phrases(language))} phrases of meta-talk"] if phrased else [])]


def _not_used_by(texts: list[str], told_by: tuple[re.Pattern[str], ...]) -> tuple[re.Pattern[str], ...]:
    plain, few = [folded(text) for text in texts], USED_BY_CORPUS * len(texts)
    return tuple(phrase for phrase in told_by if sum(phrase.search(text) is not None for text in plain) <= few)


def reject(text: str, positive: str, manner: Manner, checks: WrittenChecks) -> str | None:
    """Why a written negative gives itself away, or None.

    Args:
        text: of the negative.
        positive: the passage that answers the query; empty = none to compare with.
        manner: the corpus's.
        checks: limits.

    >>> reject("Sure, here is one: owls hunt at dusk.", "", Manner(told_by=phrases("en")), WrittenChecks())
    'meta-talk'
    """
    words = len(text.split())
    if words < manner.fewest:
        return "too-short"
    if manner.most and words > manner.most:
        return "too-long"
    if uses(text, manner.told_by):
        return "meta-talk"
    if positive and checks.positive and are_copies(shingles(text), shingles(positive), checks):
        return "positive-copy"
    return _foreign(text, manner)


def without_talk(text: str, manner: Manner) -> str:
    """A passage without the lines before and behind it that speak of the task, and not of its subject.

    >>> lines = ["Sure! Here is a passage:", "Owls hunt at night.", "I hope this helps!"]
    >>> without_talk(chr(10).join(lines), Manner(told_by=phrases("en")))
    'Owls hunt at night.'
    """
    lines = text.strip().splitlines()
    for at in (0, -1):
        while len(lines) > 1 and (_RULE.fullmatch(lines[at]) or uses(lines[at], manner.told_by)):
            del lines[at]
    return "\n".join(lines).strip()


def _foreign(text: str, manner: Manner) -> str | None:
    if manner.script and script(text) not in {"", manner.script}:
        return "other-script"
    return "other-language" if manner.language and not is_in(text, manner.language) else None


def reject_beside(text: str, others: list[Shingles], checks: WrittenChecks) -> str | None:
    """Why a written negative cannot stand beside others of the same query, or None: it is one of them, or nearly."""
    own = shingles(text)
    return "near-copy" if any(are_copies(own, other, checks) for other in others) else None


def are_copies(one: Shingles, other: Shingles, checks: WrittenChecks) -> bool:
    """Whether two texts are nearly one, or one of them nearly stands within the other (Broder 1997's two measures).

    >>> are_copies(shingles("a b c d e f"), shingles("x y z a b c d e f u v w x y z"), WrittenChecks())
    True
    """
    return similarity(one, other) >= checks.near_copy or containment(one, other) >= checks.quoted


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
    """Says so where most passages seem to be in another language than the recipe's, such as its default."""
    texts = [text for batch in Passages(sample(passages, SAMPLED // 10, seed)).batches() for text in batch.to_pylist()]
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
