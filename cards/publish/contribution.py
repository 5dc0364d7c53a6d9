"""A few files into a Hub repository that others change too: one commit, made again on top of theirs."""

import logging
from collections.abc import Callable, Mapping

from huggingface_hub import CommitOperationAdd

from cards.publish.commits import MAIN, commit, in_rounds
from cards.publish.files import LocalFile
from foils.hub import RepoType, explained, files_at, pin

logger = logging.getLogger(__name__)


def contribute(repo_id: str, kind: RepoType, what: str, title: str, made: Callable[[str], Mapping[str, bytes]]) -> None:
    """Commits files to a repository's `main`; what is there already is not sent.

    Args:
        repo_id: the repository.
        kind: of which kind.
        what: for logs and errors, such as `scores`.
        title: of the commit.
        made: the head of `main` -> path -> content; called anew where another writer was quicker.

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
