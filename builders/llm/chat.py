"""The LLM client: rows ask for what they need, many at once, and each answer is stored before it is used.

    with CallStore(path) as store:
        llm = Llm(config, store, connect, ledger)
        llm.run("queries", tasks, total=len(tasks), attempts=3, done=results.append)

A `Task` says what it asks and judges what it gets; a rejected answer is asked for again. `connect` is called only if a
request is not in the store, so a repeated build starts no server.
"""

import asyncio
import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import msgspec

from builders.llm.config import LlmConfig
from builders.llm.ledger import Ledger
from builders.llm.pressure import Pressure
from builders.llm.store import CallStore
from builders.llm.thoughts import without_thoughts
from foils.errors import UserError

if sys.platform != "win32":
    from uvloop import new_event_loop
else:
    from asyncio import new_event_loop


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

    @property
    def place(self) -> str:
        """The address in words."""
        return self.base_url or f"provider {self.provider}"


class ChatRequest(msgspec.Struct, frozen=True):
    """One request, without the model: `messages` are `{"role", "content"}`; `seed` tells repeats apart.

    Attributes:
        schema: a JSON schema that the answer shall have, where the server can be held to one.
    """

    messages: tuple[dict[str, str], ...]
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None


class ChatAnswer(msgspec.Struct, frozen=True):
    """One answer.

    Attributes:
        key: its key in the call store.
        text: what the LLM wrote.
        finish_reason: `stop`, or `length` when the answer was cut.
        prompt_tokens: as the endpoint counted them, or None; likewise `completion_tokens`.
        seconds: wall time of the call.
        ended: when it came, in seconds since 1970; None of old calls.
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


CUT = frozenset({"length", "content_filter", "error", "abort"})
REFUSED = "endpoint-refused"
"""Why a row that the endpoint will not answer is dropped."""


class Task(Protocol):
    """A row of a stage: what it asks of the LLM, and what it makes of the answers."""

    def request(self, attempt: int) -> ChatRequest:
        """What is asked the `attempt`-th time, from 0."""

    def take(self, answer: ChatAnswer) -> str | None:
        """Judges an answer; returns why it, or a part of it, has to be asked for again, None if nothing is missing."""

    def refused(self, detail: str) -> None:
        """The endpoint will not answer this row's request."""


TaskT = TypeVar("TaskT", bound=Task)


class Converse(Protocol):
    """What a stage needs of the LLM; `Llm.run` is one."""

    def __call__(
        self, stage: str, tasks: Iterable[TaskT], *, total: int, attempts: int, done: Callable[[TaskT], None]
    ) -> None:
        """Has all tasks answered, up to `attempts` times each, and hands them to `done` in their order."""


class Llm:
    """An LLM behind a store: the session of one build.

    Args:
        config: of the LLM.
        store: where answers are kept.
        connect: finds the endpoints.
        ledger: counts the costs.
        given: answers by key that are taken over where the store has none.
    """

    def __init__(
        self,
        config: LlmConfig,
        store: CallStore,
        connect: Callable[[], Sequence[Endpoint]],
        ledger: Ledger | None = None,
        given: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        self.config = config
        self._given = given or {}
        self.store = store
        self.ledger = ledger or Ledger(config.prices, config.budget)
        self._connect = connect
        self._pressures: dict[str, Pressure] = {}

    def run(
        self, stage: str, tasks: Iterable[TaskT], *, total: int, attempts: int, done: Callable[[TaskT], None]
    ) -> None:
        """Has tasks answered, from the store where it can, and shows progress on the rest.

        Tasks are taken from `tasks` as they are needed, and a bounded number is held at once.

        Args:
            stage: names the progress bar and the account.
            tasks: what is to be asked.
            total: how many they are, for the progress bar.
            attempts: how often a task may ask.
            done: is given every task that is settled, in the order of `tasks`.

        Raises:
            UserError: the endpoint cannot be reached, refuses the key or the model, stays busy, or the budget is
                spent. All answers that came before are in the store.
            KeyboardInterrupt: after Ctrl-C, once the requests in flight are answered and stored; a second Ctrl-C does
                not wait for them.
        """
        from builders.llm.backlog import Backlog
        from builders.llm.caller import Caller

        backlog = Backlog(self, stage, tasks, total=total, attempts=attempts, done=done)
        if not backlog.has_work():
            return
        endpoints = self._connect()
        with asyncio.Runner(loop_factory=new_event_loop) as runner, _nothing_old_is_garbage():
            if runner.run(Caller(self.config, endpoints, self.store, self._pressures).run(backlog)):
                raise KeyboardInterrupt

    def stored(self, calls: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """The answers that are there already, of requests by key."""
        found = self.store.get_many(calls)
        given = [(key, calls[key], self._given[key]) for key in calls if key in self._given and key not in found]
        if given:
            self.store.put_many(given)
            found |= {key: answer for key, _, answer in given}
        return found

    def ask(self, stage: str, requests: Sequence[ChatRequest]) -> list[ChatAnswer]:
        """Answers of single requests, whatever they say, in their order.

        Raises:
            UserError: as `run`; also if the endpoint refuses one of them.
        """
        answered: list[_Once] = []
        tasks = [_Once(request) for request in requests]
        self.run(stage, tasks, total=len(tasks), attempts=1, done=answered.append)
        return [task.answer_or_error() for task in answered]


class _Once:
    """A task that takes whatever comes."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._answer: ChatAnswer | None = None
        self._refused = ""

    def request(self, attempt: int) -> ChatRequest:  # noqa: ARG002
        return self._request

    def take(self, answer: ChatAnswer) -> str | None:
        self._answer = answer
        return None

    def refused(self, detail: str) -> None:
        self._refused = detail

    def answer_or_error(self) -> ChatAnswer:
        if self._answer is None:
            raise UserError(f"the LLM endpoint refuses a request: {self._refused}")
        return self._answer


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
    if config.server != "openai":
        body["server"] = config.server
    as_is = config.as_is(request.schema)
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


@contextmanager
def _nothing_old_is_garbage() -> Iterator[None]:
    """Keeps the garbage collector to objects made meanwhile: going over all of torch stops every call for 0.1 s."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
