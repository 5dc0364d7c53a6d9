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
from foils.languages import is_unspaced
from foils.texts import folded

MOST_WORDS, MOST_CHARACTERS, STEP = 300, 600, 10
"""The longest passage that is asked for where the recipe sets no length; most retrievers read no more. Lengths are
multiples of ten, as nobody counts more closely."""
ANSWER_TOKENS, TOKENS_PER_WORD = 100, 2
"""Room for an answer's other parts, and for each word of the passage."""
FEWEST_REQUIREMENTS, MOST_BY_CHANCE = 2, 0.5
"""Requirements of a query; the share of words, such as `of the`, that does not make one of them the broken one."""
_MARK = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s*")
_AROUND_TITLE = '*_# "\u201c\u201d\u00ab\u00bb'
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
    marks = r"[;\uff1b\n]" if re.search(r"[;\uff1b\n]", requires) else r"[,\uff0c\u3001]"
    requirements = [_MARK.sub("", each).strip(" .") for each in re.split(marks, requires) if re.search(r"\w", each)]
    if len(requirements) < FEWEST_REQUIREMENTS:
        return "no-requirements"
    broken = max(requirements, key=lambda each: _shared(each, breaks))
    if _shared(broken, breaks) <= MOST_BY_CHANCE:
        return "breaks-no-requirement"
    if not passage:
        return "no-passage"
    bare = " ".join(title.strip(_AROUND_TITLE).split())
    return Counterfactual(msgspec.structs.replace(answer, text=passage), bare, broken)


def _shared(one: str, other: str) -> float:
    """Returns the share of one text's words, or characters where they have no spaces, that the other has, too."""
    words, others = ({*(text if is_unspaced(text) else _WORD.findall(text))} for text in map(folded, (one, other)))
    return len(words & others) / max(min(len(words), len(others)), 1)


def asked_for(prompt: Prompt, length: tuple[int, int], style: str, *, unspaced: bool) -> Prompt:
    """Returns a prompt that also says how long a passage is and what it reads like."""
    wanted = f" The passage has {length[0]} to {length[1]} {'characters' if unspaced else 'words'}"
    return msgspec.structs.replace(prompt, system=f"{prompt.system}{wanted}{style and f' and reads like {style}'}.")


def room_for(length: tuple[int, int] | UnsetType, tokens: int) -> int:
    """Returns how many tokens an answer with a passage of at most such a length takes, but `tokens` at least."""
    return max(tokens, ANSWER_TOKENS + TOKENS_PER_WORD * (length[1] if length else MOST_WORDS))


def usual_length(low: float, high: float, *, unspaced: bool = False) -> tuple[int, int]:
    """Returns the length to ask for, from that of a shorter and a longer passage of the corpus.

    >>> usual_length(83.0, 161.0), usual_length(4.0, 6.0), usual_length(700.0, 1900.0)
    ((80, 160), (10, 20), (290, 300))
    """
    most = MOST_CHARACTERS if unspaced else MOST_WORDS
    least = min(max(round(low / STEP), 1) * STEP, most - STEP)
    return least, max(min(round(high / STEP) * STEP, most), least + STEP)
