"""The client of one LLM endpoint: an `AsyncInferenceClient` that posts to an address of ours through aiohttp.

Why: httpx2's own pool is capped at 100 connections and, uncapped, spends more time on a call the more connections are
open (1.9 ms at 256); aiohttp's does not. `python -m tests.bench.llm_calls` measures both.
"""

import json
import urllib.request
from collections.abc import Callable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
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

MAX_ANSWER_BYTES = 16 * 2**20


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
    """

    def __init__(
        self, endpoint: Endpoint, key: str, timeout_s: float, heard: Callable[[int, Mapping[str, str]], None]
    ) -> None:
        if endpoint.provider is not None:
            super().__init__(provider=endpoint.provider, api_key=key, timeout=timeout_s)  # type: ignore[arg-type]
        else:
            super().__init__(base_url=endpoint.base_url, api_key=key, timeout=timeout_s)
        self._endpoint = endpoint
        self._heard = heard
        self._session: aiohttp.ClientSession | None = None
        self._timeout_s = timeout_s
        # vLLM refuses a body of unnamed type.
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        url = _chat_url(endpoint.base_url or "")
        # Escapes stay as they were written: yarl would normalise them otherwise.
        self._url, self._proxy = URL(url, encoded=True), proxy_for(url)

    async def complete(self, body: Mapping[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """Has one request answered.

        Args:
            body: the request, see `messages.body_of`.
            seconds: the time-out, where it is shorter than the client's.

        Returns:
            The answer as the store keeps it, and `model`.

        Raises:
            StatusError: the endpoint answered with an error.
            TimeoutError: no answer came in time.
            aiohttp.ClientError: the connection failed, or an httpx2 error of a provider's.
            msgspec.DecodeError: the answer is something other than a chat completion.
        """
        timeout_s = self._timeout_s if seconds is None else min(seconds, self._timeout_s)
        if self._endpoint.provider is not None:
            return await self._by_provider(body)
        asked = {
            "model": self._endpoint.served_model,
            "messages": body["messages"],
            "max_tokens": body["max_tokens"],
            "temperature": body["temperature"],
            "seed": body["seed"],
            "stream": False,
        }
        if body["stop"]:
            asked["stop"] = body["stop"]
        content = await self._exchanged(
            "POST", self._url, timeout_s, msgspec.json.encode(asked | body.get("as_is", {}))
        )
        return parsed(content, body["stop"])

    async def read(self, url: str, seconds: float) -> bytes:
        """Reads a page of the server; raises as `complete`."""
        return await self._exchanged("GET", URL(url, encoded=True), seconds)

    async def close(self) -> None:
        """Closes all connections."""
        await super().close()  # type: ignore[no-untyped-call]
        if self._session is not None:
            await self._session.close()

    async def _exchanged(self, method: str, url: URL, seconds: float, content: bytes | None = None) -> bytes:
        if self._session is None:  # made inside the event loop, as aiohttp demands
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # it would also look for keys in ~/.netrc
            )
        async with self._session.request(
            method,
            url,
            data=content,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(seconds),
            allow_redirects=False,
            proxy=self._proxy,
        ) as answer:
            read = await _read(answer)
        self._heard(answer.status, answer.headers)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise StatusError(answer.status, answer.headers, read.decode(errors="replace"))
        return read

    async def _by_provider(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Each hosted provider wants its own form of a request, which `AsyncInferenceClient` knows."""
        as_is = dict(body.get("as_is", {}))
        try:
            answer = await self.chat_completion(
                model=self._endpoint.served_model,
                messages=list(body["messages"]),
                max_tokens=body["max_tokens"],
                temperature=body["temperature"],
                seed=body["seed"],
                stop=list(body["stop"]) or None,
                response_format=as_is.pop("response_format", None),
                extra_body=as_is or None,
            )
        except HfHubHTTPError as error:
            raise StatusError(error.response.status_code, error.response.headers, error.response.text) from None
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


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body.

    Raises:
        aiohttp.ClientPayloadError: it is far too long to be an answer.
    """
    length = answer.content_length
    if length is not None and length <= MAX_ANSWER_BYTES:
        return await answer.read()
    parts, size = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
    return b"".join(parts)


def proxy_for(url: str) -> str | None:
    """The environment's proxy for an address; never one for this machine's own, whatever `no_proxy` says."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
