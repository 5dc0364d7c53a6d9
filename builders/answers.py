"""What an answer holds: the texts that were asked for, or the reason why it cannot be used."""

import json
import re

from builders.llm.chat import ChatAnswer
from builders.prompts import answer_keys

_FENCE = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.DOTALL)
_END = re.compile(r"<\|[a-z_]+\|>|</s>|<(?:start|end)_of_turn>|\[/?INST\]|<\uff5c", re.IGNORECASE)
"""What LLMs have been seen to write on past the end of their turn; other tags may be what a text is about."""
_UNUSABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of characters, which can be neither hashed nor written."""
LIST_MARK = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,2}[.)]\s+)")


def problem_of(answer: ChatAnswer) -> str | None:
    """Why an answer has no text at all, or None.

    >>> problem_of(ChatAnswer("k", " ", "stop", 1, 1, 0.1))
    'empty'
    """
    if answer.text.strip():
        return None
    return "only-reasoning" if answer.only_reasoning else "empty"


def texts_of(answer: ChatAnswer, count: int, *, as_json: bool) -> tuple[list[str], str | None]:
    r"""The texts in an answer, at most `count`, and why there are fewer.

    >>> texts_of(ChatAnswer("k", '{"text_1": "one", "text_2": "two"}', "stop", 1, 1, 0.1), 2, as_json=True)
    (['one', 'two'], None)
    >>> texts_of(ChatAnswer("k", "1. one\n\n2. two\n", "stop", 1, 1, 0.1), 3, as_json=False)
    (['one', 'two'], 'too-few-texts')
    """
    problem = problem_of(answer)
    if problem is not None:
        return [], problem
    if as_json:
        return _from_json(answer, count)
    lines = [plain(LIST_MARK.sub("", line)) for line in answer.text.splitlines()]
    lines = [line for line in lines if line]
    if answer.is_cut and count > 1:
        lines = lines[:-1]  # the last one was cut
    return lines[:count], None if len(lines) >= count else "too-few-texts"


def plain(text: str) -> str:
    """A text without what is none: control characters, and all from a chat template's mark on.

    >>> plain("what do owls eat?<|im_end|> and more")
    'what do owls eat?'
    """
    mark = _END.search(text)
    return _UNUSABLE.sub("", text[: mark.start()] if mark else text).strip()


def _from_json(answer: ChatAnswer, count: int) -> tuple[list[str], str | None]:
    """The values of the keys that were asked for; markup around the object is forgiven, anything else is not."""
    fenced = _FENCE.match(answer.text)
    try:
        value = json.loads(fenced[1] if fenced else answer.text)
    except (ValueError, RecursionError):
        return [], "cut" if answer.is_cut else "not-json"
    if not isinstance(value, dict):
        return [], "not-json"
    texts = [plain(" ".join(value[key].split())) for key in answer_keys(count) if isinstance(value.get(key), str)]
    texts = [text for text in texts if text]
    return texts, None if len(texts) == count else "too-few-texts"
