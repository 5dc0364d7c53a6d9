"""Pull requests and discussions, as much of them as an upload with `create_pr` needs."""

from starlette.responses import JSONResponse

from tests.hub.answers import RefusedError
from tests.hub.call import Call
from tests.hub.store import Entry, Note, Pull, Repo, now


def new_pull(repo: Repo, title: str, author: str, head: str | None) -> Pull:
    pull = Pull(len(repo.pulls) + 1, title, author, head, now())
    repo.pulls[pull.num] = pull
    return pull


def describe(repo: Repo, pull: Pull) -> dict:
    details = {
        "num": pull.num,
        "title": pull.title,
        "author": {"name": pull.author},
        "createdAt": pull.created,
        "status": pull.status,
        "repo": {"name": repo.id, "type": repo.kind},
        "isPullRequest": pull.head is not None,
        "events": [],
    }
    if pull.head is not None:
        details["changes"] = {"base": "refs/heads/main"}
        if pull.merged:
            details["changes"]["mergeCommitId"] = pull.merged
        details["filesWithConflicts"] = []
        details["diff"] = ""
    return details


def create(call: Call) -> JSONResponse:
    repo = call.repo()
    author = call.access.require_writer(call.caller, "RepoNotFound").user
    form = call.json
    with call.store.lock:
        head = repo.resolve("main").oid if form.get("pullRequest") else None
        pull = new_pull(repo, form.get("title", ""), author, head)
    return JSONResponse(describe(repo, pull))


def show(call: Call) -> JSONResponse:
    return JSONResponse(describe(*_find(call)))


def index(call: Call) -> JSONResponse:
    repo = call.repo()
    rows = [describe(repo, pull) for pull in repo.pulls.values()]
    return JSONResponse({"discussions": rows, "count": len(rows), "start": 0})


def merge(call: Call) -> JSONResponse:
    """Takes the files of a pull request over to main, where both have not changed the same ones."""
    repo, pull = _find(call, write=True)
    if pull.head is None or pull.status == "merged":
        raise RefusedError(409, "this is no open pull request")
    with call.store.lock:
        mine = {commit.oid for commit in repo.history("main")}
        new = [commit for commit in repo.history(pull.head) if commit.oid not in mine]
        base = next(commit for commit in repo.history(pull.head) if commit.oid in mine)
        ours = _changes(base.files, repo.resolve("main").files)
        theirs = _changes(base.files, repo.commits[pull.head].files)
        if any(ours[path] != theirs[path] for path in ours.keys() & theirs.keys()):
            raise RefusedError(409, "main and the pull request changed the same files")

        def change(files: dict[str, Entry]) -> None:
            for path, entry in theirs.items():
                files.pop(path, None)
                if entry:
                    files[path] = entry

        title = f"{pull.title} (#{pull.num})" if new else pull.title
        pull.merged = repo.commit("main", change, Note(title, call.caller.user)).oid
        pull.status = "merged"
    return JSONResponse(describe(repo, pull))


def _changes(before: dict[str, Entry], after: dict[str, Entry]) -> dict[str, Entry | None]:
    return {p: after.get(p) for p in before.keys() | after.keys() if before.get(p) != after.get(p)}


def _find(call: Call, write: bool = False) -> tuple[Repo, Pull]:
    repo = call.repo(write=write)
    num = call.part("num")
    pull = repo.pulls.get(int(num)) if num.isdigit() else None
    if pull is None:
        raise RefusedError(404, f"no discussion {num}")
    return repo, pull
