"""What the Hub keeps: repositories in memory, the bytes of their files on disk."""

import hashlib
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.hub.answers import RefusedError, no_entry, no_revision

KINDS = ("model", "dataset", "space")


@dataclass(frozen=True)
class Entry:
    """A file in a commit. Its bytes lie in the blob store under their SHA-256."""

    size: int
    oid: str  # git's id of the content or, for a large file, of the LFS pointer that stands for it
    sha256: str
    lfs: bool
    xet_hash: str | None = None


@dataclass(frozen=True)
class Commit:
    """A full snapshot of a repository."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, Entry]


@dataclass(frozen=True)
class Note:
    """Who commits, and what they say about it."""

    title: str
    author: str
    message: str = ""


class Blobs:
    """Files named by the SHA-256 of their content."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def __contains__(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A path to write to first: a blob appears under its name whole or not at all."""
        path = self.folder / f"incoming-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self:
            with self.incoming() as path:
                path.write_bytes(data)
                path.replace(self.path(sha256))
        return sha256


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def git_blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """The text that git keeps in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


@dataclass
class Repo:
    """A repository. `refs` (its branches) and `tags` map names to commit ids."""

    kind: str
    id: str
    store: "Store" = field(repr=False)
    private: bool = False
    gated: bool | str = False
    created: str = field(default_factory=now)
    commits: dict[str, Commit] = field(default_factory=dict, repr=False)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def url_path(self) -> str:
        return self.id if self.kind == "model" else f"{self.kind}s/{self.id}"

    def resolve(self, revision: str) -> Commit:
        """The commit behind a tag, branch or (shortened) commit id; a tag goes before a branch."""
        head = self.tags.get(revision) or self.head(revision)
        if head is None and re.fullmatch("[0-9a-f]{7,40}", revision):
            head = next((oid for oid in self.commits if oid.startswith(revision)), None)
        if head is None:
            raise no_revision(revision)
        return self.commits[head]

    def head(self, branch: str) -> str | None:
        return self.refs.get(branch.removeprefix("refs/heads/"))

    def commit(
        self, branch: str, change: Callable[[dict[str, Entry]], None], note: Note, parent: str | None = None
    ) -> Commit:
        """Commits what `change` does to the files. All or nothing; if it changes nothing, the head is returned.

        Args:
            branch: Its name.
            change: Alters the dict of files it is given; what it raises undoes the whole.
            note: Title, text and author.
            parent: The commit the writer believes to be the head; if it is not, the commit is refused with 412.
        """
        with self.store.lock:
            head = self.head(branch)
            if head is None:
                raise no_revision(branch)
            if parent and not head.startswith(parent):
                raise RefusedError(
                    412, "The branch was updated since you opened this page. Please refresh and try again."
                )
            before = self.commits[head].files
            files = dict(before)
            change(files)
            if files == before:
                return self.commits[head]
            commit = self.add(files, note, head)
            self.refs[branch.removeprefix("refs/heads/")] = commit.oid
            return commit

    def add(self, files: dict[str, Entry], note: Note, parent: str | None) -> Commit:
        """A new commit that no branch points to yet.

        Ids are random: clients cache by commit id and would take a repository made anew for the old one.
        """
        commit = Commit(secrets.token_hex(20), parent, note.title, note.message, note.author, now(), files)
        self.commits[commit.oid] = commit
        return commit

    def read(self, revision: str, path: str) -> bytes:
        """The content of a file."""
        entry = self.resolve(revision).files.get(path)
        if entry is None:
            raise no_entry(f'{path} does not exist on "{revision}"')
        return self.store.open_path(entry.sha256).read_bytes()


class Store:
    """All repositories, and the folder with their bytes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs = Blobs(folder / "blobs")
        # Set by the Xet store: files that came in as chunks, and how to put one together.
        self.assemble: Callable[[str], None] = lambda _: None

    def open_path(self, sha256: str) -> Path:
        """The path of a blob; a file that came by Xet is put together when its plain bytes are first asked for."""
        if sha256 not in self.blobs:
            self.assemble(sha256)
        return self.blobs.path(sha256)

    def entry(self, data: bytes, lfs: bool) -> Entry:
        """Stores `data` and says what a commit holds of it."""
        sha256 = self.blobs.put(data)
        return Entry(len(data), git_blob_id(pointer(sha256, len(data)) if lfs else data), sha256, lfs)


def is_safe(path: str) -> bool:
    """Whether a path stays inside the repository, whatever a client makes of it."""
    return not any(part in ("", ".", "..", ".git") for part in path.split("/"))


def above_of(path: str) -> list[str]:
    """The folders that a path lies in."""
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
