"""Files to publish, and what the Hub has of them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.hf_api import RepoFile

from cards.hub import RepoType, client, patiently
from cards.provenance import sha256_file

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
    if "configs" in record:
        return {path: digest for about in record["configs"].values() for path, digest in about["files"].items()}
    return dict(record.get("files", {}))


def read_remote(repo_id: str, repo_type: RepoType, revision: str, path: str) -> str | None:
    """A small text file as it is on the Hub at a commit; None where there is none.

    Raises:
        HfHubHTTPError: whatever the Hub answered.
    """
    try:
        local = patiently(lambda: client().hf_hub_download(repo_id, path, repo_type=repo_type, revision=revision))
    except EntryNotFoundError:
        return None
    return Path(local).read_text("utf-8")


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
