"""The routes of the Xet store: uploads of xorbs and shards, and how to put a file together."""

import json
import re

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.answers import RefusedError
from tests.hub.call import Call
from tests.hub.files import Download, receive
from tests.hub.xet import Xet


def token(call: Call) -> JSONResponse:
    """A token for the store, once in the body and once in headers: clients read either."""
    scope = call.request.path_params["scope"]
    if scope not in ("read", "write") or not call.hub.xet_enabled:
        raise RefusedError(404, "no such token, or this Hub does without Xet")
    call.repo(write=scope == "write", files=scope == "read").resolve(call.part("rev"))
    access_token, end = call.xet.token(scope)
    url = call.hub.cas_url
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": access_token, "X-Xet-Token-Expiration": str(end)}
    return JSONResponse({"accessToken": access_token, "exp": end, "casUrl": url}, headers=headers)


def _store(request: Request, scope: str) -> Xet:
    xet = request.app.state.hub.xet
    if request.path_params["uuid"] != xet.uuid:
        raise RefusedError(404, "this Xet store is gone")
    xet.check_token(request.headers.get("authorization"), scope)
    return xet


async def upload_xorb(request: Request) -> Response:
    xet = _store(request, "write")
    name = request.path_params["hash"]
    if not re.fullmatch("[0-9a-f]{64}", name):  # it becomes a file's name
        raise RefusedError(400, "not the hash of a xorb")
    with xet.blobs.incoming() as path:
        await receive(request, path)
        inserted = await run_in_threadpool(xet.add_xorb, name, path)
    return JSONResponse({"was_inserted": inserted})


async def upload_shard(request: Request) -> Response:
    xet = _store(request, "write")
    await run_in_threadpool(xet.add_shard, await request.body())
    return Response(json.dumps({"type": "result"}) + "\n", media_type="application/x-ndjson")


async def reconstruction(request: Request) -> Response:
    """Which runs of chunks make the file, or the part of it that the Range header names, and where to get them."""
    xet = _store(request, "read")
    file = xet.files.get(request.path_params["hash"])
    if file is None:
        raise RefusedError(404, "no such Xet file")
    start, end = 0, file.size
    if match := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
        start = int(match[1])
        end = min(int(match[2]) + 1, end) if match[2] else end
        if start >= file.size:
            raise RefusedError(
                416, "the file ends before the range begins", headers={"Content-Range": f"bytes */{end}"}
            )
    skip, terms = xet.reconstruction(file, start, end)
    where: dict[str, list] = {}
    for term in dict.fromkeys(terms):
        xorb = xet.xorbs[term.xorb]
        span = {"start": xorb.starts[term.first], "end": xorb.starts[term.end] - 1}
        chunks = {"start": term.first, "end": term.end}
        url = request.app.state.hub.signed_url(f"/xet/{xet.uuid}/data/{term.xorb}", f"{span['start']}-{span['end']}")
        where.setdefault(term.xorb, []).append({"url": url, "ranges": [{"chunks": chunks, "bytes": span}]})
    runs = [{"hash": t.xorb, "unpacked_length": t.length, "range": {"start": t.first, "end": t.end}} for t in terms]
    return JSONResponse({"offset_into_first_range": skip, "terms": runs, "xorbs": where})


async def xorb_data(request: Request) -> Response:
    """The bytes of a xorb, at the other origin and for whoever has the signed URL."""
    hub = request.app.state.hub
    hub.check_signature(request)
    xorb = hub.xet.xorbs.get(request.path_params["hash"])
    if xorb is None or request.path_params["uuid"] != hub.xet.uuid:
        raise RefusedError(404, "no such xorb")
    return Download(xorb.path, media_type="application/octet-stream")


async def unknown(request: Request) -> Response:
    """Chunks that other files share are never pointed out: 404 is the store's usual way to say so."""
    _store(request, "read")
    raise RefusedError(404, "nothing known")


ROUTES = [
    Route("/xet/{uuid}/v1/chunks/default/{hash}", unknown),
    Route("/xet/{uuid}/v1/xorbs/default/{hash}", upload_xorb, methods=["POST"]),
    Route("/xet/{uuid}/v2/shards", upload_shard, methods=["POST"]),
    Route("/xet/{uuid}/v2/reconstructions/{hash}", reconstruction),
]
FILE_ROUTES = [Route("/xet/{uuid}/data/{hash}", xorb_data)]
