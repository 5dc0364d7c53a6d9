"""How each kind of server is asked, and how its answers are read: a small adapter per kind.

`AsyncInferenceClient` shapes the requests. What a kind of server wants beyond that (a schema for the answer, no
"thinking") goes into the body as it stands. `WIRES` is the whole list; `python -m builders.build RECIPE --doctor` finds
out which kind a server is.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils._http import hf_raise_for_status
from msgspec import Struct

from builders.transport import EXCHANGE, Exchange, Watch
from cards.errors import UserError

Server = Literal["openai", "vllm", "tgi", "tgi-generate", "llama.cpp", "transformers", "completions"]
Schema = Mapping[str, Any]

NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}


class Line(NamedTuple):
    """An open line to one address.

    Attributes:
        client: shapes the requests and carries the key.
        base_url: the address; None for a hosted provider, which the client finds by the model's id.
        model: what the server calls the model.
        headers: the key, for the one path that the client does not know.
        timeout_s: for one request.
    """

    client: AsyncInferenceClient
    base_url: str | None
    model: str
    headers: Mapping[str, str]
    timeout_s: float


class Wire(Struct, frozen=True):
    """A kind of server.

    Attributes:
        send: makes one call, and returns the answer as the store keeps it.
        schema: what holds an answer to a JSON schema there; None: only the prompt asks for it.
        no_thinking: what keeps a reasoning model from thinking aloud there; None: there is no common way.
    """

    send: Callable[[Line, Mapping[str, Any], Watch], Awaitable[dict[str, Any]]]
    schema: Callable[[Schema], dict[str, Any]] | None = None
    no_thinking: Mapping[str, Any] | None = None


async def chat(line: Line, body: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    """A chat completion."""
    exchange = Exchange(body.get("as_is", {}), watch)
    EXCHANGE.set(exchange)
    try:
        await line.client.chat_completion(
            model=line.model,
            messages=body["messages"],
            max_tokens=body["max_tokens"],
            temperature=body["temperature"],
            seed=body["seed"],
            stop=list(body["stop"]) or None,
        )
    except ValueError as error:  # the client's own, before it sends: a provider that has no such model
        if line.base_url is not None or isinstance(error, HfHubHTTPError):
            raise
        raise UserError(f"llm.provider: {error}; see the model's page on the Hub for providers that serve it") from None
    return parsed(exchange.body)


async def generate(line: Line, body: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    """TGI's own `generate`, which needs no chat template; the address is then the server's root."""
    exchange = Exchange({}, watch, short=False)
    EXCHANGE.set(exchange)
    answer = await line.client.text_generation(
        as_completion(body["messages"]),
        details=True,
        do_sample=body["temperature"] > 0,
        temperature=body["temperature"] or None,  # 0 is refused there
        max_new_tokens=body["max_tokens"],
        return_full_text=False,
        seed=body["seed"],
        stop=list(body["stop"]) or None,
        **body.get("as_is", {}),
    )
    details = answer.details
    prompt_tokens = exchange.headers.get("x-prompt-tokens", "")
    return {
        "text": answer.generated_text,
        "finish_reason": "length" if details is not None and details.finish_reason == "length" else "stop",
        "prompt_tokens": int(prompt_tokens) if prompt_tokens.isdecimal() else None,
        "completion_tokens": details.generated_tokens if details is not None else None,
    }


async def complete(line: Line, body: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    """A raw completion, for base models; `AsyncInferenceClient` has no method for it, so only its transport is used."""
    exchange = Exchange(body.get("as_is", {}), watch)
    EXCHANGE.set(exchange)
    asked = {
        "model": line.model,
        "prompt": as_completion(body["messages"]),
        "max_tokens": body["max_tokens"],
        "temperature": body["temperature"],
        "seed": body["seed"],
    }
    if body["stop"]:
        asked["stop"] = list(body["stop"])
    http: Any = await line.client._get_async_client()  # type: ignore[no-untyped-call]  # noqa: SLF001 - its connections
    url = f"{(line.base_url or '').rstrip('/')}/completions"
    hf_raise_for_status(await http.post(url, json=asked, headers=line.headers, timeout=line.timeout_s))
    return parsed(exchange.body)


def _json_schema(schema: Schema) -> dict[str, Any]:
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


WIRES: Mapping[Server, Wire] = {
    # https://platform.openai.com/docs/api-reference/chat: what hosted endpoints have in common
    "openai": Wire(chat, _json_schema),
    # https://docs.vllm.ai/en/latest/features/structured_outputs.html
    "vllm": Wire(chat, lambda schema: {"structured_outputs": {"json": schema}}, NO_THINKING),
    # https://huggingface.co/docs/text-generation-inference/conceptual/guidance
    "tgi": Wire(chat, lambda schema: {"response_format": {"type": "json_object", "value": schema}}),
    "tgi-generate": Wire(generate, lambda schema: {"grammar": {"type": "json", "value": schema}}),
    # https://github.com/ggml-org/llama.cpp/tree/master/tools/server
    "llama.cpp": Wire(chat, _json_schema, NO_THINKING),
    # `transformers serve` has no constrained decoding
    "transformers": Wire(chat),
    # /v1/completions, for base models: vLLM, llama.cpp and others
    "completions": Wire(complete),
}


def as_completion(messages: Sequence[Mapping[str, str]]) -> str:
    r"""A conversation as one text that a base model goes on with: worked examples, then an open `Answer:`.

    >>> print(as_completion([{"role": "system", "content": "Write queries."}, {"role": "user", "content": "Passage: x"},
    ...     {"role": "assistant", "content": "what is x?"}, {"role": "user", "content": "Passage: y"}]))
    Write queries.
    <BLANKLINE>
    Passage: x
    Answer: what is x?
    <BLANKLINE>
    Passage: y
    Answer:
    """
    parts: list[str] = []
    for message in messages:
        if message["role"] == "assistant":
            parts[-1] += f" {message['content']}"
        else:
            parts.append(message["content"] + ("\nAnswer:" if message["role"] == "user" else ""))
    return "\n\n".join(parts)


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


_COMPLETION = msgspec.json.Decoder(_Completion)


def parsed(body: bytes) -> dict[str, Any]:
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
    kept: dict[str, Any] = {
        "text": message.content or "",
        "finish_reason": choice.finish_reason or "stop",
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }
    if answer.model:
        kept["model"] = answer.model
    if not kept["text"].strip() and (message.reasoning_content or message.reasoning):
        kept["only_reasoning"] = True
    return kept


def is_same_model(asked: str, answered: str) -> bool:
    """Whether two names may be the same model: servers add folders, file endings, dates and revisions.

    >>> is_same_model("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b-instruct-q4_k_m.gguf")
    True
    >>> is_same_model("gpt-4", "gpt-4o-mini"), is_same_model("Qwen2.5-7B", "Qwen2.5-72B")
    (False, False)
    """
    one, other = sorted((_short(asked), _short(answered)), key=len)
    return other.startswith(one) and not other[len(one) : len(one) + 1].isalnum()


def _short(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2].partition("@")[0].partition(":")[0].casefold()
