"""Reading: trees, file infos, and the files themselves."""

from hashlib import sha1, sha256
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tests.hub.answers import RefusedError, no_entry, page
from tests.hub.call import Call
from tests.hub.store import Commit, Entry, above_of, pointer

PAGE = 1000


class Download(FileResponse):
    """A file, or the part of it that is asked for."""

    chunk_size = 1 << 20


async def receive(request: Request, path: Path) -> str:
    """Writes the body to a file as it comes in, and returns its SHA-256."""
    digest = sha256()
    with path.open("wb") as out:
        async for chunk in request.stream():
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def file_info(path: str, entry: Entry) -> dict:
    info = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.lfs:
        size = len(pointer(entry.sha256, entry.size))
        info["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": size}
        if entry.xet_hash:
            info["xetHash"] = entry.xet_hash
    return info


def folder_info(path: str, commit: Commit) -> dict:
    """A folder's id depends on all that is below it, as git's does."""
    below = sorted((p, e.oid) for p, e in commit.files.items() if p.startswith(path + "/"))
    return {"type": "directory", "oid": sha1(repr(below).encode()).hexdigest(), "size": 0, "path": path}


def listing(commit: Commit, folder: str, recursive: bool) -> list[dict]:
    """What a folder holds, sorted by path; "" is the root."""
    prefix = f"{folder}/" if folder else ""
    paths = [path for path in commit.files if path.startswith(prefix)]
    files = paths if recursive else [path for path in paths if "/" not in path[len(prefix) :]]
    folders = {above for path in paths for above in above_of(path) if above.startswith(prefix)}
    if not recursive:
        folders = {path for path in folders if "/" not in path[len(prefix) :]}
    rows = [folder_info(path, commit) for path in folders]
    rows += [file_info(path, commit.files[path]) for path in files]
    return sorted(rows, key=lambda row: row["path"])


def tree(call: Call) -> JSONResponse:
    repo = call.repo()
    commit = repo.resolve(call.part("rev"))
    folder = call.part("path").strip("/") if "path" in call.request.path_params else ""
    rows = listing(commit, folder, call.query.get("recursive", "").lower() in ("1", "true"))
    if folder and not rows:
        raise no_entry(f'{folder} does not exist on "{call.part("rev")}"', {"X-Repo-Commit": commit.oid})
    return page(call.request, rows, PAGE, call.hub.url, {"X-Repo-Commit": commit.oid})


def paths_info(call: Call) -> JSONResponse:
    """Infos of the given paths, without those that do not exist."""
    repo = call.repo()
    commit = repo.resolve(call.part("rev"))
    paths = parse_qs(call.body.decode(), keep_blank_values=True).get("paths", [])
    rows = []
    for path in dict.fromkeys(p.strip("/") for p in paths):
        if path in commit.files:
            rows.append(file_info(path, commit.files[path]))
        elif any(p.startswith(path + "/") for p in commit.files):
            rows.append(folder_info(path, commit))
    return JSONResponse(rows)


def resolve(call: Call) -> Response:
    """A file. Regular ones come at once; large ones by a redirect, to chunks or to a signed URL at another origin.

    The other origin matters: on its own a client would follow the redirect, and miss the headers that are only here.
    """
    repo = call.repo(files=True)
    revision, path = call.part("rev"), call.part("path")
    commit = repo.resolve(revision)
    headers = {"X-Repo-Commit": commit.oid}
    entry = commit.files.get(path)
    if entry is None:
        raise no_entry(headers=headers)
    headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(path.split('/')[-1])}"
    if not entry.lfs:
        headers["ETag"] = f'"{entry.oid}"'
        return Download(call.store.open_path(entry.sha256), headers=headers, media_type="text/plain; charset=utf-8")
    headers["ETag"] = headers["X-Linked-ETag"] = f'"{entry.sha256}"'
    headers["X-Linked-Size"] = str(entry.size)
    headers["Location"] = call.hub.signed_url(f"/cdn/{entry.sha256}")
    if entry.xet_hash and call.hub.xet_enabled:
        auth = f"{call.hub.url}/api/{repo.kind}s/{repo.id}/xet-read-token/{commit.oid}"
        info = f"{call.hub.cas_url}/v2/reconstructions/{entry.xet_hash}"
        headers["X-Xet-Hash"] = entry.xet_hash
        headers["Link"] = f'<{auth}>; rel="xet-auth", <{info}>; rel="xet-reconstruction-info"'
    return Response(status_code=302, headers=headers)


def download(request: Request) -> Response:
    """The plain bytes of a large file, for whoever has the signed URL."""
    hub = request.app.state.hub
    hub.check_signature(request)
    path = hub.store.open_path(unquote(request.path_params["sha256"]))
    if not path.exists():
        raise RefusedError(404, "no such file")
    etag = f'"{request.path_params["sha256"]}"'
    return Download(path, headers={"ETag": etag}, media_type="application/octet-stream")


FILE_ROUTES = [Route("/cdn/{sha256}", download)]
