"""Writing: what a client asks before an upload, and the commit itself."""

import base64
import binascii
import json
import re
from fnmatch import fnmatch

from starlette.responses import JSONResponse

from tests.hub import attributes
from tests.hub.answers import RefusedError, no_entry
from tests.hub.call import Call
from tests.hub.store import Entry, Note, Store, above_of, git_blob_id, is_safe, pointer
from tests.hub.xet import Xet


def preupload(call: Call) -> JSONResponse:
    """Says for each file how it has to be sent, whether it is ignored, and which content is there already."""
    repo = call.repo(write=True)
    revision = call.part("rev")
    # Where a tag has the branch's name, the branch is meant: content that is only at the tag must still be sent.
    files = repo.resolve(repo.head(revision) or revision).files
    rules = attributes.lfs_patterns(_content(call.store, files, ".gitattributes"))
    ignored = _content(call.store, files, ".gitignore").decode().split()
    answers = []
    for file in call.json.get("files", []):
        path = file["path"]
        large = attributes.is_large(path, file["size"], base64.b64decode(file.get("sample") or ""), rules)
        there = files.get(path)
        answers.append(
            {
                "path": path,
                "uploadMode": "lfs" if large else "regular",
                "shouldIgnore": any(fnmatch(path, pattern) for pattern in ignored),
                "oid": there and (there.sha256 if there.lfs else there.oid),
            }
        )
    return JSONResponse({"files": answers})


def _content(store: Store, files: dict[str, Entry], path: str) -> bytes:
    return store.open_path(files[path].sha256).read_bytes() if path in files else b""


def commit(call: Call) -> JSONResponse:
    """Commits the operations of an NDJSON body, all or none."""
    repo = call.repo(write=True)
    try:
        lines = [json.loads(line) for line in call.body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        operations = [(line["key"], line["value"]) for line in lines if line["key"] != "header"]
        note = Note(header["summary"], call.caller.user, header.get("description") or "")
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise RefusedError(400, f"The commit cannot be read: {error!r}") from error

    def change(files: dict[str, Entry]) -> None:
        apply(files, operations, call.store, call.xet)

    made = repo.commit(call.part("rev"), change, note, header.get("parentCommit"))
    url = f"{call.hub.url}/{repo.url_path}/commit/{made.oid}"
    return JSONResponse({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def apply(files: dict[str, Entry], operations: list[tuple[str, dict]], store: Store, xet: Xet) -> None:
    """Does the operations in their order. A rename comes as a copy and a deletion."""
    for key, value in operations:
        path = value["path"]
        if key == "deletedFolder":
            _delete_folder(files, path.rstrip("/"))
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                _delete_folder(files, path)
        elif not is_safe(path):
            raise RefusedError(422, f"Invalid path: {path}")
        elif any(above in files for above in above_of(path)) or any(p.startswith(path + "/") for p in files):
            raise RefusedError(400, f"{path} would be a file and a folder at once")
        elif key == "file":
            files[path] = _regular(value, store)
        elif key == "lfsFile":
            files[path] = _large(value, store, xet)
        else:
            raise RefusedError(400, f"Unknown operation: {key}")
    if ".gitattributes" not in (value["path"] for _, value in operations):
        add_rules(files, [value["path"] for key, value in operations if key == "lfsFile"], store)


def add_rules(files: dict[str, Entry], large: list[str], store: Store) -> None:
    old = _content(store, files, ".gitattributes")
    new = attributes.with_rules(old, [path for path in large if path in files])
    if new != old:
        files[".gitattributes"] = store.entry(new, lfs=False)


def _delete_folder(files: dict[str, Entry], folder: str) -> None:
    below = [path for path in files if path.startswith(folder + "/")]
    if not below:
        raise no_entry("A file with this name doesn't exist")
    for path in below:
        del files[path]


def _regular(value: dict, store: Store) -> Entry:
    content = value.get("content", "")
    if value.get("encoding") != "base64":
        return store.entry(content.encode(), lfs=False)
    try:
        return store.entry(base64.b64decode(content, validate=True), lfs=False)
    except binascii.Error as error:
        raise RefusedError(400, f"The content of {value['path']} is not base64: {error}") from error


def _large(value: dict, store: Store, xet: Xet) -> Entry:
    """A large file, of which a commit carries the SHA-256 alone: its bytes have to be here already."""
    sha256 = value["oid"]
    file = xet.by_sha256.get(sha256)
    if file is None and (not re.fullmatch("[0-9a-f]{64}", sha256) or sha256 not in store.blobs):
        raise RefusedError(400, f"The content of {value['path']} ({sha256}) was not uploaded")
    size = file.size if file else store.blobs.path(sha256).stat().st_size
    if value.get("size", size) != size:  # a copy gives no size
        raise RefusedError(400, f"{value['path']} should have {value['size']} bytes, but {size} were uploaded")
    return Entry(size, git_blob_id(pointer(sha256, size)), sha256, lfs=True, xet_hash=file and file.hash)


def plain_entry(store: Store, files: dict[str, Entry], path: str, data: bytes) -> Entry:
    """The entry of a file that does not come over the wire; no path is too odd here."""
    rules = attributes.lfs_patterns(_content(store, files, ".gitattributes"))
    return store.entry(data, lfs=attributes.is_large(path, len(data), data[:512], rules))
