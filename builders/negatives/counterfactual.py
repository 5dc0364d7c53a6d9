"""Answers in parts: what a query requires, the requirement that the passage breaks, and the passage with its title.

A negative that breaks one requirement and meets the others is hard for a reason that is known and stored (CausalNeg,
arXiv 2606.01304).
"""

import re
from typing import NamedTuple

import msgspec
from msgspec import UnsetType

from builders.llm.messages import ChatAnswer
from builders.prompts import Parts, Prompt
from foils.texts import folded

MOST_WORDS, STEP = 300, 10
"""The longest passage that is asked for where the recipe sets no length; most retrievers read no more. Lengths are
multiples of ten, as nobody counts more closely."""
ANSWER_TOKENS, TOKENS_PER_WORD = 100, 2
"""Room for an answer's other parts, and for each word of the passage."""
FEWEST_REQUIREMENTS = 2
_WORD = re.compile(r"\w+")
_FLAGS = re.MULTILINE | re.IGNORECASE


class Counterfactual(NamedTuple):
    """An answer in parts.

    Attributes:
        answer: the same with the passage's text alone.
        title: of the passage.
        broken: the requirement that it does not meet, as it was listed.
    """

    answer: ChatAnswer
    title: str
    broken: str


def in_parts(answer: ChatAnswer, parts: Parts) -> Counterfactual | str:
    r"""Splits an answer, or returns the reason why it cannot be used.

    >>> parts = Parts("Requires", "Breaks", "Title", "Passage")
    >>> text = "Requires: owls; a weight\nBreaks: a weight\nTitle: Owls\nPassage: Owls hunt at night."
    >>> answer, title, broken = in_parts(ChatAnswer("k", text, "stop", 1, 1, 0.1), parts)
    >>> answer.text, title, broken
    ('Owls hunt at night.', 'Owls', 'a weight')
    >>> in_parts(ChatAnswer("k", "Owls hunt at night.", "stop", 1, 1, 0.1), parts)
    'no-requirements'
    """
    labels = msgspec.structs.astuple(parts)
    found = re.split(
        rf"^[\s*_#>-]*({'|'.join(map(re.escape, labels))})[\s*_]*[:\uff1a][*_]*", answer.text, flags=_FLAGS
    )
    said: dict[str, str] = {}
    for label, text in zip(found[1::2], found[2::2], strict=True):
        said.setdefault(label.casefold(), text.strip())  # behind the passage, some go on with another query
    requires, breaks, title, passage = (said.get(label.casefold(), "") for label in labels)
    requirements = [each.strip(" .") for each in re.split(r"[;\uff1b\n]", requires) if re.search(r"\w", each)]
    if len(requirements) < FEWEST_REQUIREMENTS:
        return "no-requirements"
    broken = max(requirements, key=lambda each: _shared(each, breaks))
    if not _shared(broken, breaks):
        return "breaks-no-requirement"
    if not passage:
        return "no-passage"
    return Counterfactual(msgspec.structs.replace(answer, text=passage), " ".join(title.strip("*_# ").split()), broken)


def _shared(one: str, other: str) -> float:
    """The share of words that two texts have in common (Jaccard)."""
    words, others = ({*_WORD.findall(folded(text))} for text in (one, other))
    return len(words & others) / max(len(words | others), 1)


def asked_for(prompt: Prompt, length: tuple[int, int], style: str) -> Prompt:
    """Returns a prompt that also says how long a passage is, in words, and what it is part of."""
    wanted = f" The passage has {length[0]} to {length[1]} words"
    return msgspec.structs.replace(prompt, system=f"{prompt.system}{wanted}{style and f' and reads like {style}'}.")


def room_for(length: tuple[int, int] | UnsetType, tokens: int) -> int:
    """Returns how many tokens an answer with a passage of at most such a length takes, but `tokens` at least."""
    return max(tokens, ANSWER_TOKENS + TOKENS_PER_WORD * (length[1] if length else MOST_WORDS))


def usual_length(low: float, high: float) -> tuple[int, int]:
    """Returns the length to ask for, from that of a shorter and a longer passage of the corpus.

    >>> usual_length(83.0, 161.0), usual_length(4.0, 6.0), usual_length(700.0, 1900.0)
    ((80, 160), (10, 20), (290, 300))
    """
    least = min(max(round(low / STEP), 1) * STEP, MOST_WORDS - STEP)
    return least, max(min(round(high / STEP) * STEP, MOST_WORDS), least + STEP)
