"""Atomic commits to a repository that others change too: what all of publishing goes through."""

import logging
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from cards.publish.files import LocalFile
from foils.errors import UserError
from foils.hub import RepoType, client, explained, files_at, patiently, pin

logger = logging.getLogger(__name__)

MAIN = "main"
ROUNDS = 8
CONFLICTS = {409, 412}
Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete
T = TypeVar("T")


class Conflict(Exception):  # noqa: N818 - not an error: a reason to look at the Hub again
    """Another writer was faster, or an answer was lost and the work is done already."""


def in_rounds(what: str, attempt: Callable[[], T]) -> T:
    """Makes an attempt again, from a new look at the Hub, until no other writer gets in between.

    Raises:
        UserError: others kept changing the repository.
    """
    for number in range(ROUNDS):
        try:
            return attempt()
        except Conflict as conflict:
            logger.info("%s: %s; looking again", what, conflict)
            time.sleep(random.uniform(0, 0.5 * 2**number))
    raise UserError(f"{what}: others kept changing the repository at the same time; run the same command again")


@contextmanager
def conflicts() -> Iterator[None]:
    """Turns what a concurrent writer causes, or a lost answer, into `Conflict`; the rest passes."""
    try:
        yield
    except RevisionNotFoundError as error:
        raise Conflict("another writer deleted a branch") from error
    except HfHubHTTPError as error:
        if error.response.status_code not in CONFLICTS:
            raise
        raise Conflict(f"another writer was faster ({error.response.status_code})") from error


def commit(
    repo: tuple[str, RepoType], operations: Sequence[Operation], title: str, parent: str, branch: str = MAIN
) -> str:
    """Makes one atomic commit on top of `parent` and returns its id.

    Raises:
        Conflict: the branch has moved on.
    """
    with conflicts(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
        made = patiently(
            lambda: client().create_commit(
                repo[0], operations, commit_message=title, revision=branch, parent_commit=parent, repo_type=repo[1]
            )
        )
    return str(made.oid)


def contribute(repo_id: str, kind: RepoType, what: str, title: str, made: Callable[[str], Mapping[str, bytes]]) -> None:
    """Commits files to a repository's `main`; what is there already is not sent.

    Args:
        repo_id: the repository.
        kind: of which kind.
        what: for logs and errors, such as `scores`.
        title: of the commit.
        made: the head of `main` -> path -> content; called again where another writer was faster.

    Raises:
        UserError: `made`'s, or the Hub refuses, or others kept changing the repository.
    """

    def once() -> str | None:
        head = pin(repo_id, MAIN, kind)
        local = {path: LocalFile.of(path, content) for path, content in made(head).items()}
        there = files_at(repo_id, head, kind)
        missing = [
            CommitOperationAdd(path, file.content) for path, file in local.items() if not file.is_at(there.get(path))
        ]
        return commit((repo_id, kind), missing, title, head) if missing else None

    label = f"{what} of {kind} {repo_id}"
    with explained(label):
        oid = in_rounds(label, once)
    logger.info("%s: %s", repo_id, f"{what} in commit {oid}" if oid else f"has {what} like these already")
