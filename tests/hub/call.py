"""A request as the handlers see it."""

import json
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.requests import Request

from tests.hub.answers import RefusedError
from tests.hub.store import Repo

if TYPE_CHECKING:
    from tests.hub.server import Hub


class Call:
    """One request to the API, with its body, and the means to find and guard the repository it is about."""

    def __init__(self, hub: "Hub", request: Request, body: bytes):
        self.hub = hub
        self.request = request
        self.body = body
        self.query = request.query_params
        self.store, self.access, self.xet = hub.store, hub.access, hub.xet
        self.caller = self.access.caller(request.headers.get("authorization"))

    def part(self, name: str) -> str:
        """A part of the path. Routing is done on the path as sent, where a quoted slash is no separator."""
        return unquote(self.request.path_params[name])

    @property
    def json(self) -> dict:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise RefusedError(400, f"Invalid JSON: {error}") from error

    @property
    def kind(self) -> str:
        kinds = self.request.path_params.get("kinds", "models")
        return kinds.removesuffix("s")

    def repo(self, *, write: bool = False, files: bool = False) -> Repo:
        """The repository in the path, if the caller may see it, write to it, read its files."""
        repo = self.store.repos.get((self.kind, f"{self.part('space')}/{self.part('name')}"))
        if repo is None or not self.access.may_see(self.caller, repo):
            self.access.require_login(self.caller, "RepoNotFound")
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        if write:
            self.access.check_write(self.caller, repo)
        if files:
            self.access.check_files(self.caller, repo)
        return repo
