"""The ASGI application: records each request, applies scripted faults, and routes it on the path as it was sent."""

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from tests.hub import card_metadata, cas, commits, faults, files, lfs, refs, repos
from tests.hub.answers import RefusedError
from tests.hub.call import Call

if TYPE_CHECKING:
    from tests.hub.server import Hub


class Kinds(StringConvertor):
    """The kinds of repository, as they stand in a path."""

    regex = "models|datasets|spaces"


register_url_convertor("kinds", Kinds())

# Method, path, handler. Paths are matched while still quoted: `refs%2Fpr%2F1` is one part.
API: list[tuple[str, str, Callable[[Call], Response]]] = [
    ("GET", "/api/whoami-v2", repos.whoami),
    ("POST", "/api/validate-yaml", card_metadata.validate_yaml),
    ("POST", "/api/repos/create", repos.create),
]
OF_REPO: list[tuple[str, str, Callable[[Call], Response]]] = [
    ("GET", "", repos.info),
    ("GET", "/revision/{rev}", repos.info),
    ("GET", "/auth-check", repos.auth_check),
    ("GET", "/auth-check/write", repos.auth_check),
    ("GET", "/refs", refs.list_refs),
    ("POST", "/tag/{rev}", refs.create_tag),
    ("POST", "/branch/{branch}", refs.create_branch),
    ("DELETE", "/branch/{branch}", refs.delete_branch),
    ("GET", "/tree/{rev}", files.tree),
    ("GET", "/tree/{rev}/{path:path}", files.tree),
    ("POST", "/paths-info/{rev}", files.paths_info),
    ("POST", "/preupload/{rev}", commits.preupload),
    ("POST", "/commit/{rev}", commits.commit),
    ("POST", "/lfs-verify", lfs.verify),
    ("GET", "/xet-{scope}-token/{rev}", cas.token),
]
OF_FILES: list[tuple[str, str, Callable[[Call], Response]]] = [
    ("GET", "/{space}/{name}/resolve/{rev}/{path:path}", files.resolve),
    ("POST", "/{space}/{name}.git/info/lfs/objects/batch", lfs.batch),
]


class App:
    """Two sites in one: the API at 127.0.0.1, and at localhost the bytes of large files, for which no token is due."""

    def __init__(self, hub: "Hub"):
        self.hub = hub
        rows = API + [(m, "/api/{kinds:kinds}/{space}/{name}" + path, f) for m, path, f in OF_REPO]
        rows += [(m, "/{kinds:kinds}" + path, f) for m, path, f in OF_FILES] + OF_FILES
        self._api = self._site([self._route(*row) for row in rows] + cas.ROUTES)
        self._files = self._site(files.FILE_ROUTES + lfs.FILE_ROUTES + cas.FILE_ROUTES)

    def _site(self, routes: list[BaseRoute]) -> Starlette:
        site = Starlette(routes=routes, exception_handlers={RefusedError: _refuse, 404: _nothing_here})
        site.router.redirect_slashes = False
        site.state.hub = self.hub
        return site

    def _route(self, method: str, path: str, handler: Callable[[Call], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            return await run_in_threadpool(lambda: handler(Call(self.hub, request, body)))

        return Route(path, endpoint, methods=[method])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        note, number = self._note(scope)
        if self.hub.on_request is not None:
            await run_in_threadpool(self.hub.on_request, number, note.method, note.path)
        fault = self.hub.faults.hit(note)
        if fault is not None:
            await run_in_threadpool(fault.act)
            await asyncio.sleep(fault.delay_s)
            if fault.cut is True:
                await cut(receive)
                return
        cut_after = fault is not None and fault.cut == "after"

        async def noted_send(message: Message) -> None:
            if cut_after:
                return
            if message["type"] == "http.response.start":
                note.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", secrets.token_hex(8).encode())]
            await send(message)

        try:
            if fault is not None and fault.status is not None:
                await Request(scope, receive).body()  # else a client amid its upload would see a broken pipe
                await fault.answer()(scope, receive, noted_send)
            else:
                site = self._files if note.host.startswith("localhost") else self._api
                await site(scope, receive, noted_send)
        except ClientDisconnect:
            return
        if cut_after:
            await cut(receive)

    def _note(self, scope: Scope) -> tuple[faults.Request, int]:
        headers = Headers(scope=scope)
        authorization = headers.get("authorization")
        caller = self.hub.access.tokens.get((authorization or "").removeprefix("Bearer "))
        note = faults.Request(
            scope["method"],
            scope["path"],
            token_user=caller and caller.user,
            query=scope["query_string"].decode("ascii"),
            host=headers.get("host", ""),
            authorized=authorization is not None,
        )
        return note, self.hub.note(note)


async def cut(receive: Receive) -> None:
    """Breaks the connection. ASGI has no word for that, so this reaches for uvicorn's transport."""
    receive.__self__.transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(_: Request, refused: RefusedError) -> Response:
    return refused.answer()


async def _nothing_here(request: Request, _: Exception) -> Response:
    hint = "; the API is at 127.0.0.1" if request.url.hostname == "localhost" else ""
    return JSONResponse({"error": f"nothing is served at {request.scope['path']}{hint}"}, 404)
