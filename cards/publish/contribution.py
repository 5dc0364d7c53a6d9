"""A few files into a Hub repository that others change too: one commit, made again on top of theirs."""

import logging
import random
import time
import warnings
from collections.abc import Callable, Mapping

from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError

from cards.publish.files import LocalFile
from cards.publish.publishing import CONFLICTS, ROUNDS
from foils.errors import UserError
from foils.hub import RepoType, client, explained, files_at, patiently, pin

logger = logging.getLogger(__name__)


def contribute(repo_id: str, kind: RepoType, what: str, title: str, made: Callable[[str], Mapping[str, bytes]]) -> None:
    """Commits files to a repository's `main`; what is there already is not sent.

    Args:
        repo_id: the repository.
        kind: of which kind.
        what: for logs and errors, such as `scores`.
        title: of the commit.
        made: the head of `main` -> path -> content; called anew where somebody else was quicker.

    Raises:
        UserError: `made`'s, or the Hub refuses, or others kept changing the repository.
    """
    with explained(f"{what} of {kind} {repo_id}"):
        for attempt in range(ROUNDS):
            try:
                commit = _once(repo_id, kind, title, made)
            except HfHubHTTPError as error:
                if error.response.status_code not in CONFLICTS:
                    raise
                time.sleep(random.uniform(0, 0.5 * 2**attempt))
                continue
            logger.info("%s: %s", repo_id, f"{what} in commit {commit}" if commit else f"has {what} like these already")
            return
    raise UserError(f"{what} of {kind} {repo_id}: others kept changing the repository; run the same command again")


def _once(repo_id: str, kind: RepoType, title: str, made: Callable[[str], Mapping[str, bytes]]) -> str | None:
    """One atomic commit on top of what `main` is now; None where nothing would change."""
    head = pin(repo_id, "main", kind)
    local = {path: LocalFile.of(path, content) for path, content in made(head).items()}
    there = files_at(repo_id, head, kind)
    operations = [
        CommitOperationAdd(path, file.content) for path, file in local.items() if not file.is_at(there.get(path))
    ]
    if not operations:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
        commit = patiently(
            lambda: client().create_commit(
                repo_id, operations, commit_message=title, parent_commit=head, revision="main", repo_type=kind
            )
        )
    return str(commit.oid)
