"""The client of one LLM endpoint: an `AsyncInferenceClient` that posts to an address of ours through aiohttp.

Why: httpx2's own pool is capped at 100 connections and, uncapped, spends more time on a call the more connections are
open (1.9 ms at 256); aiohttp's does not. `python -m tests.bench.llm_calls` measures both.
"""

import json
import re
import urllib.request
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import HfHubHTTPError
from yarl import URL

from builders.llm.completion import parsed
from builders.llm.config import LlmConfig, api_key
from builders.llm.failures import CONNECTION_ERRORS, CallError, answered_badly, unanswered
from builders.llm.messages import Endpoint
from foils.errors import UserError


class PostingClient(AsyncInferenceClient):
    """A client of one endpoint, with a key of its own: without one it would send the user's Hub token there.

    Args:
        endpoint: where requests go.
        config: its key, its time-out, and the names of a request's fields.
        heard: is shown the status and headers of every response from an address.

    Attributes:
        endpoint: as given.

    Raises:
        UserError: the key is not in the environment.
    """

    def __init__(
        self, endpoint: Endpoint, config: LlmConfig, heard: Callable[[int, Mapping[str, str]], None] = lambda *_: None
    ) -> None:
        self.endpoint = endpoint
        self._key, self._timeout_s, self._heard = api_key(config), config.timeout_s, heard
        if endpoint.provider is not None:
            super().__init__(provider=endpoint.provider, api_key=self._key, timeout=config.timeout_s)  # type: ignore[arg-type]
        else:
            super().__init__(base_url=endpoint.base_url, api_key=self._key, timeout=config.timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._address = chat_url(endpoint.base_url or "")
        self._system = config.fields.system
        names = {name: getattr(config.fields, name) for name in ("max_tokens", "temperature", "seed", "stop", "stream")}
        self._names = {name: name if other is True else other for name, other in names.items() if other}

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Has one request (see `messages.body_of`) answered; the answer is as the store keeps it.

        Raises:
            CallError: the endpoint answered with an error or with something other than a completion, or not at all.
            UserError: the provider does not serve the model.
        """
        asked = self._named(body)
        if self.endpoint.provider is not None:
            answer = await self._by_provider(asked)
        else:
            asked["model"] = self.endpoint.served_model
            answer = await self._exchanged("POST", self._address, msgspec.json.encode(asked))
        try:
            return parsed(answer, body["stop"])
        except ValueError:
            raise self._refusal(HTTPStatus.OK, {}, answer.decode(errors="replace")) from None

    def _named(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request's fields but the model, under the names that the endpoint has for them."""
        messages = body["messages"]
        if messages[0]["role"] == "system" and self._system is False:
            first, second, *others = messages
            messages = [{**second, "content": f"{first['content']}\n\n{second['content']}"}, *others]
        elif messages[0]["role"] == "system" and self._system is not True:
            messages = [{**messages[0], "role": self._system}, *messages[1:]]
        asked = {theirs: value for ours, theirs in self._names.items() if (value := body.get(ours, False)) != ()}
        return {"messages": messages, **asked, **body.get("as_is", {})}

    async def models(self) -> list[str]:
        """The models that the server lists.

        Raises:
            CallError: it has no list, or does not answer.
        """
        page = await self._exchanged("GET", f"{self._address.removesuffix('/chat/completions')}/models")
        try:
            return [str(entry["id"]) for entry in json.loads(page)["data"]]
        except (ValueError, KeyError, TypeError):
            raise self._refusal(HTTPStatus.OK, {}, "") from None

    async def close(self) -> None:
        """Closes all connections."""
        await super().close()  # type: ignore[no-untyped-call]
        if self._session is not None:
            await self._session.close()

    async def _exchanged(self, method: str, url: str, content: bytes | None = None) -> bytes:
        if self._session is None:  # made inside the event loop, as aiohttp demands
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                # vLLM refuses a body of unnamed type.
                headers={"authorization": f"Bearer {self._key}", "content-type": "application/json"},
                timeout=aiohttp.ClientTimeout(self._timeout_s),
                proxy=proxy_for(self._address),
                trust_env=False,  # it would also look for keys in ~/.netrc
            )
        try:
            # Escapes stay as they were written: yarl would normalise them otherwise.
            address = URL(url, encoded=True)
            async with self._session.request(method, address, data=content, allow_redirects=False) as answer:
                read = await answer.read()
        except CONNECTION_ERRORS as error:
            raise unanswered(error) from None
        self._heard(answer.status, answer.headers)
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(answer.status, answer.headers, read.decode(errors="replace"))
        return read

    def _refusal(self, status: int, headers: Mapping[str, str], text: str) -> CallError:
        """A failure without the key: servers have been seen to repeat it."""
        return answered_badly(status, headers, text.replace(self._key, "***"))

    async def _by_provider(self, asked: dict[str, Any]) -> bytes:
        """Each hosted provider wants its own form of a request, which `AsyncInferenceClient` knows."""
        asked.pop("stream", None)
        usual = ("messages", "max_tokens", "temperature", "seed", "stop", "response_format")
        known = {name: asked.pop(name) for name in usual if name in asked}
        try:
            answer = await self.chat_completion(model=self.endpoint.served_model, extra_body=asked or None, **known)
        except HfHubHTTPError as error:
            raise self._refusal(error.response.status_code, error.response.headers, error.response.text) from None
        except CONNECTION_ERRORS as error:
            raise unanswered(error) from None
        except json.JSONDecodeError as error:
            raise self._refusal(HTTPStatus.OK, {}, error.doc) from None
        except ValueError as error:  # the client's own, before it sends: a provider that has no such model
            problem = f"{error}".rstrip(".")
            raise UserError(f"llm.provider: {problem}; see the model's page on the Hub for who serves it") from None
        return json.dumps(answer).encode()


def chat_url(base_url: str) -> str:
    """The address of chat completions, by the rule that `AsyncInferenceClient` has.

    >>> chat_url("http://h:1/v1/"), chat_url("http://h:1")
    ('http://h:1/v1/chat/completions', 'http://h:1/v1/chat/completions')
    """
    url = base_url.rstrip("/")
    if url.endswith("/chat/completions"):
        return url
    return f"{url}/chat/completions" if url.endswith("/v1") else f"{url}/v1/chat/completions"


def proxy_for(url: str) -> str | None:
    """The environment's proxy for an address; never one for this machine's own, whatever `no_proxy` says."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if (
        host in {"localhost", "::1"}
        or re.fullmatch(r"127[\d.]+|.+\.localhost", host)
        or urllib.request.proxy_bypass(host)
    ):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
