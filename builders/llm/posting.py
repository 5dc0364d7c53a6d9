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
from builders.llm.messages import Endpoint
from foils.errors import UserError


class StatusError(Exception):
    """The endpoint answered with an error, or with 200 and something other than a completion."""

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        super().__init__(f"answered {status}")
        self.status, self.headers, self.text = status, headers, text


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
        self._key, self._timeout_s, self._fields, self._heard = api_key(config), config.timeout_s, config.fields, heard
        if endpoint.provider is not None:
            super().__init__(provider=endpoint.provider, api_key=self._key, timeout=self._timeout_s)  # type: ignore[arg-type]
        else:
            super().__init__(base_url=endpoint.base_url, api_key=self._key, timeout=self._timeout_s)
        self.endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        # vLLM refuses a body of unnamed type.
        self._headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        url = chat_url(endpoint.base_url or "")
        # Escapes stay as they were written: yarl would normalise them otherwise.
        self._url, self._proxy = URL(url, encoded=True), proxy_for(url)

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Has one request (see `messages.body_of`) answered; the answer is as the store keeps it.

        Raises:
            StatusError: the endpoint answered with an error, or with something other than a completion.
            TimeoutError: no answer came in time.
            aiohttp.ClientError: the connection failed, or an httpx2 error of a provider's.
        """
        asked = self._named(body)
        if self.endpoint.provider is not None:
            answer = await self._by_provider(asked)
        else:
            asked["model"] = self.endpoint.served_model
            answer = await self._exchanged("POST", self._url, msgspec.json.encode(asked))
        try:
            return parsed(answer, body["stop"])
        except (msgspec.DecodeError, UnicodeDecodeError):
            text = answer.decode(errors="replace")
            raise self._refusal(_status_in(text), {}, text) from None

    def _named(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request's fields but the model, under the names that the endpoint has for them."""
        fields, messages = self._fields, list(body["messages"])
        if messages[0]["role"] == "system" and fields.system is False:
            first, second, *others = messages
            messages = [{**second, "content": f"{first['content']}\n\n{second['content']}"}, *others]
        elif messages[0]["role"] == "system" and fields.system is not True:
            messages[0] = {**messages[0], "role": fields.system}
        asked: dict[str, Any] = {"messages": messages}
        for name in ("max_tokens", "temperature", "seed", "stop", "stream"):
            wanted, value = getattr(fields, name), body.get(name, False)
            if wanted and value != ():
                asked[name if wanted is True else wanted] = value
        asked.update(body.get("as_is", {}))
        return asked

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
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(answer.status, answer.headers, read.decode(errors="replace"))
        return read

    def _refusal(self, status: int, headers: Mapping[str, str], text: str) -> StatusError:
        """An error without the key: servers have been seen to repeat it."""
        return StatusError(status, headers, text.replace(self._key, "***"))

    async def _by_provider(self, asked: dict[str, Any]) -> bytes:
        """Each hosted provider wants its own form of a request, which `AsyncInferenceClient` knows."""
        asked.pop("stream", None)
        usual = ("messages", "max_tokens", "temperature", "seed", "stop", "response_format")
        known = {name: asked.pop(name) for name in usual if name in asked}
        try:
            answer = await self.chat_completion(model=self.endpoint.served_model, extra_body=asked or None, **known)
        except HfHubHTTPError as error:
            raise self._refusal(error.response.status_code, error.response.headers, error.response.text) from None
        except json.JSONDecodeError as error:
            raise self._refusal(HTTPStatus.OK, {}, error.doc) from None
        except ValueError as error:  # the client's own, before it sends: a provider that has no such model
            problem = f"{error}".rstrip(".")
            raise UserError(f"llm.provider: {problem}; see the model's page on the Hub for who serves it") from None
        return json.dumps(answer).encode()


def _status_in(body: str) -> int:
    """The status of an error that came with HTTP 200, as routers send them; 200 where it has none.

    >>> _status_in('{"error": {"code": 502}}'), _status_in('{"error": {"code": "filtered"}}'), _status_in("[]")
    (502, 200, 200)
    """
    found = re.search(r'"(?:code|status|status_code)"\s*:\s*"?([45]\d\d)\b', body)
    return int(found[1]) if found else int(HTTPStatus.OK)


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
