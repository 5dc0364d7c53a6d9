"""The `[llm]` table of a building recipe: where the LLM is, how it is asked, and what its tokens cost."""

import json
import os
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from foils.errors import UserError

SET_FIELDS = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "seed", "stop"})
LEFT_ALONE = frozenset({"stream", "n", "best_of"})
"""Of a request's body: what Foils sets, and what it relies on."""
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
NO_KEY = "none-needed"
EMBEDDED_LLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Money = Annotated[float, Meta(ge=0)]


class PricesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What the LLM costs, for the ledger and the budget.

    Attributes:
        input: money per million tokens that it reads.
        output: money per million tokens that it writes.
        hour: money per hour in which requests are in flight, for rented machines.
        currency: its name.
    """

    input: Money = 0.0
    output: Money = 0.0
    hour: Money = 0.0
    currency: str = "USD"

    @property
    def known(self) -> bool:
        """Whether there is any price."""
        return bool(self.input or self.output or self.hour)

    def of_tokens(self, prompt: float, completion: float) -> float:
        """The price of tokens read and written."""
        return (prompt * self.input + completion * self.output) / 1_000_000


Name = bool | Annotated[str, Meta(min_length=1)]


class FieldsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What an endpoint calls the fields of a request: another name, or false where it refuses one.

    Attributes:
        max_tokens: `max_completion_tokens` for OpenAI's reasoning models, say.
        temperature: false for models that have their own.
        seed: `random_seed` for Mistral's endpoint, say.
        stop: strings that end an answer; Foils looks for them too.
        stream: always false.
        system: the role of the instructions, such as `developer`; false puts them before the first question.
    """

    max_tokens: Name = True
    temperature: Name = True
    seed: Name = True
    stop: Name = True
    stream: Name = True
    system: Name = True

    def left_out(self) -> tuple[str, ...]:
        """The fields that are not sent."""
        return tuple(name for name in self.__struct_fields__ if getattr(self, name) is False)


class LlmConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The LLM endpoint. Without `base_url` or `provider` the embedded model is served for the run.

    Attributes:
        base_url: an OpenAI-compatible endpoint, such as `http://127.0.0.1:8080/v1`.
        provider: in its place, a provider that Hugging Face routes to, such as `together`, or `auto`.
        model: the model's id as the endpoint knows it; also its name in cards and in the call store.
        revision: what else identifies the model's weights, for cards and the call store.
        answers_as: the name that the server gives the model in its answers, where that is quite another one.
        api_key_env: name of the environment variable that holds the key; never the key.
        thinking: false asks vLLM, llama.cpp, SGLang and `transformers serve` to switch a reasoning model's thinking
            off; for others name the provider's own parameter in `extra_body`. True leaves room for it.
        fields: names of a request's fields, or false for what the endpoint refuses; `foils doctor` finds them out.
        extra_body: goes into every request as it stands, such as `{ top_p = 0.9 }`.
        concurrency: requests in flight at once, at most; fewer while the endpoint pushes back.
        timeout_s: seconds that one request may take.
        attempts: tries per request when the endpoint fails, after which its row is dropped; 429 does not count, nor
            503 while others are in flight.
        down_after_s: seconds without any answer, several failing rows among them, after which the endpoint counts as
            down and the build stops; also the longest wait that the endpoint may ask for.
        answers: a file of answers by their requests' hashes (`python -m builders.calls export`): what it has is taken
            from it, and the endpoint is not asked.
        prices: what its tokens or hours cost.
        budget: money that the calls of a data set may cost, those already in the store included. No call is begun
            that might pass it by its tokens; hours count once a call is over, so those in flight may pass it.
    """

    base_url: str | None = None
    provider: str | None = None
    model: str = EMBEDDED_LLM
    revision: str | None = None
    answers_as: str | None = None
    api_key_env: str | None = None
    thinking: bool | None = None
    fields: FieldsConfig = FieldsConfig()
    extra_body: dict[str, Any] = {}
    concurrency: Positive = 8
    timeout_s: Seconds = 120.0
    attempts: Positive = 5
    down_after_s: Seconds = 300.0
    answers: str | None = None
    prices: PricesConfig = PricesConfig()
    budget: Annotated[float, Meta(gt=0)] | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the embedded model is served for the run."""
        return self.base_url is None and self.provider is None

    @property
    def place(self) -> str:
        """Where answers come from, in words."""
        return self.base_url or (f"provider {self.provider}" if self.provider else "the embedded model")

    def shaping(self) -> "LlmConfig":
        """What shapes the answers: not how fast, over which way and for how much the LLM is asked."""
        return LlmConfig(
            model=self.model,
            revision=self.revision,
            thinking=self.thinking,
            fields=FieldsConfig(**dict.fromkeys(self.fields.left_out(), False)),
            extra_body=self.extra_body,
        )

    def as_is(self) -> dict[str, Any]:
        """What goes into a request's body as it stands: no thinking, and what the recipe says."""
        return (NO_THINKING if self.thinking is False else {}) | self.extra_body


def api_key(llm: LlmConfig) -> str:
    """The key that the recipe names, or `NO_KEY`.

    Raises:
        UserError: it is not in the environment, or cannot stand in a header.
    """
    if llm.api_key_env is None:
        return NO_KEY
    key = os.environ.get(llm.api_key_env, "").strip()
    if not key:
        raise UserError(f"llm.api_key_env: the environment variable {llm.api_key_env} is not set; export it first")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UserError(
            f"llm.api_key_env: the environment variable {llm.api_key_env} holds white space or letters that no key "
            "has; export the key alone"
        )
    return key


def check_llm(llm: LlmConfig) -> None:
    """Refuses what the types cannot.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    if llm.base_url and llm.provider:
        raise UserError("recipe: llm: base_url and provider are set; wanted one of them")
    if llm.base_url is not None and not _is_address(llm.base_url):
        raise UserError(
            "recipe: llm.base_url: wanted http://host:port/v1 or https://host/v1, without user name or key; "
            "a key goes into an environment variable that llm.api_key_env names"
        )
    if llm.is_embedded and llm.model != EMBEDDED_LLM:
        raise UserError(
            f"llm.model {llm.model!r}: needs llm.base_url or llm.provider; without one of them only {EMBEDDED_LLM} "
            "can be served"
        )
    if llm.provider is not None and llm.api_key_env is None:
        raise UserError(
            f"recipe: llm.provider {llm.provider!r}: wanted llm.api_key_env, which names the environment variable with "
            "your Hugging Face token or the provider's key"
        )
    clash = sorted(llm.extra_body.keys() & (SET_FIELDS | LEFT_ALONE))
    if clash:
        raise UserError(
            f"recipe: llm.extra_body.{clash[0]}: set by Foils itself for every request; temperature and max_tokens "
            "are keys of [queries] and [negatives.llm], and [llm.fields] renames a field or leaves it out"
        )
    try:
        json.dumps(llm.extra_body)
    except TypeError as error:
        raise UserError(f"recipe: llm.extra_body: {error}; wanted values that JSON has") from None
    if llm.budget is not None and not llm.prices.known:
        raise UserError(
            f"recipe: llm.budget {llm.budget:g}: needs prices to count with; set llm.prices.input and "
            "llm.prices.output (money per million tokens), or llm.prices.hour"
        )


def _is_address(url: str) -> bool:
    """Whether a URL names a host and a path, and nothing that could be a key.

    >>> _is_address("http://127.0.0.1:8080/v1"), _is_address("https://h/v1?api_key=x"), _is_address("http://h:99999/")
    (True, False, False)
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(host) and port != 0 and not re.search(r"[\s@?#]", url)
