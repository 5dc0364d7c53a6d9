"""The LFS lane: where to put a large file, in one piece or in parts, and whether it arrived."""

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.answers import RefusedError
from tests.hub.call import Call
from tests.hub.files import receive

PART = 16 << 20  # bytes; whatever is larger comes in parts of this size
SHA256 = re.compile("[0-9a-f]{64}")


def batch(call: Call) -> JSONResponse:
    """Says for each object where to put it, or leaves that out where its content is here already."""
    form = call.json
    repo = call.repo(write=True)
    multipart = "multipart" in form.get("transfers", [])
    objects = []
    for wanted in form.get("objects", []):
        oid, size = str(wanted["oid"]), int(wanted["size"])
        answer: dict[str, object] = {"oid": oid, "size": size}
        here = oid in call.store.blobs or oid in call.xet.by_sha256
        if not SHA256.fullmatch(oid):
            answer["error"] = {"code": 422, "message": "not a SHA-256"}
        elif not here:
            verify = {"href": f"{call.hub.url}/api/{repo.kind}s/{repo.id}/lfs-verify"}
            answer["actions"] = {"upload": _where(call, oid, size, multipart), "verify": verify}
        objects.append(answer)
    return JSONResponse({"transfer": "multipart" if multipart else "basic", "objects": objects})


def _where(call: Call, oid: str, size: int, multipart: bool) -> dict:
    if size <= PART or not multipart:
        return {"href": call.hub.signed_url(f"/lfs/{oid}")}
    parts = range(1, -(-size // PART) + 1)
    header = {str(n): call.hub.signed_url(f"/lfs/{oid}/{n}") for n in parts}
    # The client sends no token along with the request that ends the upload: here too the signature has to do.
    return {
        "href": call.hub.signed_url(f"/api/complete_multipart/{oid}", origin=call.hub.url),
        "header": {"chunk_size": str(PART), **header},
    }


async def put(request: Request) -> Response:
    hub = request.app.state.hub
    hub.check_signature(request)
    oid = request.path_params["oid"]
    with hub.store.blobs.incoming() as path:
        if await receive(request, path) != oid:
            raise RefusedError(400, "the content does not have the SHA-256 that was announced")
        path.replace(hub.store.blobs.path(oid))
    return Response()


async def put_part(request: Request) -> Response:
    hub = request.app.state.hub
    hub.check_signature(request)
    target = _part(hub.store.folder, request.path_params["oid"], request.path_params["n"])
    with hub.store.blobs.incoming() as path:
        etag = await receive(request, path)
        path.replace(target)
    return Response(headers={"ETag": f'"{etag}"'})


def _part(folder: Path, oid: str, n: str | int) -> Path:
    (folder / "parts").mkdir(exist_ok=True)
    return folder / "parts" / f"{oid}-{int(n)}"


async def complete(request: Request) -> Response:
    hub = request.app.state.hub
    hub.check_signature(request)
    form = await request.json()
    oid = unquote(request.path_params["oid"])
    if form.get("oid") != oid:
        raise RefusedError(400, "this is another object's upload")
    paths = [_part(hub.store.folder, oid, part["partNumber"]) for part in form.get("parts", [])]
    await run_in_threadpool(_join, hub.store.blobs, oid, paths)
    return JSONResponse({"success": True})


def _join(blobs, oid: str, parts: list[Path]) -> None:
    digest = hashlib.sha256()
    with blobs.incoming() as path:
        with path.open("wb") as out:
            for part in parts:
                if not part.exists():
                    raise RefusedError(400, "a part is missing")
                with part.open("rb") as source:
                    while data := source.read(1 << 20):
                        digest.update(data)
                        out.write(data)
        if digest.hexdigest() != oid:
            raise RefusedError(400, "the parts do not have the SHA-256 that was announced")
        path.replace(blobs.path(oid))
    for part in parts:
        part.unlink(missing_ok=True)


def verify(call: Call) -> JSONResponse:
    call.repo(write=True)
    oid, size = str(call.json.get("oid")), call.json.get("size")
    if not SHA256.fullmatch(oid) or oid not in call.store.blobs:
        raise RefusedError(404, "the object did not arrive")
    if call.store.blobs.path(oid).stat().st_size != size:
        raise RefusedError(422, "the object has another size")
    return JSONResponse({})


ROUTES = [Route("/api/complete_multipart/{oid}", complete, methods=["POST"])]
FILE_ROUTES = [
    Route("/lfs/{oid}", put, methods=["PUT"]),
    Route("/lfs/{oid}/{n:int}", put_part, methods=["PUT"]),
]
