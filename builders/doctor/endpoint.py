"""What the doctor asks of an endpoint by itself: whether it is there, takes the key, and which fields it takes."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import aiohttp
import msgspec
from msgspec import Struct

from builders.llm.completion import is_same_model
from builders.llm.config import FieldsConfig, LlmConfig
from builders.llm.failures import Failure, failure_of
from builders.llm.ledger import Account, bytes_of
from builders.llm.messages import ChatRequest, Endpoint, answer_of, body_of
from builders.llm.posting import PostingClient, StatusError
from foils.errors import UserError
from foils.words import listed

MOST_LISTED = 8
KEY_REFUSED = frozenset({401, 403})
_OTHER_NAMES = {"max_tokens": ["max_completion_tokens"]}


class Finding(Struct, frozen=True):
    """One row of the table.

    Attributes:
        name: what was checked.
        status: `failed` if a build would fail because of it.
        found: what was seen, and behind `->` what to do about it.
    """

    name: str
    status: Literal["ok", "warning", "failed"]
    found: str


class Probe:
    """One endpoint under examination.

    Args:
        endpoint: where it is.
        llm: the recipe's `[llm]`.
        request: one that has each field that the build's requests have.
        account: of the probe's calls.

    Attributes:
        llm: as given, with the fields that the endpoint takes; None if it answers nothing.
    """

    def __init__(self, endpoint: Endpoint, llm: LlmConfig, request: ChatRequest, account: Account) -> None:
        self.llm: LlmConfig | None = llm
        self._endpoint, self._asked, self._request, self._account = endpoint, llm, request, account

    async def findings(self) -> AsyncIterator[Finding]:
        """All checks, in the order of the table."""
        models: list[str] = []
        try:
            if self._endpoint.base_url is not None:
                async with PostingClient(self._endpoint, self._asked) as client:
                    page = await client.read(f"{self._endpoint.base_url.rstrip('/')}/models")
                models = [str(entry["id"]) for entry in json.loads(page)["data"]]
        except (StatusError, ValueError, KeyError, TypeError):
            pass  # it answers, which is all that matters here
        except (aiohttp.ClientError, OSError) as error:
            problem = (failure_of(error) or Failure(type(error).__name__)).words
            yield Finding("reachable", "failed", f"{problem} -> check llm.base_url, and that the server runs there")
            self.llm = None
            return
        yield Finding("reachable", "ok", f"lists {len(models)} models" if models else "answers, and lists no models")
        reply = await self._ask(self._asked)
        if isinstance(reply, Failure) and reply.refused and not reply.for_all:
            fields = await self._fields_that_pass(reply)
            if fields is not None:
                self.llm = msgspec.structs.replace(self._asked, fields=fields)
                yield Finding("fields", "failed", f"{reply.words} -> put into [llm]: {in_toml(fields)}")
                reply = await self._ask(self.llm)
        if isinstance(reply, Failure):
            self.llm = None
            yield self._refused(reply, models)
        else:
            env = self._asked.api_key_env
            yield Finding("key", "ok", f"the key in {env} is taken" if env else "none is needed")
            yield self._model(reply, models)

    async def _fields_that_pass(self, failure: Failure) -> FieldsConfig | None:
        """The fields with as few left out as it takes to be answered; None if none can be left out to that end.

        Endpoints mostly object to one field at a time. So a field is left out for good if the objection is another
        one without it, those that the objection names first.
        """
        fields, left = self._asked.fields, list(FieldsConfig.__struct_fields__)
        while left:
            for name in sorted(left, key=lambda name: name not in failure.words):
                less = msgspec.structs.replace(fields, **{name: False})
                reply = await self._ask(msgspec.structs.replace(self._asked, fields=less))
                if not isinstance(reply, Failure):
                    return await self._with_what_was_not_in_the_way(less)
                if reply.words != failure.words:
                    fields, failure = less, reply
                    left.remove(name)
                    break
            else:
                return None
        return None

    async def _with_what_was_not_in_the_way(self, fields: FieldsConfig) -> FieldsConfig:
        """The fields with as many as the endpoint takes under this or another name."""
        for name in fields.left_out():
            for instead in (getattr(self._asked.fields, name), *_OTHER_NAMES.get(name, ())):
                more = msgspec.structs.replace(fields, **{name: instead})
                if more != fields and not isinstance(
                    await self._ask(msgspec.structs.replace(self._asked, fields=more)), Failure
                ):
                    fields = more
                    break
        return fields

    def _refused(self, failure: Failure, models: Sequence[str]) -> Finding:
        """Why there is no answer, and what to do about it."""
        asked, env = self._endpoint.served_model, self._asked.api_key_env
        if models and not any(is_same_model(asked, model) for model in models):
            found = f"{asked} is not served: {listed(models, MOST_LISTED)} -> set llm.model to one of them"
            return Finding("model", "failed", f"{failure.words}; {found}")
        if failure.status in KEY_REFUSED and env is None:
            advice = "the recipe names no key: set llm.api_key_env to the variable that holds it"
        elif failure.status in KEY_REFUSED:
            advice = f"check the value of {env}, or name another variable in llm.api_key_env"
        elif failure.refused and (self._asked.extra_body or self._asked.thinking is False):
            advice = "leave out llm.extra_body and llm.thinking, one at a time, or what is behind this"
        else:
            advice = "see to it there, or change [llm]"
        name = "key" if failure.status in KEY_REFUSED else "answer"
        return Finding(name, "failed", f"{failure.words} -> {advice}")

    def _model(self, answered: str | None, models: Sequence[str]) -> Finding:
        asked = self._endpoint.served_model
        if self._asked.is_embedded:
            return Finding("model", "ok", f"{self._asked.model}, served for this run")
        if not answered or self._endpoint.provider is not None:
            return Finding("model", "ok", f"{asked} answers")
        if any(is_same_model(name, answered) for name in (asked, self._asked.answers_as or "-")):
            return Finding("model", "ok", f"{asked} answers as {answered}")
        found = f"asked for {asked}, and {answered} answered"
        if models:
            found += f"; served: {listed(models, MOST_LISTED)}"
        advice = f"set llm.model to that, or llm.answers_as = {answered!r} if it is the same model under another name"
        self.llm = None
        return Finding("model", "failed", f"{found} -> {advice}")

    async def _ask(self, llm: LlmConfig) -> Failure | str | None:
        """Makes one call, which is not stored; returns the name of the model that answered, or the failure."""
        started = time.monotonic()
        try:
            async with PostingClient(self._endpoint, llm) as client:
                raw: dict[str, Any] = await client.complete(body_of(self._request, llm))
        except UserError as error:
            return Failure(str(error), refused=True, for_all=True)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            return failure
        answer = answer_of("", {**raw, "seconds": time.monotonic() - started, "ended": time.time()})
        self._account.add(answer, new=True, prompt_bytes=bytes_of(self._request.messages))
        return raw.get("model")


def in_toml(fields: FieldsConfig) -> str:
    """The fields that are not as usual, as a line of a recipe.

    >>> in_toml(FieldsConfig(max_tokens="max_completion_tokens", seed=False))
    'fields = { max_tokens = "max_completion_tokens", seed = false }'
    """
    changed = {name: json.dumps(value) for name, value in msgspec.to_builtins(fields).items() if value is not True}
    return f"fields = {{ {', '.join(f'{name} = {value}' for name, value in changed.items())} }}"
