"""The wire under `AsyncInferenceClient`: it shapes the requests and names the errors, aiohttp carries the bytes.

Why: httpx2's own pool is capped at 100 connections and, uncapped, spends more time on a call the more connections are
open (1.9 ms at 256); aiohttp's does not. `python -m tests.bench.llm_calls` measures both.
"""

import urllib.request
from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import aiohttp
import httpx2
import msgspec
from yarl import URL

MAX_ANSWER_BYTES = 16 * 2**20


class Watch(Protocol):
    """Is shown status and headers of every response, because `AsyncInferenceClient` returns bodies only."""

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """A response has come."""


class Sent(NamedTuple):
    """A request: its address, its headers (with the key) and its body."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class Exchange:
    """What one call wants of the wire beyond what `AsyncInferenceClient` hands on, and what came back.

    Attributes:
        as_is: goes into the body as it stands, where the client would rewrite it (`response_format`) or drop it.
        watch: is shown the response's status and headers.
        short: a successful answer stays here, and `AnswerTakenError` cuts the way back through the client short: it
            would turn the body into nested dataclasses, which takes longer than all else it does.
        body: the answer's bytes.
        headers: the answer's headers.
        sent: the request as it went out.
    """

    __slots__ = ("as_is", "body", "headers", "sent", "short", "watch")

    def __init__(self, as_is: Mapping[str, Any], watch: Watch | None = None, *, short: bool = True) -> None:
        self.as_is = as_is
        self.watch = watch
        self.short = short
        self.body = b""
        self.headers: Mapping[str, str] = {}
        self.sent: Sent | None = None


class AnswerTakenError(Exception):
    """No failure: the answer is in the `Exchange`."""


EXCHANGE: ContextVar[Exchange | None] = ContextVar("EXCHANGE", default=None)
"""The call that this task is making."""


def http_client() -> httpx2.AsyncClient:
    """A client without event hooks, so that HF_HUB_OFFLINE does not cut off an endpoint on this machine."""
    return _Client(AiohttpTransport())


class _Target(NamedTuple):
    """What is the same for all requests to an address: worked out once.

    Attributes:
        url: the address.
        proxy: the proxy on the way there.
        request: stands for the request in errors; holds no key.
    """

    url: URL
    proxy: str | None
    request: httpx2.Request


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Sends requests through one aiohttp session without a cap on connections."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._targets: dict[str, _Target] = {}
        self._timeouts: dict[float | None, aiohttp.ClientTimeout] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends one request and reads the whole answer; its time-out is one for all of that.

        Raises:
            httpx2.TransportError: what httpx2's own transport would raise in its place.
        """
        headers = {name: value for name, value in request.headers.items() if name not in {"host", "accept-encoding"}}
        seconds = request.extensions.get("timeout", {}).get("read")
        return await self.exchange(str(request.url), headers, request.content, seconds, request.method)

    async def exchange(
        self, url: str, headers: Mapping[str, str], body: bytes, seconds: float | None, method: str = "POST"
    ) -> httpx2.Response:
        """The same for a request in parts, which spares httpx2's bookkeeping on the way there and back."""
        target = self._targets.get(url) or self._add_target(url)
        timeout = self._timeouts.get(seconds) or self._timeouts.setdefault(seconds, aiohttp.ClientTimeout(seconds))
        try:
            async with self._opened().request(
                method,
                target.url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                proxy=target.proxy,
            ) as answer:
                content = await _read(answer)
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error, target.request) from error
        exchange = EXCHANGE.get()
        if exchange is not None:
            if exchange.watch is not None:
                exchange.watch.heard(answer.status, answer.headers)
            if answer.status < HTTPStatus.BAD_REQUEST:
                exchange.body, exchange.headers = content, answer.headers
                if exchange.short:
                    raise AnswerTakenError
        # aiohttp has decoded the body and joined its parts already.
        about = [(n, v) for n, v in answer.raw_headers if n.lower() not in {b"content-encoding", b"transfer-encoding"}]
        return httpx2.Response(answer.status, headers=about, content=content, request=target.request)

    async def aclose(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # made inside the event loop, as aiohttp demands
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # it would also look for keys in ~/.netrc
            )
        return self._session

    def _add_target(self, url: str) -> _Target:
        request = httpx2.Request("POST", url)
        # Escapes stay as they were written: yarl would normalise them otherwise.
        target = _Target(URL(url, encoded=True), proxy_for(url), request)
        return self._targets.setdefault(url, target)


class _Client(httpx2.AsyncClient):
    """httpx2's client with a short way for what `AsyncInferenceClient` does all the time: posting JSON."""

    def __init__(self, transport: AiohttpTransport) -> None:
        super().__init__(transport=transport, timeout=None, trust_env=False)
        self._aiohttp = transport

    async def post(self, url: httpx2.URL | str, **about: Any) -> httpx2.Response:
        """Posts JSON straight through aiohttp; there are no defaults, cookies or redirects here to go into it."""
        body, headers, seconds = about.pop("json", None), about.pop("headers", None), about.pop("timeout", None)
        if body is None or any(value is not None for value in about.values()):
            return await super().post(url, json=body, headers=headers, timeout=seconds, **about)
        exchange = EXCHANGE.get()
        if exchange is not None:
            body = {**body, **exchange.as_is} if exchange.as_is else body
            exchange.sent = Sent(str(url), headers or {}, body)
        return await self._aiohttp.exchange(str(url), headers or {}, msgspec.json.encode(body), seconds)


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


def _translated(error: Exception, request: httpx2.Request) -> httpx2.RequestError:
    """An aiohttp failure as the httpx2 exception of the same meaning."""
    kinds: tuple[tuple[type[Exception], type[httpx2.RequestError]], ...] = (
        (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
        (TimeoutError, httpx2.ReadTimeout),
        (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
        (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
        (aiohttp.ClientConnectorError, httpx2.ConnectError),
        (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
        (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
        (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    )
    kind = next((ours for theirs, ours in kinds if isinstance(error, theirs)), httpx2.ReadError)
    return kind(str(error), request=request)
