"""The LLM client: many requests at once to an OpenAI-compatible endpoint, each answer stored before it is used.

    with CallStore(path) as store:
        answers = ask_all(requests, config, store, connect)

`connect` is called only if a request is not in the store, so a repeated build starts no server.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
from huggingface_hub import AsyncInferenceClient, set_async_client_factory
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, InferenceTimeoutError
from tqdm import tqdm

from builders.store import CallStore, call_key
from cards.errors import UserError

if TYPE_CHECKING:
    from builders.recipe import LlmConfig

MAX_WAIT_S = 60.0


class Endpoint(msgspec.Struct, frozen=True):
    """Where requests go, and what the server calls the model there."""

    base_url: str
    served_model: str


class ChatRequest(msgspec.Struct, frozen=True):
    """One request, without the model: `messages` are `{"role", "content"}`; `seed` tells repeats apart."""

    messages: tuple[dict[str, str], ...]
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...] = ()


class ChatAnswer(msgspec.Struct, frozen=True):
    """One answer.

    Attributes:
        key: its key in the call store.
        text: what the LLM wrote.
        finish_reason: `stop`, or `length` when the answer was cut.
        prompt_tokens: as the endpoint counted them, or None; likewise `completion_tokens`.
        seconds: wall time of the call.
    """

    key: str
    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


class Usage:
    """What a build's answers cost, counted over the calls that its rows rest on (stored ones too)."""

    def __init__(self) -> None:
        self._answers: dict[str, ChatAnswer] = {}
        self.new_calls = 0

    def add(self, answer: ChatAnswer, *, new: bool) -> None:
        """Counts one answer; an answer that is used twice counts once."""
        self._answers[answer.key] = answer
        self.new_calls += new

    def summary(self) -> dict[str, int | float]:
        """Calls, tokens in and out, and the sum of the calls' wall seconds."""
        answers = self._answers.values()
        return {
            "calls": len(answers),
            "prompt_tokens": sum(answer.prompt_tokens or 0 for answer in answers),
            "completion_tokens": sum(answer.completion_tokens or 0 for answer in answers),
            "call_seconds": round(sum(answer.seconds for answer in answers), 3),
        }


def ask_all(
    requests: Sequence[ChatRequest],
    config: "LlmConfig",
    store: CallStore,
    connect: Callable[[], Endpoint],
    usage: Usage,
    label: str,
) -> list[ChatAnswer]:
    """Answers all requests, from the store where it has them, and shows a progress bar for the rest.

    Returns:
        One answer per request, in their order.

    Raises:
        UserError: the endpoint cannot be reached, refuses the key or the model, or stays busy. All answers that
            came before are in the store.
    """
    bodies = [_body(request, config) for request in requests]
    keys = [call_key(body) for body in bodies]
    missing = {key: body for key, body in zip(keys, bodies, strict=True) if store.get(key) is None}
    if missing:
        asyncio.run(_Caller(config, connect(), store).run(missing, label))
    answers = []
    for key in keys:
        answer = msgspec.convert({"key": key, **(store.get(key) or {})}, ChatAnswer)
        usage.add(answer, new=missing.pop(key, None) is not None)
        answers.append(answer)
    return answers


def _body(request: ChatRequest, config: "LlmConfig") -> dict[str, Any]:
    """All that shapes an answer: the store's key is the hash of this."""
    return {"model": config.model, "revision": config.revision, **msgspec.to_builtins(request)}


class _Caller:
    """One run's client: a bounded number of requests in flight, bounded tries for each."""

    def __init__(self, config: "LlmConfig", endpoint: Endpoint, store: CallStore) -> None:
        self._config = config
        self._endpoint = endpoint
        self._store = store
        set_async_client_factory(_http_client)
        # Always a key of its own: without one, the client would send the user's Hub token to this address.
        self._client = AsyncInferenceClient(
            base_url=endpoint.base_url, api_key=_api_key(config), timeout=config.timeout_s
        )

    async def run(self, missing: dict[str, dict[str, Any]], label: str) -> None:
        gate = asyncio.Semaphore(self._config.concurrency)
        tokens = [0]
        with tqdm(total=len(missing), desc=label, unit="call", dynamic_ncols=True) as bar:

            async def call(key: str, body: dict[str, Any]) -> None:
                async with gate:
                    answer = await self._call(body)
                    self._store.put(key, body, answer)
                    tokens[0] += (answer["prompt_tokens"] or 0) + (answer["completion_tokens"] or 0)
                    bar.set_postfix_str(f"{tokens[0]:,} tokens")
                bar.update()

            async with self._client:
                try:
                    async with asyncio.TaskGroup() as group:
                        for key, body in missing.items():
                            group.create_task(call(key, body))
                except* UserError as errors:
                    raise errors.exceptions[0] from None

    async def _call(self, body: dict[str, Any]) -> dict[str, Any]:
        """One request, tried again while the endpoint is busy, with growing, jittered pauses."""
        attempt = 1
        while True:
            started = time.perf_counter()
            try:
                answer = await self._client.chat_completion(
                    model=self._endpoint.served_model,
                    messages=body["messages"],
                    max_tokens=body["max_tokens"],
                    temperature=body["temperature"],
                    seed=body["seed"],
                    stop=list(body["stop"]) or None,
                )
                return _parse(answer, time.perf_counter() - started)
            except Exception as error:
                if not self._may_try_again(error, attempt):
                    raise
                await asyncio.sleep(_pause(error, attempt))
            attempt += 1

    def _may_try_again(self, error: Exception, attempt: int) -> bool:
        """Whether waiting can help; False for our own bugs, which are raised as they are.

        Raises:
            UserError: the endpoint refuses, or has failed too often.
        """
        problem = _describe(error)
        if problem is None:
            return False
        refused = isinstance(error, HfHubHTTPError) and not _is_busy(error)
        if not refused and attempt < self._config.attempts:
            return True
        raise UserError(
            f"LLM endpoint {self._endpoint.base_url}, model {self._config.model}: {problem}"
            f"{'' if refused else f' ({attempt} tries)'}; check llm.base_url, llm.model and llm.api_key_env, then run "
            "the same command again: answers so far are stored"
        ) from None


def _parse(answer: Any, seconds: float) -> dict[str, Any]:
    """An endpoint's answer as the store keeps it; raises KeyError, TypeError and the like on anything else."""
    choice = answer.choices[0]
    return {
        "text": choice.message.content or "",
        "finish_reason": choice.finish_reason or "stop",
        "prompt_tokens": answer.usage.prompt_tokens if answer.usage else None,
        "completion_tokens": answer.usage.completion_tokens if answer.usage else None,
        "seconds": round(seconds, 3),
    }


def _http_client() -> httpx2.AsyncClient:
    """Lifts the default cap of 100 connections; also reaches local endpoints where HF_HUB_OFFLINE is set."""
    return httpx2.AsyncClient(timeout=None, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None))


def _api_key(config: "LlmConfig") -> str:
    if config.api_key_env is None:
        return "none-needed"
    key = os.environ.get(config.api_key_env)
    if not key:
        raise UserError(
            f"llm.api_key_env: the environment variable {config.api_key_env} is not set; export it with the "
            "endpoint's key"
        )
    return key


def _describe(error: Exception) -> str | None:
    """An endpoint's failure in words without its URL's query or any header; None for our own bugs."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        hint = {400: "bad request", 401: "key refused", 403: "key refused", 404: "no such address or model"}
        return f"answered {status} ({hint.get(status, 'error')})"
    if isinstance(error, InferenceTimeoutError | TimeoutError):
        return "did not answer in time"
    if isinstance(error, json.JSONDecodeError | KeyError | TypeError | IndexError | AttributeError):
        return "answered with something other than a chat completion"
    if type(error).__module__.split(".")[0] in {"httpx2", "httpx", "httpcore2"} or isinstance(error, OSError):
        return f"cannot be reached ({type(error).__name__})"
    return None


def _is_busy(error: HfHubHTTPError) -> bool:
    status = error.response.status_code
    return not isinstance(error, BadRequestError) and (
        status in {408, 425, 429} or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def _pause(error: Exception, attempt: int) -> float:
    """Seconds to wait: what the server asks for, else 0.5, 1, 2, ... with jitter."""
    if isinstance(error, HfHubHTTPError):
        asked = error.response.headers.get("retry-after", "")
        if asked.isdigit():
            return min(float(asked), MAX_WAIT_S)
    return min(2.0 ** (attempt - 2) * (1 + random.random()), MAX_WAIT_S)
