"""The wire under `AsyncInferenceClient`: it shapes the requests and names the errors, aiohttp carries the bytes.

Why: httpx2's own pool is capped at 100 connections and, uncapped, spends more time on a call the more connections are
open (1.9 ms at 256); aiohttp's does not. `python -m tests.bench.llm_calls` measures both.
"""

import urllib.request
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import httpx2
import msgspec
from yarl import URL

Watch = Callable[[int, Mapping[str, str]], None]

RAW_BODY: ContextVar[list[bytes] | None] = ContextVar("RAW_BODY", default=None)
"""Where a caller sets a list, the body of a successful answer goes into it as it came, and the client gets `{}`.

`AsyncInferenceClient` turns an answer into nested dataclasses, which takes longer than the whole exchange here; a
caller that decodes the few fields it needs by itself saves that, and checks their types besides.
"""


def http_client(watch: Watch) -> httpx2.AsyncClient:
    """A client without event hooks, so that HF_HUB_OFFLINE does not cut off an endpoint on this machine.

    Args:
        watch: is shown status and headers of every response, because `AsyncInferenceClient` returns bodies only.
    """
    return _Client(AiohttpTransport(watch))


class _Target(NamedTuple):
    """What is the same for all requests to an address: worked out once.

    Attributes:
        url: the address.
        proxy: the proxy on the way there.
        request: stands for the request in errors; holds no key.
        taken: what the client gets in place of an answer whose body went into `RAW_BODY`.
    """

    url: URL
    proxy: str | None
    request: httpx2.Request
    taken: httpx2.Response


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Sends requests through one aiohttp session without a cap on connections."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
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
                content = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error, target.request) from error
        self._watch(answer.status, answer.headers)
        raw = RAW_BODY.get()
        if raw is not None and answer.status < HTTPStatus.BAD_REQUEST:
            raw.append(content)
            return target.taken
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
        taken = httpx2.Response(HTTPStatus.OK, content=b"{}", request=request)
        # Escapes stay as they were written: yarl would normalise them otherwise.
        target = _Target(URL(url, encoded=True), proxy_for(url), request, taken)
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
        return await self._aiohttp.exchange(str(url), headers or {}, msgspec.json.encode(body), seconds)


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
