"""What the doctor asks of an endpoint by itself: whether it is there, takes the key, and which fields it takes."""

import json
import re
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Literal

import msgspec

from builders.llm.completion import another_model, is_same_model
from builders.llm.config import FieldsConfig, LlmConfig
from builders.llm.failures import CallError
from builders.llm.ledger import Account, bytes_of
from builders.llm.messages import ChatRequest, Endpoint, answer_of, body_of
from builders.llm.posting import PostingClient
from foils.errors import UserError
from foils.words import listed

MOST_LISTED = 8
KEY_REFUSED = frozenset({401, 403})
Status = Literal["ok", "warning", "failed"]
"""`failed` if a build would fail because of what was seen."""
Show = Callable[[str, Status, str], None]
"""Takes a row of the table: what was checked, its status, what was seen, and behind `->` what to do about it."""


class Probe:
    """One endpoint under examination.

    Args:
        endpoint: where it is.
        llm: the recipe's `[llm]`.
        request: one that has each field that the build's requests have.
        account: of the probe's calls.
        show: is given each row of the table.
    """

    def __init__(self, endpoint: Endpoint, llm: LlmConfig, request: ChatRequest, account: Account, show: Show) -> None:
        self._endpoint, self._asked, self._request, self._account = endpoint, llm, request, account
        self._show = show

    async def run(self) -> LlmConfig | None:
        """Makes all checks; returns the config with the fields that the endpoint takes, or None if it is of no use."""
        llm, served, env = self._asked, self._endpoint.served_model, self._asked.api_key_env
        models = await self._listed() if self._endpoint.base_url is not None else []
        if models is None:
            return None
        failure, answered = await self._asked_with(llm.fields)
        if failure is not None and (fields := await self._fields_that_pass(failure)):
            self._show("fields", "failed", f"{failure.words} -> put into [llm]: {in_toml(fields)}")
            llm = msgspec.structs.replace(llm, fields=fields)
            failure, answered = await self._asked_with(fields)
        if failure is not None:
            self._show_refused(failure, models)
            return None
        self._show("key", "ok", f"the key in {env} is taken" if env else "none is needed")
        another, names = another_model(llm, served, answered), f"{served} answers as {answered or served}"
        self._show("model", "failed" if another else "ok", another or names)
        return None if another else llm

    async def _listed(self) -> list[str] | None:
        """The models that the server lists; None where it is not there."""
        models: list[str] = []
        async with PostingClient(self._endpoint, self._asked) as client:
            try:
                models = await client.models()
            except CallError as failure:
                if failure.status is None:
                    advice = "check llm.base_url, and that the server runs there"
                    self._show("reachable", "failed", f"{failure.words} -> {advice}")
                    return None
        found = f"lists {len(models)} model{'s' * (len(models) != 1)}" if models else "answers, and lists no models"
        self._show("reachable", "ok", found)
        return models

    async def _fields_that_pass(self, failure: CallError) -> FieldsConfig | None:
        """The fields with as few left out as it takes to be answered; None if none can be left out to that end.

        Endpoints mostly object to one field at a time. So a field is left out for good if the objection is another
        one without it, those that the objection names first.
        """
        if failure.for_all or not (failure.refused or failure.status == HTTPStatus.INTERNAL_SERVER_ERROR):
            return None  # llama.cpp answers 500 where a chat template objects
        fields, left = self._asked.fields, list(FieldsConfig.__struct_fields__)
        objection: CallError | None = failure
        while objection is not None:
            for name in sorted(left, key=lambda name: name not in failure.words.casefold()):
                less = msgspec.structs.replace(fields, **{name: False})
                objection, _ = await self._asked_with(less)
                if objection is None or _steady(objection.words) != _steady(failure.words):
                    fields, failure = less, objection or failure
                    left.remove(name)
                    break
            else:
                return None
        renamed = msgspec.structs.replace(fields, max_tokens="max_completion_tokens")
        is_renamed = fields.max_tokens is False and (await self._asked_with(renamed))[0] is None
        return renamed if is_renamed else fields

    def _show_refused(self, failure: CallError, models: Sequence[str]) -> None:
        """Shows why there is no answer, and what to do about it."""
        asked, env = self._endpoint.served_model, self._asked.api_key_env
        if models and not any(is_same_model(asked, model) for model in models):
            found = f"{asked} is not served: {listed(models, MOST_LISTED)} -> set llm.model to one of them"
            return self._show("model", "failed", f"{failure.words}; {found}")
        if failure.status in KEY_REFUSED and env is None:
            advice = "the recipe names no key: set llm.api_key_env to the variable that holds it"
        elif failure.status in KEY_REFUSED:
            advice = f"check the value of {env}, or name another variable in llm.api_key_env"
        elif failure.refused and (self._asked.extra_body or self._asked.thinking is False):
            advice = "leave out llm.extra_body and llm.thinking, one at a time, or what is behind this"
        else:
            advice = "see to it there, or change [llm]"
        name = "key" if failure.status in KEY_REFUSED else "answer"
        return self._show(name, "failed", f"{failure.words} -> {advice}")

    async def _asked_with(self, fields: FieldsConfig) -> tuple[CallError | None, str | None]:
        """Makes one call, which is not stored; returns the failure, and the name of the model that answered."""
        llm, started = msgspec.structs.replace(self._asked, fields=fields), time.monotonic()
        try:
            async with PostingClient(self._endpoint, llm) as client:
                raw: dict[str, Any] = await client.complete(body_of(self._request, llm))
        except UserError as error:
            return CallError(str(error), refused=True, for_all=True), None
        except CallError as failure:
            return failure, None
        answer = answer_of("", {**raw, "seconds": time.monotonic() - started, "ended": time.time()})
        self._account.add(answer, new=True, prompt_bytes=bytes_of(self._request.messages))
        return None, raw.get("model")


def _steady(words: str) -> str:
    """Words without numbers, such as those of requests, which differ from one time to the next."""
    return re.sub(r"\d+", "", words)


def in_toml(fields: FieldsConfig) -> str:
    """The fields that are not as usual, as a line of a recipe.

    >>> in_toml(FieldsConfig(max_tokens="max_completion_tokens", seed=False))
    'fields = { max_tokens = "max_completion_tokens", seed = false }'
    """
    changed = {name: json.dumps(value) for name, value in msgspec.to_builtins(fields).items() if value is not True}
    return f"fields = {{ {', '.join(f'{name} = {value}' for name, value in changed.items())} }}"
