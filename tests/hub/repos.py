"""Repositories as a whole, and who is who."""

import re

from starlette.responses import JSONResponse

from tests.hub.answers import RefusedError
from tests.hub.attributes import DEFAULT
from tests.hub.call import Call
from tests.hub.card_metadata import card_data
from tests.hub.files import file_info
from tests.hub.store import KINDS, Note, Repo, Store

NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")


def whoami(call: Call) -> JSONResponse:
    caller = call.access.require_login(call.caller)
    return JSONResponse(
        {
            "type": "user",
            "id": f"user-{caller.user}",
            "name": caller.user,
            "fullname": caller.user.title(),
            "email": f"{caller.user}@example.org",
            "emailVerified": True,
            "isPro": False,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": {"displayName": "loopback", "role": caller.role}},
        }
    )


def auth_check(call: Call) -> JSONResponse:
    call.repo(files=True, write=call.request.url.path.endswith("/write"))
    return JSONResponse({})


def new_repo(store: Store, repo: Repo, author: str) -> Repo:
    """Registers a repository with its first commit, which holds `.gitattributes`."""
    with store.lock:
        first = repo.add({".gitattributes": store.entry(DEFAULT, lfs=False)}, Note("initial commit", author), None)
        repo.refs["main"] = first.oid
        store.repos[repo.kind, repo.id] = repo
    return repo


def create(call: Call) -> JSONResponse:
    """Makes a repository; without an organisation it is the caller's own."""
    caller = call.access.require_writer(call.caller)
    form = call.json
    kind = form.get("type") or "model"
    space, _, name = str(form.get("name", "")).rpartition("/")
    space = space or form.get("organization") or caller.user
    if kind not in KINDS or not NAME.fullmatch(name) or name.endswith(".git"):
        raise RefusedError(400, f"Invalid repository name or type: {kind} {space}/{name}")
    repo_id = f"{space}/{name}"
    if not call.access.belongs(caller.user, space):
        raise RefusedError(403, f'You don\'t have the rights to create a {kind} under the namespace "{space}"')
    private = form.get("visibility") == "private" or form.get("private") is True
    with call.store.lock:
        there = call.store.repos.get((kind, repo_id))
        if there is not None:
            url = f"{call.hub.url}/{there.url_path}"
            message = f"You already created this {kind} repo"
            return JSONResponse(
                {"error": message, "url": url, "name": repo_id, "id": repo_id}, 409, {"X-Error-Message": message}
            )
        repo = new_repo(call.store, Repo(kind, repo_id, call.store, private), caller.user)
    return JSONResponse({"url": f"{call.hub.url}/{repo.url_path}", "name": repo_id, "id": repo_id, "private": private})


def info(call: Call) -> JSONResponse:
    """What is known of a repository at a revision; with `expand`, only what is asked for."""
    repo = call.repo()
    revision = call.part("rev") if "rev" in call.request.path_params else "main"
    everything = describe(repo, revision, blobs=call.query.get("blobs", "").lower() in ("1", "true"))
    asked = call.query.getlist("expand") + call.query.getlist("expand[]")
    if asked:
        everything = {key: value for key, value in everything.items() if key in ("_id", "id", *asked)}
    return JSONResponse(everything)


def describe(repo: Repo, revision: str = "main", blobs: bool = False) -> dict:
    commit = repo.resolve(revision)
    card = card_data(repo.read(commit.oid, "README.md").decode(errors="replace")) if "README.md" in commit.files else {}

    def sibling(path: str) -> dict:
        if not blobs:
            return {"rfilename": path}
        file = file_info(path, commit.files[path])
        large = {"sha256": file["lfs"].pop("oid"), **file["lfs"]} if "lfs" in file else None
        return {"rfilename": path, "size": file["size"], "blobId": file["oid"], **({"lfs": large} if large else {})}

    about = {
        "_id": f"{repo.kind}-{repo.id}",
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.oid,
        "lastModified": commit.date,
        "createdAt": repo.created,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [str(tag) for tag in card.get("tags") or []],
        "cardData": card,
        "siblings": [sibling(path) for path in sorted(commit.files)],
        "usedStorage": sum(entry.size for entry in commit.files.values()),
    }
    if repo.kind == "model":
        about |= {
            "modelId": repo.id,
            "library_name": card.get("library_name"),
            "pipeline_tag": card.get("pipeline_tag"),
        }
    return about
