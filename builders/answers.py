"""Reads an answer: the texts that were asked for, or the reason why it cannot be used."""

import ast
import json
import re
from contextlib import suppress
from typing import Any

from builders.label_words import ASKING, KEY
from builders.llm.messages import FILTERED, ChatAnswer
from builders.prompts import Prompt, next_turn
from builders.wrapping import LIST_MARK, is_lead_in, unwrapped, without_mark

_OPENING = re.compile(
    r"\A\s*(?:(?:<\|[a-z_]+\|>|<s>|<bos>|<start_of_turn>|\[/INST\]|<\uff5c\w+\uff5c>)\s*(?:(?:assistant|model)\b\s*)?)+",
    re.IGNORECASE,
)
_MARKS = r"(?:<\|[a-z_]+\|>|</?s>|<(?:start|end)_of_turn>|<(?:eos|bos|pad)>|\[/?INST\]|\[end\]|<\uff5c)"
_END = re.compile(rf"(?<![\s`\"'(]){_MARKS}|{_MARKS}(?=[ \t]*(?:\Z|\n|<|\[|(?-i:[A-Z])))", re.IGNORECASE)
"""Marks after which LLMs have been seen to write on past the end of their turn. Elsewhere, such as within a sentence,
they are what the text is about."""
_UNUSABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
"""Control characters, and halves of characters, which can be neither hashed nor written."""
_NUMBERED = re.compile(r"^[\s*_#]*(?:[(\[]?\d{1,2}[.)\]:\uff0e]\**\s+|[\u2460-\u2473]\s*)")
_DASHED = re.compile(r"^[\s*_#]*(\d{1,2})\s[-\u2013]\**\s+")
_MOST_OBJECTS = 20
_DECODER = json.JSONDecoder(strict=False)
SHORTENED = frozenset({"empty", "lead-in", "only-reasoning"})
"""Reasons for which a stop string may be to blame: what was asked for stands behind the first line."""


def problem_of(answer: ChatAnswer) -> str | None:
    """Returns why an answer has no text at all, or None.

    >>> problem_of(ChatAnswer("k", " ", "stop", 1, 1, 0.1))
    'empty'
    """
    if answer.text.strip():
        return None
    if answer.finish_reason == FILTERED:
        return "content-filter"
    return "only-reasoning" if answer.only_reasoning else "empty"


def texts_of(
    answer: ChatAnswer,
    count: int,
    *,
    prompt: Prompt | None = None,
    source: str = "",
    passages: bool = False,
) -> tuple[list[str], str | None]:
    r"""Returns the texts in an answer without what chat models put round them, and why there are too few of them.

    Args:
        answer: the answer.
        count: how many texts were asked for.
        prompt: what was asked: it says whether a line is a text, and what a small model goes on with after its answer.
        source: what the answer was written for, see `unwrapped`.
        passages: whether they are passages, which keep their paragraphs; anything else has one line.

    >>> texts_of(ChatAnswer("k", "1. one\n\n2. two\n", "stop", 1, 1, 0.1), 3)
    (['one', 'two'], 'too-few-texts')
    """
    if problem := problem_of(answer):
        return [], problem
    text = plain(_OPENING.sub("", answer.text))
    if prompt is not None:
        text = _one_turn(text, prompt)
    if count == 1 and not (prompt and prompt.several):
        texts = [_clean(plain(_value(text, passages=passages)), source, passages=passages)]
    else:
        items = (without_mark(LIST_MARK, line, source) for line in _items(text))
        texts = [unwrapped(item, source, passage=passages) for item in items]
        if answer.is_cut and count > 1:
            texts = texts[:-1]  # the last one was cut
    texts = [text for text in texts if text]
    return texts[:count], None if len(texts) >= count else "too-few-texts" if count > 1 else "empty"


def plain(text: str) -> str:
    """A text without control characters, up to the first mark of a chat template.

    >>> plain("what do owls eat?<|im_end|> and more")
    'what do owls eat?'
    """
    mark = _END.search(text)
    return _UNUSABLE.sub("", text[: mark.start()] if mark else text).strip()


def _clean(text: str, source: str, *, passages: bool) -> str:
    """What was asked for: a passage with its paragraphs, or a line."""
    text = unwrapped(text, source, passage=passages)
    if passages:
        return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE))
    return unwrapped(text.partition("\n")[0], source)


def _one_turn(text: str, prompt: Prompt) -> str:
    """An answer up to where it goes on with a further example; an input that it repeats first is passed over."""
    mark = next_turn(prompt)
    if mark is None:
        return text
    if mark.match(text) and ("\n" in text or not text.endswith("?")):
        text = text.partition("\n")[2].lstrip()
    further = mark.search(text, 1)
    return text[: further.start()].rstrip() if further else text


def _items(text: str) -> list[str]:
    """The texts of a list, a line each; where lines are numbered, those between belong to the number before."""
    lines = _listed(text) or [line for line in text.splitlines() if not line.strip() or re.search(r"\w", line)]
    while lines and not lines[-1].strip():
        lines.pop()
    lines = [line for number, line in enumerate(lines) if not (is_lead_in(line) and number < len(lines) - 1)]
    dashed = [int(found[1]) for found in map(_DASHED.match, lines) if found]
    if dashed[1:] and dashed == [*range(1, len(dashed) + 1)]:  # else ranges, such as 3 - 5
        lines = [_DASHED.sub(r"\1. ", line) for line in lines]
    if sum(_NUMBERED.match(line) is not None for line in lines) < 2:  # noqa: PLR2004
        return [line for line in lines if line.strip()]
    items: list[list[str]] = []
    for line in lines:
        if _NUMBERED.match(line) or not items:
            items.append([_NUMBERED.sub("", line)])
        else:
            items[-1].append(line.strip())
    *others, last = ["\n".join(item).rstrip().split("\n") for item in items]
    longest = max(map(len, others))
    end = last.index("", longest) if "" in last[longest:] else len(last)  # behind it, a remark on the whole list
    return [" ".join(filter(None, item)) for item in (*others, last[:end])]


def _listed(text: str) -> list[str]:
    """The texts of an answer that is a list in JSON, or an object with one."""
    bare = bare_of(text)
    value = _parsed(bare) if bare.startswith(("[", "{")) else None
    if isinstance(value, dict):
        value = next((each for each in value.values() if isinstance(each, list)), [*value.values()])
    rows = (each if isinstance(each, dict) else {"": each} for each in (value if isinstance(value, list) else ()))
    texts = (max((each for each in row.values() if isinstance(each, str)), key=len, default="") for row in rows)
    return [text for text in texts if text]


def bare_of(text: str) -> str:
    """An answer without a line before it and a fence around it."""
    first, _, rest = text.partition("\n")
    return (rest if rest and is_lead_in(first) else text).removeprefix("```json").strip("` \n")


def objects_in(text: str) -> list[dict[str, str]]:
    """Returns the texts by key of all JSON objects in an answer, nested ones too; keys in lower case."""
    if text.lstrip().startswith('"'):  # JSON within JSON
        whole = _parsed(text)
        return objects_in(whole) if isinstance(whole, str) else []
    found: list[dict[str, str]] = []
    at = text.find("{")
    while at >= 0 and len(found) < _MOST_OBJECTS:
        try:
            value, at = _DECODER.raw_decode(text, at)
            found += _within(value)
        except ValueError:
            at += 1
        except RecursionError:
            break
        at = text.find("{", at)
    return found


def _within(value: Any) -> list[dict[str, str]]:
    """An object and those in it."""
    if not isinstance(value, dict):
        return []
    own = {}
    for key, each in value.items():
        text = each[0] if isinstance(each, list) and each else each
        if isinstance(text, str):
            own[key.casefold()] = text
    inner = (each[0] if isinstance(each, list) and each else each for each in value.values())
    return [own, *(found for each in inner for found in _within(each))]


def _value(text: str, *, passages: bool) -> str:
    """The text in an answer that is JSON although a plain text was asked for; a passage may be an object."""
    bare = bare_of(text)
    if not bare.startswith(("{", "[", '"{')) or (passages and not bare.endswith(("}", "]", '}"'))):
        return text
    objects = objects_in(bare) or _within({"text": _parsed(bare)})
    values = [value for each in objects for value in each.items()]
    fitting = [value for key, value in values if KEY.fullmatch(key) or (len(values) == 1 and not passages)]
    if len(fitting) > 1:  # such as a question with its answer, or a query with its passage
        fitting = [value for key, value in values if KEY.fullmatch(key) and (not ASKING.search(key)) == passages]
    if fitting:
        return max(fitting, key=len)
    return "" if values and not passages else text


def _parsed(text: str) -> Any:
    for read in (_DECODER.decode, ast.literal_eval):  # some write a literal of Python
        with suppress(RecursionError, ValueError, SyntaxError, MemoryError):
            return read(text)
    return None
