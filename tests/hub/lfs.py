"""The LFS lane: where to put a large file, and whether it arrived."""

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.answers import RefusedError
from tests.hub.call import Call
from tests.hub.files import receive

SHA256 = re.compile("[0-9a-f]{64}")


def batch(call: Call) -> JSONResponse:
    """Says for each object where to put it, or leaves that out where its content is here already."""
    form = call.json
    repo = call.repo(write=True)
    objects = []
    for wanted in form.get("objects", []):
        oid, size = str(wanted["oid"]), int(wanted["size"])
        answer: dict[str, object] = {"oid": oid, "size": size}
        here = oid in call.store.blobs or oid in call.xet.by_sha256
        if not SHA256.fullmatch(oid):
            answer["error"] = {"code": 422, "message": "not a SHA-256"}
        elif not here:
            verify = {"href": f"{call.hub.url}/api/{repo.kind}s/{repo.id}/lfs-verify"}
            answer["actions"] = {"upload": {"href": call.hub.signed_url(f"/lfs/{oid}")}, "verify": verify}
        objects.append(answer)
    return JSONResponse({"transfer": "basic", "objects": objects})


async def put(request: Request) -> Response:
    hub = request.app.state.hub
    hub.check_signature(request)
    oid = request.path_params["oid"]
    with hub.store.blobs.incoming() as path:
        if await receive(request, path) != oid:
            raise RefusedError(400, "the content does not have the SHA-256 that was announced")
        path.replace(hub.store.blobs.path(oid))
    return Response()


def verify(call: Call) -> JSONResponse:
    call.repo(write=True)
    oid, size = str(call.json.get("oid")), call.json.get("size")
    if not SHA256.fullmatch(oid) or oid not in call.store.blobs:
        raise RefusedError(404, "the object did not arrive")
    if call.store.blobs.path(oid).stat().st_size != size:
        raise RefusedError(422, "the object has another size")
    return JSONResponse({})


FILE_ROUTES = [Route("/lfs/{oid}", put, methods=["PUT"])]
