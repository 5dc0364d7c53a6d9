"""Files to publish, and what the Hub has of them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_hub.hf_api import RepoFile

from foils.errors import UserError
from foils.hub import RepoType, check_path, client, patiently
from foils.provenance import sha256_file

CARD = "README.md"
GROUP_FILES, GROUP_BYTES = 50, 2 * 2**30


class LocalFile(NamedTuple):
    """A file to publish; compares itself with what the Hub has."""

    path: str
    content: Path | bytes
    size: int
    sha256: str

    @classmethod
    def of(cls, path: str, content: Path | bytes) -> "LocalFile":
        """A file with its size and hash."""
        if isinstance(content, bytes):
            return cls(path, content, len(content), hashlib.sha256(content).hexdigest())
        return cls(path, content, content.stat().st_size, sha256_file(content))

    def is_at(self, remote: RepoFile | None) -> bool:
        """Whether the Hub's file has the same content."""
        if remote is None or remote.size != self.size:
            return False
        return remote.lfs.sha256 == self.sha256 if remote.lfs else remote.blob_id == self._git_blob()

    def _git_blob(self) -> str:
        content = self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def listed_files(record: Mapping[str, Any]) -> dict[str, str]:
    """Path -> SHA-256 of all files that a manifest or a run record vouches for."""
    rows = {path: digest for about in record.get("configs", {}).values() for path, digest in about["files"].items()}
    return {**rows, **record.get("files", {})}


def local_files(folder: Path, record_name: str, card: str) -> list[LocalFile]:
    """Card, all that a folder's record lists, and last the record; the folder may hold other things.

    Raises:
        UserError: a file is not there, is not as the record says, or does not lie in the folder.
    """
    expected = listed_files(json.loads((folder / record_name).read_text("utf-8")))
    files = [LocalFile.of(CARD, card.encode())]
    for path in [*sorted(expected.keys() - {record_name, CARD}), record_name]:
        check_path(path, f"{folder / record_name}")
        local = folder / path
        if not local.is_file():
            raise UserError(f"{local}: {record_name} lists it and it is not there; make the folder again")
        file = LocalFile.of(path, local)
        if file.sha256 != expected.get(path, file.sha256):
            raise UserError(
                f"{local}: has SHA-256 {file.sha256} and {record_name} says {expected[path]}; it was "
                "changed; make the folder again"
            )
        files.append(file)
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Puts files in place, each complete or not at all."""
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.partial")
        partial.write_bytes(content)
        partial.replace(file)


def read_remote(repo_id: str, repo_type: RepoType, revision: str, path: str) -> str | None:
    """A small text file as it is on the Hub at a commit; None where there is none.

    Raises:
        UserError: it is not text.
        HfHubHTTPError: whatever the Hub answered.
    """
    try:
        local = patiently(lambda: client().hf_hub_download(repo_id, path, repo_type=repo_type, revision=revision))
    except RemoteEntryNotFoundError:  # and not any other reason for which a file cannot be had
        return None
    try:
        return Path(local).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{repo_type} {repo_id}@{revision}: {path} is not UTF-8 at byte {error.start}; correct it on the Hub"
        ) from None


def read_record(repo_id: str, repo_type: RepoType, revision: str, name: str) -> dict[str, Any]:
    """A manifest or run record on the Hub; empty where there is none, or a file of another kind under its name."""
    try:
        record = json.loads(read_remote(repo_id, repo_type, revision, name) or "{}")
        listed_files(record)
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    return dict(record)


def groups(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    """Files by the commit that carries them: a killed upload repeats one group at most."""
    group: list[LocalFile] = []
    for file in files:
        if group and (len(group) == GROUP_FILES or sum(other.size for other in group) + file.size > GROUP_BYTES):
            yield group
            group = []
        group.append(file)
    if group:
        yield group
