"""How each kind of server is asked: a small adapter per kind.

`AsyncInferenceClient` shapes the requests. What a kind of server wants beyond that (a schema for the answer, no
"thinking") goes into the body as it stands. `WIRES` is the whole list; `python -m builders.build RECIPE --doctor` finds
out which kind a server is.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import httpx2
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils._http import hf_raise_for_status
from msgspec import Struct

from builders.llm.completion import generated, parsed
from builders.llm.transport import EXCHANGE, AnswerTakenError, Exchange, Sent, Watch
from foils.errors import UserError

Server = Literal["openai", "vllm", "tgi", "tgi-generate", "llama.cpp", "transformers", "completions"]
Schema = Mapping[str, Any]

NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
TURN_GAP = "\n\n"
"""What parts the turns of a conversation that is sent as one text."""


class Line(NamedTuple):
    """An open line to one address.

    Attributes:
        client: shapes the requests and carries the key.
        base_url: the address; None for a hosted provider, which the client finds by the model's id.
        model: what the server calls the model.
        headers: the key, for the paths that the client does not know.
        timeout_s: for one request.
        shapes: requests as the client shaped them, by what shapes them besides messages and seed.
    """

    client: AsyncInferenceClient
    base_url: str | None
    model: str
    headers: Mapping[str, str]
    timeout_s: float
    shapes: dict[tuple[Any, ...], Sent]


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
    """A chat completion.

    The client shapes the first request of each kind. Those that differ from it in messages and seed alone take its
    address, headers and all other fields: shaping costs the client as much again as the whole exchange.
    """
    as_is = body.get("as_is", {})
    exchange = Exchange(as_is, watch)
    kind = (body["max_tokens"], body["temperature"], tuple(body["stop"]), repr(as_is) if as_is else "")
    shape = line.shapes.get(kind)
    if shape is None:
        await _shaped_by_client(line, body, exchange)
        if exchange.sent is not None:
            line.shapes[kind] = exchange.sent
    else:
        asked = {**shape.body, "messages": body["messages"], "seed": body["seed"]}
        await _post(line, Sent(shape.url, shape.headers, asked), exchange)
    return parsed(exchange.body, body["stop"])


async def _shaped_by_client(line: Line, body: Mapping[str, Any], exchange: Exchange) -> None:
    as_is = dict(exchange.as_is)
    # Each hosted provider wants its own form of a schema, which the client knows; with an address it assumes TGI.
    response_format = as_is.pop("response_format", None) if line.base_url is None else None
    exchange.as_is = as_is
    EXCHANGE.set(exchange)
    try:
        with suppress(AnswerTakenError):
            await line.client.chat_completion(
                model=line.model,
                messages=body["messages"],
                max_tokens=body["max_tokens"],
                temperature=body["temperature"],
                seed=body["seed"],
                stop=list(body["stop"]) or None,
                response_format=response_format,
            )
    except ValueError as error:  # the client's own, before it sends: a provider that has no such model
        if line.base_url is not None or isinstance(error, HfHubHTTPError):
            raise
        problem = f"{error}".rstrip(".")
        raise UserError(f"llm.provider: {problem}; see the model's page on the Hub for who serves it") from None


async def generate(line: Line, body: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    """TGI's own `generate`, which needs no chat template; it answers at the server's root.

    Not through the client's `text_generation`: that hides the status of a failure, so a busy server could not be told
    from a wrong request.
    """
    stop = _raw_stop(body)
    sampling = {"do_sample": True, "temperature": body["temperature"]} if body["temperature"] > 0 else {}
    parameters = {
        "details": True,
        "do_sample": False,
        "max_new_tokens": body["max_tokens"],
        "return_full_text": False,
        "seed": body["seed"],
        "stop": stop,
        **sampling,  # a temperature of 0 is refused there
        **body.get("as_is", {}),
    }
    asked = {"inputs": as_completion(body["messages"]), "parameters": parameters, "stream": False}
    exchange = Exchange({}, watch)
    await _post(line, Sent(_root(line).removesuffix("/v1"), line.headers, asked), exchange)
    return generated(exchange.body, exchange.headers, stop)


async def complete(line: Line, body: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    """A raw completion, for base models; `AsyncInferenceClient` has no method for it."""
    stop = _raw_stop(body)
    asked = {
        "model": line.model,
        "prompt": as_completion(body["messages"]),
        "max_tokens": body["max_tokens"],
        "temperature": body["temperature"],
        "seed": body["seed"],
        "stop": stop,
    }
    asked |= body.get("as_is", {})
    exchange = Exchange({}, watch)
    await _post(line, Sent(f"{_root(line)}/completions", line.headers, asked), exchange)
    return parsed(exchange.body, stop)


def _root(line: Line) -> str:
    return (line.base_url or "").rstrip("/")


def _raw_stop(body: Mapping[str, Any]) -> list[str]:
    """What ends a raw completion: nothing else keeps a base model from going on with a passage of its own."""
    return [*body["stop"], TURN_GAP]


async def _post(line: Line, request: Sent, exchange: Exchange) -> None:
    """Posts over the client's connections, and fails as the client does.

    Raises:
        TimeoutError: no answer came in time.
        HfHubHTTPError: the server answered with an error.
    """
    exchange.as_is = {}
    EXCHANGE.set(exchange)
    http: Any = await line.client._get_async_client()  # type: ignore[no-untyped-call]  # noqa: SLF001
    try:
        hf_raise_for_status(
            await http.post(request.url, json=request.body, headers=request.headers, timeout=line.timeout_s)
        )
    except AnswerTakenError:
        return
    except httpx2.TimeoutException as error:
        raise TimeoutError(f"{error}") from error


def _json_schema(schema: Schema) -> dict[str, Any]:
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


WIRES: Mapping[Server, Wire] = {
    # https://platform.openai.com/docs/api-reference/chat: what hosted endpoints have in common
    "openai": Wire(chat, _json_schema),
    # https://docs.vllm.ai/en/latest/features/structured_outputs/ (0.12 has no `guided_json` any more)
    "vllm": Wire(chat, lambda schema: {"structured_outputs": {"json": schema}}, NO_THINKING),
    # https://huggingface.co/docs/text-generation-inference/conceptual/guidance
    "tgi": Wire(chat, lambda schema: {"response_format": {"type": "json_object", "value": schema}}),
    "tgi-generate": Wire(generate, lambda schema: {"grammar": {"type": "json", "value": schema}}),
    # https://github.com/ggml-org/llama.cpp/tree/master/tools/server
    "llama.cpp": Wire(chat, _json_schema, NO_THINKING),
    # `transformers serve` has no constrained decoding, and with continuous batching ignores `stop`
    "transformers": Wire(chat, None, NO_THINKING),
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
    return TURN_GAP.join(parts)
