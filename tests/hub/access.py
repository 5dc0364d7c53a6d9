"""Who asks, and what they may do."""

from dataclasses import dataclass

from tests.hub.answers import RefusedError
from tests.hub.store import Repo


@dataclass(frozen=True)
class Caller:
    """The owner of a token."""

    user: str
    role: str  # "write" or "read"


class Access:
    """Tokens, users and organisations."""

    def __init__(self):
        self.tokens: dict[str, Caller] = {}
        self.orgs: dict[str, set[str]] = {}

    def caller(self, authorization: str | None) -> Caller | None:
        """Who sent this Authorization header, None for nobody; an unknown token is refused."""
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(" ")
        caller = self.tokens.get(token.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            raise RefusedError(
                401, "Invalid credentials in Authorization header", headers={"WWW-Authenticate": "Bearer"}
            )
        return caller

    def belongs(self, user: str, namespace: str) -> bool:
        """Whether `namespace` is the user, or an organisation the user is in."""
        return user == namespace or user in self.orgs.get(namespace, ())

    def require_login(self, caller: Caller | None, code: str | None = None) -> Caller:
        """The caller, unless that is nobody.

        With "RepoNotFound" as code clients raise RepositoryNotFoundError. The real Hub sends no code here, but clients
        recognise its 401 by an https URL only.
        """
        if caller is None:
            raise RefusedError(401, "Invalid username or password.", code, {"WWW-Authenticate": "Bearer"})
        return caller

    def require_writer(self, caller: Caller | None, code: str | None = None) -> Caller:
        caller = self.require_login(caller, code)
        if caller.role != "write":
            raise RefusedError(403, "Forbidden: you must use a write token to change a repository")
        return caller

    def may_see(self, caller: Caller | None, repo: Repo) -> bool:
        return not repo.private or (caller is not None and self.belongs(caller.user, repo.namespace))

    def check_write(self, caller: Caller | None, repo: Repo) -> None:
        caller = self.require_writer(caller, "RepoNotFound")
        if not self.belongs(caller.user, repo.namespace):
            raise RefusedError(403, f"Forbidden: {caller.user} may not write to {repo.id}; a pull request is possible")

    def check_files(self, caller: Caller | None, repo: Repo) -> None:
        """A gated repository shows its metadata to all, but its files to its owners only."""
        if not repo.gated or (caller is not None and self.belongs(caller.user, repo.namespace)):
            return
        if caller is None:
            raise RefusedError(401, f"Access to {repo.kind} {repo.id} is restricted: log in first", "GatedRepo")
        raise RefusedError(
            403, f"Access to {repo.kind} {repo.id} is restricted: {caller.user} is not listed", "GatedRepo"
        )
