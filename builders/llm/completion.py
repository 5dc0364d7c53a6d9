"""What an endpoint answered, as the store keeps it: text, how it ended, tokens, and which model it says it is."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Struct


class _Message(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(Struct):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(Struct):
    """The part of a completion that is kept; its types are checked, the rest is skipped unread."""

    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None
    model: str | None = None


class _Details(Struct):
    finish_reason: str | None = None
    generated_tokens: int | None = None


class _Generated(Struct):
    """TGI's answer to `generate`, of the same kind."""

    generated_text: str
    details: _Details | None = None


_COMPLETION = msgspec.json.Decoder(_Completion)
_GENERATED = msgspec.json.Decoder(Annotated[list[_Generated], msgspec.Meta(min_length=1)] | _Generated)


def parsed(body: bytes, stop: Sequence[str] = ()) -> dict[str, Any]:
    """A completion as the store keeps it, with the name that the server gives its model.

    >>> parsed(b'{"choices": [{"message": {"content": "hi"}}], "model": "m"}')
    {'text': 'hi', 'finish_reason': 'stop', 'prompt_tokens': None, 'completion_tokens': None, 'model': 'm'}

    Raises:
        msgspec.DecodeError: it is something other than a completion; likewise UnicodeDecodeError.
    """
    answer = _COMPLETION.decode(body)
    choice, usage = answer.choices[0], answer.usage or _Usage()
    message = choice.message or _Message(choice.text)
    if choice.message is None and choice.text is None:
        raise msgspec.DecodeError("a choice has neither a message nor a text")
    text, is_ended = ended(message.content or "", stop)
    kept: dict[str, Any] = {
        "text": text,
        "finish_reason": "stop" if is_ended else choice.finish_reason or "stop",
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }
    if answer.model:
        kept["model"] = answer.model
    if not kept["text"].strip() and (message.reasoning_content or message.reasoning):
        kept["only_reasoning"] = True
    return kept


def generated(body: bytes, headers: Mapping[str, str], stop: Sequence[str]) -> dict[str, Any]:
    """The same for TGI's `generate`, which counts the prompt's tokens in a header.

    Raises:
        msgspec.DecodeError: it is something other than its answer; likewise UnicodeDecodeError.
    """
    answer = _GENERATED.decode(body)
    one = answer[0] if isinstance(answer, list) else answer
    details = one.details or _Details()
    text, is_ended = ended(one.generated_text, stop)
    prompt_tokens = headers.get("x-prompt-tokens", "")
    return {
        "text": text,
        "finish_reason": "length" if details.finish_reason == "length" and not is_ended else "stop",
        "prompt_tokens": int(prompt_tokens) if prompt_tokens.isdecimal() else None,
        "completion_tokens": details.generated_tokens,
    }


def ended(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    r"""A text up to its first stop string, and whether it has one: TGI leaves it in, others do not look for it.

    >>> ended(" what do owls eat?\nwhat do", ["\n", "\n\n"])
    (' what do owls eat?', True)
    >>> ended("\nwhat", ["\n"]), ended("<think>\n</think> what", ["\n"])
    (('\nwhat', False), ('<think>\n</think> what', False))
    """
    begun = len(text) - len(text.lstrip())
    if text.startswith("<think", begun) or "</think" in text:  # the stop strings are for what comes after the thoughts
        return text, False
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
    # Hugging Face's router is asked for `model:provider`.
    return any(_differ_by_weights(name, _short(answered)) for name in {_short(asked), _short(asked).partition(":")[0]})


def _differ_by_weights(name: str, other_name: str) -> bool:
    short, long = sorted((name, other_name), key=len)
    return long.startswith(short) and _SAME_WEIGHTS.fullmatch(long[len(short) :]) is not None


def _short(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2].casefold()
