"""What an answer holds: the texts that were asked for, or the reason why it cannot be used."""

import json
import re

from builders.llm.chat import ChatAnswer
from builders.prompts import answer_keys

_FENCE = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.DOTALL)
_MARK = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,2}[.)]\s+)")


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
    lines = [_MARK.sub("", line).strip() for line in answer.text.splitlines() if line.strip()]
    if answer.finish_reason == "length" and count > 1:
        lines = lines[:-1]  # the last one was cut
    return lines[:count], None if len(lines) >= count else "too-few-texts"


def _from_json(answer: ChatAnswer, count: int) -> tuple[list[str], str | None]:
    """The values of the keys that were asked for; markup around the object is forgiven, anything else is not."""
    fenced = _FENCE.match(answer.text)
    try:
        value = json.loads(fenced[1] if fenced else answer.text)
    except (ValueError, RecursionError):
        return [], "cut" if answer.finish_reason == "length" else "not-json"
    if not isinstance(value, dict):
        return [], "not-json"
    texts = [" ".join(value[key].split()) for key in answer_keys(count) if isinstance(value.get(key), str)]
    texts = [text for text in texts if text]
    return texts, None if len(texts) == count else "too-few-texts"
