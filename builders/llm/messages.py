"""What is asked of the LLM and what it answers: the types that stages share, and a request as the store keeps it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from builders.llm.config import LlmConfig
from builders.llm.thoughts import without_thoughts

FILTERED = "content_filter"
CUT = frozenset({"length", FILTERED, "error", "abort"})
"""Reasons for an end before the LLM had come to one."""
REFUSED = "endpoint-refused"
"""Why a row that the endpoint will not answer is dropped."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where requests go, and what the server calls the model there.

    Attributes:
        base_url: the address; None where a provider is named.
        served_model: the model's name there.
        provider: a hosted provider, which the client finds by the model's id.
    """

    base_url: str | None
    served_model: str
    provider: str | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """One request, without the model.

    Attributes:
        messages: `{"role", "content"}` each.
        max_tokens: the answer's length limit.
        temperature: of sampling.
        seed: of sampling; makes repeated requests differ.
        stop: strings that end the answer.
    """

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
        prompt_tokens: tokens read, as the endpoint counted them, or None.
        completion_tokens: tokens written, as the endpoint counted them, or None.
        seconds: wall time of the call.
        ended: when it came, in seconds since 1970.
        failed_tries: tries that failed before it came.
        only_reasoning: a reasoning model thought and said nothing.
    """

    key: str
    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    ended: float | None = None
    failed_tries: int = 0
    only_reasoning: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether it ended before the LLM had come to an end."""
        return self.finish_reason in CUT


class Task(Protocol):
    """A row of a stage: what it asks of the LLM, and what it makes of the answers."""

    def request(self, attempt: int) -> ChatRequest:
        """Returns what is asked the `attempt`-th time, from 0."""

    def take(self, answer: ChatAnswer) -> str | None:
        """Judges an answer; returns why it, or a part of it, has to be asked for again, None if nothing is missing."""

    def refused(self, detail: str) -> None:
        """Notes that the endpoint will not answer this row's request."""


TaskT = TypeVar("TaskT", bound=Task)


class Converse(Protocol):
    """What a stage needs of the LLM; `Llm.run` is one."""

    def __call__(
        self, stage: str, tasks: Iterable[TaskT], *, total: int, attempts: int, done: Callable[[TaskT], object]
    ) -> None:
        """Has all tasks answered, up to `attempts` times each, and hands them to `done` in their order."""


def body_of(request: ChatRequest, config: LlmConfig) -> dict[str, Any]:
    """All that shapes an answer: the store's key is the hash of this.

    What is at its default is left out, so that keys outlive new settings.
    """
    body: dict[str, Any] = {
        "model": config.model,
        "revision": config.revision,
        "messages": request.messages,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        # A reasoning model would be cut off in the middle of its thoughts.
        "stop": () if config.thinking else request.stop,
    }
    left_out = config.fields.left_out()
    if left_out:
        body["without"] = left_out
    as_is = config.as_is()
    if as_is:
        body["as_is"] = as_is
    return body


def answer_of(key: str, stored: Mapping[str, Any]) -> ChatAnswer:
    """A stored answer, without the thoughts that some servers leave in the text.

    >>> answer_of("k", {"text": "<think>Hm.</think> yes", "finish_reason": "stop", "prompt_tokens": 1,
    ...     "completion_tokens": 5, "seconds": 0.1}).text
    'yes'
    """
    answer = msgspec.convert({"key": key, **stored}, ChatAnswer)
    text = without_thoughts(answer.text)
    if text == answer.text:
        return answer
    return msgspec.structs.replace(answer, text=text, only_reasoning=not text.strip())
