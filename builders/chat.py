"""The LLM client: many requests at once to an OpenAI-compatible endpoint, each answer stored before it is used.

    with CallStore(path) as store:
        answers = ask_all(requests, config, store, connect, usage, label)

`connect` is called only if a request is not in the store, so a repeated build starts no server.
"""

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from builders.caller import Caller
from builders.store import CallStore, call_key

if sys.platform != "win32":
    from uvloop import new_event_loop
else:
    from asyncio import new_event_loop

if TYPE_CHECKING:
    from builders.recipe import LlmConfig


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
    """Answers all requests, from the store where it has them, and shows progress on the rest.

    Returns:
        One answer per request, in their order.

    Raises:
        UserError: the endpoint cannot be reached, refuses the key or the model, or stays busy. All answers that
            came before are in the store.
        KeyboardInterrupt: after Ctrl-C, once the requests in flight are answered and stored; a second Ctrl-C does
            not wait for them.
    """
    bodies = [_body(request, config) for request in requests]
    keys = [call_key(body) for body in bodies]
    by_key = dict(zip(keys, bodies, strict=True))
    missing = {key: by_key[key] for key in store.missing(keys)}
    if missing:
        endpoint = connect()
        with asyncio.Runner(loop_factory=new_event_loop) as runner, _nothing_old_is_garbage():
            if runner.run(Caller(config, endpoint, store).run(missing, label)):
                raise KeyboardInterrupt
    found = store.get_many(keys)
    answers = []
    for key in keys:
        answer = msgspec.convert({"key": key, **found[key]}, ChatAnswer)
        usage.add(answer, new=missing.pop(key, None) is not None)
        answers.append(answer)
    return answers


@contextmanager
def _nothing_old_is_garbage() -> Iterator[None]:
    """Keeps the garbage collector to objects made meanwhile: going over all of torch stops every call for 0.1 s."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _body(request: ChatRequest, config: "LlmConfig") -> dict[str, Any]:
    """All that shapes an answer: the store's key is the hash of this."""
    return {"model": config.model, "revision": config.revision, **msgspec.to_builtins(request)}
