"""Branches, tags and history."""

import re

from starlette.responses import JSONResponse

from tests.hub.answers import RefusedError, no_revision, page
from tests.hub.call import Call

COMMITS_PAGE = 50
# What git allows in the name of a branch or tag, as far as it matters here.
BAD_NAME = re.compile(r"\.\.|[\x00-\x20\x7f~^:?*\[\\]|@\{|//|/\.|\.lock(/|$)|^[-./]|[/.]$|^@?$")


def list_refs(call: Call) -> JSONResponse:
    repo = call.repo()
    refs = {
        "branches": [_ref(name, f"refs/heads/{name}", oid) for name, oid in repo.refs.items()],
        "converts": [],
        "tags": [_ref(name, f"refs/tags/{name}", oid) for name, oid in repo.tags.items()],
    }
    if "include_prs" in call.query:
        pulls = [f"refs/pr/{num}" for num, pull in repo.pulls.items() if pull.head]
        refs["pullRequests"] = [_ref(name, name, repo.head(name)) for name in pulls]
    return JSONResponse(refs)


def _ref(name: str, ref: str, oid: str | None) -> dict:
    return {"name": name, "ref": ref, "targetCommit": oid}


def commits(call: Call) -> JSONResponse:
    repo = call.repo()
    rows = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author}],
            "date": commit.date,
        }
        for commit in repo.history(call.part("rev"))
    ]
    if call.query.get("expand[]") == "formatted":
        for row in rows:
            row["formatted"] = {"title": row["title"], "message": row["message"]}
    return page(call.request, rows, COMMITS_PAGE, call.hub.url, {"X-Total-Count": str(len(rows))})


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


def delete_tag(call: Call) -> JSONResponse:
    repo = call.repo(write=True)
    if repo.tags.pop(call.part("rev"), None) is None:
        raise no_revision(call.part("rev"))
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
