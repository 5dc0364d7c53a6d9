"""The client of one LLM endpoint: one POST a request, through aiohttp.

Why not httpx2: its pool is capped at 100 connections and, uncapped, spends more time on a call the more connections are
open (1.9 ms at 256); aiohttp's does not. `python -m tests.bench.llm_calls` measures both.
"""

import re
import urllib.request
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from builders.llm.completion import parsed
from builders.llm.config import LlmConfig, api_key
from builders.llm.messages import Endpoint


class StatusError(Exception):
    """The endpoint answered with an error, or with 200 and something other than a completion."""

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        super().__init__(f"answered {status}")
        self.status, self.headers, self.text = status, headers, text


class PostingClient:
    """A client of one endpoint, with a key of its own: the user's Hub token stays at home.

    Args:
        endpoint: where requests go.
        config: its key, its time-out, and the names of a request's fields.
        heard: is shown the status and headers of every response.

    Attributes:
        endpoint: as given.

    Raises:
        UserError: the key is not in the environment.
    """

    def __init__(
        self, endpoint: Endpoint, config: LlmConfig, heard: Callable[[int, Mapping[str, str]], None] = lambda *_: None
    ) -> None:
        self.endpoint = endpoint
        self._key, self._timeout_s, self._fields, self._heard = api_key(config), config.timeout_s, config.fields, heard
        self._session: aiohttp.ClientSession | None = None
        # vLLM refuses a body of unnamed type.
        self._headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        url = _chat_url(endpoint.base_url)
        # Escapes stay as they were written: yarl would normalise them otherwise.
        self._url, self._proxy = URL(url, encoded=True), proxy_for(url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Has one request (see `messages.body_of`) answered; the answer is as the store keeps it.

        Raises:
            StatusError: the endpoint answered with an error, or with something other than a completion.
            TimeoutError: no answer came in time.
            aiohttp.ClientError: the connection failed.
        """
        asked = {"model": self.endpoint.served_model, **self._named(body)}
        answer = await self._exchanged("POST", self._url, msgspec.json.encode(asked))
        try:
            return parsed(answer, body["stop"])
        except (msgspec.DecodeError, UnicodeDecodeError):
            text = answer.decode(errors="replace")
            raise StatusError(_status_in(text), {}, text.replace(self._key, "***")) from None

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
            # Without the key: servers have been seen to repeat it.
            raise StatusError(answer.status, answer.headers, read.decode(errors="replace").replace(self._key, "***"))
        return read


def _status_in(body: str) -> int:
    """The status of an error that came with HTTP 200, as routers send them; 200 where it has none.

    >>> _status_in('{"error": {"code": 502}}'), _status_in('{"error": {"code": "filtered"}}'), _status_in("[]")
    (502, 200, 200)
    """
    found = re.search(r'"(?:code|status|status_code)"\s*:\s*"?([45]\d\d)\b', body)
    return int(found[1]) if found else int(HTTPStatus.OK)


def _chat_url(base_url: str) -> str:
    """The address of chat completions, by the rule that Hugging Face's `InferenceClient` has.

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
