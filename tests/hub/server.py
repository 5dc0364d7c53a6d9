"""The Hub as an object: started in a thread, set up and looked into by the process that started it."""

import hashlib
import hmac
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import uvicorn
from starlette.requests import Request as HttpRequest

from tests.hub.access import Access, Caller
from tests.hub.answers import RefusedError
from tests.hub.app import App
from tests.hub.commits import add_rules, plain_entry
from tests.hub.faults import Faults, Request
from tests.hub.repos import new_repo
from tests.hub.store import Entry, Note, Repo, Store
from tests.hub.xet import Xet

START_S = 30


class Hub:
    """A Hub on loopback.

    Args:
        port: The port; 0 takes a free one at the first start and keeps it from then on.
        xet: Whether large files may come and go by Xet; the LFS lane is always open.
        storage: Folder for the bytes of files, in a folder of their own that goes away with the Hub; None for the
            system's temporary folder.
        token: A write token that is always valid.
        user: Whose token that is.

    Attributes:
        requests: Every request since the last reset, in order of arrival.
        faults: `faults.add(Fault(...))` scripts an error.
        on_request: Called before each request is handled with its number (from 1, in `requests`), method and path.
    """

    def __init__(
        self,
        port: int = 0,
        xet: bool = True,
        storage: str | Path | None = None,
        token: str = "hf_loopback_token_of_alice",
        user: str = "alice",
    ):
        self.port = port
        self.xet_enabled = xet
        self.token = token
        self.user = user
        self.requests: list[Request] = []
        self.faults = Faults()
        self.on_request: Callable[[int, str, str], object] | None = None
        self._storage = storage
        self._folder: tempfile.TemporaryDirectory | None = None
        self._lock = threading.Lock()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets all but the port and the default token.

        The Xet store gets another URL, since clients remember by URL which chunks they need not send again.
        """
        if self._folder is not None:
            self._folder.cleanup()
        if self._storage is not None:
            Path(self._storage).mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="hub-", dir=self._storage, ignore_cleanup_errors=True)
        self.store = Store(Path(self._folder.name))
        self.xet = Xet(self.store.folder / "xet", self.store.blobs)
        self.store.assemble = self.xet.assemble
        self.access = Access()
        self.add_token(self.token, self.user)
        self._secret = secrets.token_bytes(16)
        self.faults.clear()
        self.requests.clear()
        self.on_request = None

    # Starting and stopping

    def start(self) -> Self:
        """Serves until `stop`. After a stop it comes back at the same port, with all it had."""
        if self._server is not None:
            raise RuntimeError("this Hub is running already")
        # asyncio switches Nagle's algorithm off only where the protocol is given: else every answer takes 40 ms.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            App(self),
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="error",
            proxy_headers=False,
            timeout_keep_alive=600,  # a client must not find its pooled connection closed between two steps of a test
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="hub", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"the Hub did not start on port {self.port}")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Stops serving; repositories stay until `reset`, or until the Hub itself is gone."""
        if self._server is None:
            return
        self._server.should_exit = True
        self._thread.join(10)
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT has to be."""
        if not self.port:
            raise RuntimeError("the port is chosen in start()")
        return f"http://127.0.0.1:{self.port}"

    @property
    def files_url(self) -> str:
        """The other origin, where the bytes of large files lie."""
        return f"http://localhost:{self.port}"

    @property
    def cas_url(self) -> str:
        return f"{self.url}/xet/{self.xet.uuid}"

    # People

    def add_token(self, token: str, user: str, role: str = "write") -> None:
        """Makes a token valid, and its user known."""
        if role not in ("write", "read"):
            raise ValueError(f"role={role!r}: expected 'write' or 'read'")
        self.access.tokens[token] = Caller(user, role)

    def add_org(self, name: str, members: tuple[str, ...] = ("alice",)) -> None:
        self.access.orgs[name] = set(members)

    # Setting a scene, and looking at what became of it

    def repos(self) -> list[tuple[str, str]]:
        """Type and id of each repository."""
        return list(self.store.repos)

    def repo(self, kind: str, repo_id: str) -> Repo:
        return self.store.repos[kind, repo_id]

    def create_repo(self, kind: str, repo_id: str, private: bool = False, gated: bool | str = False) -> Repo:
        if (kind, repo_id) in self.store.repos:
            raise ValueError(f"{kind} {repo_id} exists already")
        gated = "auto" if gated is True else gated
        return new_repo(self.store, Repo(kind, repo_id, self.store, private, gated), repo_id.partition("/")[0])

    def commit(
        self,
        kind: str,
        repo_id: str,
        files: dict[str, bytes],
        revision: str = "main",
        message: str = "Another writer's commit",
        deleted: tuple[str, ...] = (),
    ) -> str:
        """Commits as the owner would, but with no check of paths, and returns the commit's id.

        Large files get no Xet hash this way: they are served by redirect only.
        """
        repo = self.repo(kind, repo_id)

        def change(entries: dict[str, Entry]) -> None:
            for path in deleted:
                del entries[path]
            new = {path: plain_entry(self.store, entries, path, data) for path, data in files.items()}
            entries.update(new)
            add_rules(entries, [path for path, entry in new.items() if entry.lfs], self.store)

        return repo.commit(revision, change, Note(message, repo.namespace)).oid

    def tag(self, kind: str, repo_id: str, name: str, revision: str = "main") -> None:
        repo = self.repo(kind, repo_id)
        if name in repo.tags:
            raise ValueError(f"tag {name} exists already; move_tag moves it")
        repo.tags[name] = repo.resolve(revision).oid

    def move_tag(self, kind: str, repo_id: str, name: str, revision: str) -> None:
        repo = self.repo(kind, repo_id)
        if name not in repo.tags:
            raise ValueError(f"there is no tag {name}")
        repo.tags[name] = repo.resolve(revision).oid

    # For the handlers

    def note(self, request: Request) -> int:
        """Notes a request and returns its number."""
        with self._lock:
            self.requests.append(request)
            return len(self.requests)

    def signed_url(self, path: str, about: str = "") -> str:
        """A URL that works without a token, as storage services give them out."""
        return f"{self.files_url}{path}?about={about}&signature={self._signature(path, about)}"

    def check_signature(self, request: HttpRequest) -> None:
        query = request.query_params
        expected = self._signature(request.scope["path"], query.get("about", ""))
        if not hmac.compare_digest(expected, query.get("signature", "")):
            raise RefusedError(403, "the signature of this URL does not match")

    def _signature(self, path: str, about: str) -> str:
        return hmac.new(self._secret, f"{path}?{about}".encode(), hashlib.sha256).hexdigest()
