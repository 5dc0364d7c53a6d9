"""Checks on passages that an LLM wrote as negatives: none that a reader, or a model, would recognise at a glance.

    style = style_of(context.corpus.table, context.language, context.seed, config.max_tokens)
    reason = reject(text, positive, style)

The LLM of kind `llm` never sees the corpus. These checks do: they compare its answers with the query's own passage and
with figures over the corpus. That changes no request; an answer that fails is asked for again.
"""

import re
import sys
from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from builders.corpus import sample
from builders.meta_talk import NONE, Phrases, folded, phrases
from builders.passages import Passages
from builders.texts import Shingles, containment, shingles, similarity
from foils.languages import is_in, length, script

SAMPLED = 2000
"""Passages that stand for the corpus."""
USED_BY_CORPUS = 0.005
MIXED_CORPUS = 0.05
NEAR_COPY, QUOTED = 0.6, 0.8
"""Texts are copies if their word triples have this Jaccard similarity, or if one holds this share of the other's."""
MAX_REPEATS = 3
"""Queries that may have the very same text as a negative."""
SHORTEST, ROOM_FOR_SHORT = 0.25, 8
"""An answer has this share of the words of a short passage (the corpus's 5th percentile). It need not have more words
than an eighth of `max_tokens`, since a few sentences are not a long document."""
LONGEST, ROOM_FOR_LONG = 2, 2
"""It has at most this many times the words of a long passage (99th percentile), or half of `max_tokens`."""
_RULE = re.compile(r"\s*[-*_=\u2014]*\s*")


class Style(NamedTuple):
    """How the corpus's passages are written, as far as answers must be like them.

    Attributes:
        fewest: length of an answer (`foils.languages.length`).
        most: the same.
        script: as `foils.languages.script` names it; empty = any.
        language: an ISO 639 code; empty = any.
        phrases: by which a text speaks of itself, without those that the corpus uses.
        lifted: the checks that are not made, because the corpus itself would fail them.
        usual: length of a shorter and a longer passage of the corpus, its quartiles.
        titled: whether passages have titles.
    """

    fewest: int = 0
    most: int = sys.maxsize
    script: str = ""
    language: str = ""
    phrases: Phrases = NONE
    lifted: tuple[str, ...] = ()
    usual: tuple[float, float] = (0, 0)
    titled: bool = True


def style_of(passages: pa.Table, language: str, seed: int, max_tokens: int) -> Style:
    """How a corpus is written, from a seeded sample of it.

    A rule that the corpus itself breaks is not applied: a phrase that more than one passage in 200 uses gives nothing
    away, and a corpus of which more than one passage in 20 is in another script or language is not held to its own.

    Args:
        passages: `schema.CORPUS`.
        language: an ISO 639 code.
        seed: the recipe's.
        max_tokens: of one answer.
    """
    sampled = Passages(sample(passages, SAMPLED, seed))
    titled = any(sampled.table["title"].to_pylist())
    texts = [text for batch in sampled.batches() for text in batch.to_pylist()]
    short, *usual, long = np.percentile([length(text) for text in texts], [5, 25, 75, 99]).tolist()
    fewest = min(int(SHORTEST * short), max_tokens // ROOM_FOR_SHORT)
    most = max(int(LONGEST * long), max_tokens // ROOM_FOR_LONG)
    scripts = Counter(map(script, texts))
    without_letters, mixed = scripts.pop("", 0), MIXED_CORPUS * len(texts)
    main, times = scripts.most_common(1)[0] if scripts else ("", 0)
    main = main if len(texts) - without_letters - times <= mixed else ""
    own = language if sum(not is_in(text, language) for text in texts) <= mixed else ""
    lifted = [name for name, value in (("script", main), ("language", own)) if not value]
    plain, few = list(map(folded, sampled.table["text"].to_pylist())), USED_BY_CORPUS * len(texts)
    known = phrases(language)
    used = Phrases(each for each in known.each if sum(re.search(each, text) is not None for text in plain) <= few)
    if len(used.each) < len(known.each):
        lifted.append(f"{len(known.each) - len(used.each)} of {len(known.each)} phrases of meta-talk")
    return Style(fewest, most, main, own, used, tuple(lifted), (usual[0], usual[1]), titled)


def reject(text: str, positive: str, style: Style) -> str | None:
    """Why a written negative gives itself away, or None.

    Args:
        text: of the negative.
        positive: the passage that answers the query; empty = none to compare with.
        style: the corpus's.

    >>> reject("Sure, here is one: owls hunt at dusk.", "", Style(phrases=phrases("en")))
    'meta-talk'
    """
    words = length(text)
    if not style.fewest <= words <= style.most:
        return "too-short" if words < style.fewest else "too-long"
    if style.phrases.used_in(text):
        return "meta-talk"
    if positive and are_copies(shingles(text), shingles(positive)):
        return "positive-copy"
    if style.script and script(text) not in {"", style.script}:
        return "other-script"
    return "other-language" if style.language and not is_in(text, style.language) else None


def without_talk(text: str, style: Style) -> str:
    """A passage without the lines before and behind it that speak of the task, and not of its subject.

    >>> lines = ["Sure! Here is a passage:", "Owls hunt at night.", "I hope this helps!"]
    >>> without_talk(chr(10).join(lines), Style(phrases=phrases("en")))
    'Owls hunt at night.'
    """
    lines = text.strip().splitlines()
    for at in (0, -1):
        while len(lines) > 1 and (_RULE.fullmatch(lines[at]) or style.phrases.used_in(lines[at])):
            del lines[at]
    return "\n".join(lines).strip()


def are_copies(one: Shingles, other: Shingles) -> bool:
    """Whether two texts are nearly one, or one of them nearly stands within the other (Broder 1997's two measures).

    >>> are_copies(shingles("a b c d e f"), shingles("x y z a b c d e f u v w x y z"))
    True
    """
    return similarity(one, other) >= NEAR_COPY or containment(one, other) >= QUOTED
