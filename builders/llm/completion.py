"""What an endpoint answered, as the store keeps it: text, how it ended, tokens, and which model it says it is."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from builders.llm.config import LlmConfig
from builders.llm.thoughts import has_thoughts


class _Message(Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None


class _Choice(Struct):
    message: _Message
    finish_reason: Any = None
    error: None = None  # of a router's provider; such a choice is not a completion


class _Completion(Struct):
    """The part of a completion that is kept; what is not needed may be anything."""

    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: Any = None
    model: Any = None


_COMPLETION = msgspec.json.Decoder(_Completion)


def parsed(body: bytes, stop: Sequence[str] = ()) -> dict[str, Any]:
    """A completion as the store keeps it, with the name that the server gives its model.

    >>> parsed(b'{"choices": [{"message": {"content": "hi"}}], "model": "m"}')
    {'text': 'hi', 'finish_reason': 'stop', 'prompt_tokens': None, 'completion_tokens': None, 'model': 'm'}

    Raises:
        ValueError: it is something other than a completion.
    """
    answer = _decoded(body)
    message, reason = answer.choices[0].message, answer.choices[0].finish_reason
    said, thought = _parts(message.content)
    text, is_ended = ended(said or (message.refusal if isinstance(message.refusal, str) else ""), stop)
    kept: dict[str, Any] = {
        "text": text,
        "finish_reason": reason if isinstance(reason, str) and reason and not is_ended else "stop",
        "prompt_tokens": _count(answer.usage, "prompt_tokens"),
        "completion_tokens": _count(answer.usage, "completion_tokens"),
    }
    if isinstance(answer.model, str) and answer.model:
        kept["model"] = answer.model
    if not text.strip() and (thought or message.reasoning_content or message.reasoning):
        kept["only_reasoning"] = True
    return kept


def _decoded(body: bytes) -> _Completion:
    try:
        return _COMPLETION.decode(body)
    except (msgspec.DecodeError, RecursionError):  # as of NaN, which some send, or a byte order mark
        try:
            return msgspec.convert(json.loads(body), _Completion)
        except (msgspec.ValidationError, RecursionError) as error:
            raise ValueError(f"{error}") from None


def _parts(content: Any) -> tuple[str, bool]:
    """The text of a message, and whether thoughts stand beside it; some servers send it as a list of parts.

    >>> _parts([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "hi"}, " there"])
    ('hi there', True)
    """
    if content is None or isinstance(content, str):
        return content or "", False
    if isinstance(content, list):
        parts = [_parts(part) for part in content]
        return "".join(text for text, _ in parts), any(thought for _, thought in parts)
    if not isinstance(content, dict):
        raise ValueError(f"a content of {type(content).__name__}")  # noqa: TRY004 - as of what is not JSON
    if not {"type", "text"} & content.keys():
        return json.dumps(content, ensure_ascii=False), False  # an answer in JSON that came as JSON
    kind = content.get("type", "text")
    if kind not in {"text", "output_text"}:
        return "", "think" in str(kind) or "reason" in str(kind)
    text = content.get("text")
    return (text if isinstance(text, str) else str(text.get("value", "")) if isinstance(text, dict) else ""), False


def _count(usage: Any, name: str) -> int | None:
    """A number of tokens, whatever form it has; None where there is none.

    >>> [_count({"n": value}, "n") for value in (7, 7.0, "7", "many", None, -1)], _count(None, "n")
    ([7, 7, 7, None, None, None], None)
    """
    value = usage.get(name) if isinstance(usage, dict) else None
    try:
        tokens = int(float(value)) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None
    return tokens if tokens is not None and tokens >= 0 else None


def ended(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    r"""A text up to its first stop string, and whether it has one: TGI leaves it in, others do not look for it.

    >>> ended(" what do owls eat?\nwhat do", ["\n", "\n\n"])
    (' what do owls eat?', True)
    >>> ended("\nwhat", ["\n"]), ended("<think>\n</think> what", ["\n"])
    (('\nwhat', False), ('<think>\n</think> what', False))
    """
    if has_thoughts(text):  # the stop strings are for what comes after them
        return text, False
    begun = len(text) - len(text.lstrip())
    ends = [end for end in (text.find(each, begun) for each in stop) if end >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


_SAME_WEIGHTS = re.compile(
    r"(?:[-._@:]+(?:v?\d[^\W_]*|i?q\d[^\W_]*|[kmslx]{1,2}|\d?bits?|[bf]+p?\d+|int\d+|gguf|ggml|awq|gptq|mlx|latest|main))*"
)
"""What servers add to a model's name: dates, revisions, quantisations, file endings; not `-instruct` or `-mini`."""


@lru_cache(maxsize=64)
def is_same_model(asked: str, answered: str) -> bool:
    """Whether two names may be the same model: servers add folders, file endings, dates and quantisations.

    >>> is_same_model("Qwen/Qwen2.5-7B-Instruct", "/models/qwen2.5-7b-instruct-q4_k_m.gguf")
    True
    >>> is_same_model("gpt-4o", "gpt-4o-2024-08-06"), is_same_model("SmolLM2-135M", "smollm2-135m@main")
    (True, True)
    >>> is_same_model("gpt-4o", "gpt-4o-mini"), is_same_model("Qwen2.5-7B", "Qwen2.5-7B-Instruct")
    (False, False)
    """
    answered = answered.rstrip("/").rpartition("/")[2].casefold()
    asked = asked.rstrip("/").rpartition("/")[2].casefold()
    for name in (asked, asked.partition(":")[0]):  # Hugging Face's router is asked for `model:provider`
        short, long = sorted((name, answered), key=len)
        if long.startswith(short) and _SAME_WEIGHTS.fullmatch(long[len(short) :]):
            return True
    return False


def another_model(llm: LlmConfig, served: str, answered: str | None) -> str | None:
    """What to say of an answer that seems to come from another model than `served`, as a router's stand-in does."""
    # A provider's own name for the model comes from the Hub's mapping, which the client goes by.
    if not answered or llm.is_embedded or llm.provider is not None:
        return None
    if is_same_model(served, answered) or is_same_model(llm.answers_as or "-", answered):
        return None
    return (
        f"asked for model {served}, and {answered} answered; set llm.model to that, or llm.answers_as = {answered!r} "
        "if it is the same model under another name"
    )
