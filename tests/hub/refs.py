"""Branches and tags."""

import re

from starlette.responses import JSONResponse

from tests.hub.answers import RefusedError
from tests.hub.call import Call

# What git allows in the name of a branch or tag, as far as it matters here.
BAD_NAME = re.compile(r"\.\.|[\x00-\x20\x7f~^:?*\[\\]|@\{|//|/\.|\.lock(/|$)|^[-./]|[/.]$|^@?$")


def list_refs(call: Call) -> JSONResponse:
    repo = call.repo()

    def listed(place: str, refs: dict[str, str]) -> list[dict]:
        return [{"name": name, "ref": f"refs/{place}/{name}", "targetCommit": oid} for name, oid in refs.items()]

    return JSONResponse({"branches": listed("heads", repo.refs), "converts": [], "tags": listed("tags", repo.tags)})


def create_tag(call: Call) -> JSONResponse:
    repo = call.repo(write=True)
    tag = str(call.json.get("tag", ""))
    if BAD_NAME.search(tag):
        raise RefusedError(400, f"Invalid tag name: {tag!r}")
    with call.store.lock:
        target = repo.resolve(call.part("rev"))
        if tag in repo.tags:
            raise RefusedError(409, f"Reference refs/tags/{tag} already exists")
        repo.tags[tag] = target.oid
    return JSONResponse({})


def create_branch(call: Call) -> JSONResponse:
    """A branch may have the name of a tag."""
    repo = call.repo(write=True)
    branch = call.part("branch")
    if BAD_NAME.search(branch) or branch.startswith("refs/"):
        raise RefusedError(400, f"Invalid branch name: {branch!r}")
    with call.store.lock:
        if branch in repo.refs:
            raise RefusedError(409, f"Reference refs/heads/{branch} already exists")
        repo.refs[branch] = repo.resolve(call.json.get("startingPoint") or "main").oid
    return JSONResponse({})


def delete_branch(call: Call) -> JSONResponse:
    repo = call.repo(write=True)
    branch = call.part("branch")
    if branch == "main":
        raise RefusedError(403, "Cannot delete refs/heads/main")
    if repo.refs.pop(branch, None) is None:
        raise RefusedError(404, f"Invalid rev id: refs/heads/{branch}", "RevisionNotFound")
    return JSONResponse({})
