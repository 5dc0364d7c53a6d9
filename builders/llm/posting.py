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
from builders.llm.messages import Endpoint
from foils.errors import UserError


class StatusError(Exception):
    """The endpoint answered with an error."""

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        super().__init__(f"answered {status}")
        self.status, self.headers, self.text = status, headers, text


class PostingClient(AsyncInferenceClient):
    """A client of one endpoint, with a key of its own: without one it would send the user's Hub token there.

    Args:
        endpoint: where requests go.
        key: the key, or a word that is not a key.
        timeout_s: seconds for one request.
        heard: is shown the status and headers of every response from an address.

    Attributes:
        endpoint: as given.
    """

    def __init__(
        self, endpoint: Endpoint, key: str, timeout_s: float, heard: Callable[[int, Mapping[str, str]], None]
    ) -> None:
        if endpoint.provider is not None:
            super().__init__(provider=endpoint.provider, api_key=key, timeout=timeout_s)  # type: ignore[arg-type]
        else:
            super().__init__(base_url=endpoint.base_url, api_key=key, timeout=timeout_s)
        self.endpoint = endpoint
        self._key, self._timeout_s, self._heard = key, timeout_s, heard
        self._session: aiohttp.ClientSession | None = None
        # vLLM refuses a body of unnamed type.
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        url = _chat_url(endpoint.base_url or "")
        # Escapes stay as they were written: yarl would normalise them otherwise.
        self._url, self._proxy = URL(url, encoded=True), proxy_for(url)

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Has one request (see `messages.body_of`) answered; the answer is as the store keeps it.

        Raises:
            StatusError: the endpoint answered with an error.
            TimeoutError: no answer came in time.
            aiohttp.ClientError: the connection failed, or an httpx2 error of a provider's.
            msgspec.DecodeError: the answer is something other than a chat completion.
        """
        if self.endpoint.provider is not None:
            return await self._by_provider(body)
        asked = {name: body[name] for name in ("messages", "max_tokens", "temperature", "seed")}
        asked |= {"model": self.endpoint.served_model, "stream": False}
        if body["stop"]:
            asked["stop"] = body["stop"]
        content = msgspec.json.encode(asked | body.get("as_is", {}))
        return parsed(await self._exchanged("POST", self._url, content), body["stop"])

    async def read(self, url: str) -> bytes:
        """Reads a page of the server; raises as `complete`."""
        return await self._exchanged("GET", URL(url, encoded=True))

    async def close(self) -> None:
        """Closes all connections."""
        await super().close()  # type: ignore[no-untyped-call]
        if self._session is not None:
            await self._session.close()

    async def _exchanged(self, method: str, url: URL, content: bytes | None = None) -> bytes:
        if self._session is None:  # made inside the event loop, as aiohttp demands
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(self._timeout_s),
                proxy=self._proxy,
                trust_env=False,  # it would also look for keys in ~/.netrc
            )
        async with self._session.request(method, url, data=content, allow_redirects=False) as answer:
            read = await answer.read()
        self._heard(answer.status, answer.headers)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise self._refusal(answer.status, answer.headers, read.decode(errors="replace"))
        return read

    def _refusal(self, status: int, headers: Mapping[str, str], text: str) -> StatusError:
        """An error without the key: servers have been seen to repeat it."""
        return StatusError(status, headers, text.replace(self._key, "***"))

    async def _by_provider(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Each hosted provider wants its own form of a request, which `AsyncInferenceClient` knows."""
        as_is = dict(body.get("as_is", {}))
        try:
            answer = await self.chat_completion(
                model=self.endpoint.served_model,
                messages=list(body["messages"]),
                max_tokens=body["max_tokens"],
                temperature=body["temperature"],
                seed=body["seed"],
                stop=list(body["stop"]) or None,
                response_format=as_is.pop("response_format", None),
                extra_body=as_is or None,
            )
        except HfHubHTTPError as error:
            raise self._refusal(error.response.status_code, error.response.headers, error.response.text) from None
        except ValueError as error:  # the client's own, before it sends: a provider that has no such model
            problem = f"{error}".rstrip(".")
            raise UserError(f"llm.provider: {problem}; see the model's page on the Hub for who serves it") from None
        return parsed(json.dumps(answer).encode(), body["stop"])


def _chat_url(base_url: str) -> str:
    """The address of chat completions, by the rule that `AsyncInferenceClient` has.

    >>> _chat_url("http://h:1/v1/"), _chat_url("http://h:1")
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
