"""Publishes a folder as one version of a Hub repository: atomic for the reader, resumable for the writer.

The files of a version gather on a branch of their own, named by version and content. When all are there and have been
read back, the tag is made on that very commit; only then does `main` take over the same files, in one commit. So a tag
never shows half a version, and neither does `main`. Each step looks at the Hub first and does what is still missing:
a publication that was killed anywhere goes on where it stopped, and a second process with the same content meets the
first one's work instead of repeating it.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from msgspec import Struct

from cards.comparison import publish_comparison
from cards.merging import parse_card
from cards.publish.commits import MAIN, Conflict, Operation, commit, conflicts, in_rounds
from cards.publish.files import CARD, LocalFile, groups, listed_files, local_files, read_record, read_remote
from cards.publish.readback import check_bytes
from cards.publish.release import Target
from cards.publish.versions import Version, as_version
from foils.errors import UserError, scrub
from foils.hub import RepoType, client, explained, files_at, patiently
from foils.provenance import sha256_json

logger = logging.getLogger(__name__)

STAGING = re.compile(r"staging-(v\d+\.\d+\.\d+)-[0-9a-f]{12}")


class Bundle(Struct, frozen=True):
    """What is published.

    Attributes:
        folder: holds the files.
        repo_type: of the repository.
        record: the file that lists a version's files with their SHA-256, `manifest.json` or `run.json`.
        card: the README.
        merge: `(generated card, card on the Hub) -> card`, so that what people wrote stays.
        load: loads a tag as its readers will, with a folder as the cache; raises `UserError` where that fails.
        loaded: what that reads, for the log.
        superseded: paths on `main` that a new version leaves no meaning to, such as scores of older weights.
    """

    folder: Path
    repo_type: RepoType
    record: str
    card: str
    merge: Callable[[str, str], str]
    load: Callable[[Path, str], None] = lambda _home, _tag: None
    loaded: str = ""
    superseded: Callable[[Mapping[str, Any], Sequence[str]], Sequence[str]] = lambda _record, _paths: ()


def publish(bundle: Bundle, target: Target, version: Version) -> None:
    """Makes a version, or finds it made; then the card gets the comparison that the folder's card has.

    Args:
        bundle: the files.
        target: the repository, which is created if need be.
        version: becomes the tag.

    Raises:
        UserError: the version exists with other content, the Hub refuses, or the files come back otherwise.
    """
    repo_id = target.repo_id
    what = f"publishing {version} to {bundle.repo_type} {repo_id}"
    with explained(what), TemporaryDirectory(prefix="foils-readback-") as home:
        files = local_files(bundle.folder, bundle.record, bundle.card)  # first: a damaged folder makes no repository
        _create_repo(repo_id, bundle.repo_type, target.private)
        looks: list[_Publication] = []

        def attempt() -> tuple[str, bool]:
            looks.append(_Publication(bundle, files, repo_id, version))
            return looks[-1].run(Path(home))

        commit, new = in_rounds(what, attempt)
    found = "is there with the same content: nothing to do"
    done = f"published, {bundle.loaded}read back and verified" if new or len(looks) > 1 else found
    logger.info("%s@%s: %s; commit %s", repo_id, version, done, commit)
    publish_comparison(bundle.folder, repo_id, bundle.repo_type)


class _Publication:
    """One look at the Hub and the steps that are still missing."""

    def __init__(self, bundle: Bundle, files: Sequence[LocalFile], repo_id: str, version: Version) -> None:
        self._bundle, self._id, self._type, self._version = bundle, repo_id, bundle.repo_type, version
        self._files = files
        # A branch that only this very content uses; a card may change between two tries.
        self._content = {file.path: file.sha256 for file in files if file.path != CARD}
        self._staging = f"staging-{version}-{sha256_json(self._content)[:12]}"
        refs = patiently(lambda: client().list_repo_refs(repo_id, repo_type=self._type))
        self._tags = {tag.name: tag.target_commit for tag in refs.tags}
        self._branches = {branch.name: branch.target_commit for branch in refs.branches}

    def run(self, home: Path) -> tuple[str, bool]:
        """Takes the steps; returns the version's commit, and whether anything was missing."""
        name = str(self._version)
        commit = self._tags.get(name)
        new = commit is None
        if commit is None:
            commit = self._stage()
            check_bytes(home, self._id, self._type, commit, {file.path: file.sha256 for file in self._files})
            self._tag(commit)
        else:
            self._refuse_other_content(commit)
        if not self._is_behind_main():
            operations = self._main_operations(commit)
            if operations:
                if not new:  # the run that made the tag may have been killed before it had looked
                    check_bytes(home, self._id, self._type, commit, self._content)
                self._bundle.load(home, name)
                title = f"{name}: {'data set' if self._type == 'dataset' else 'model'} and card"
                self._commit(MAIN, operations, self._branches[MAIN], title)
                new = True
        self._delete_spent_branches()
        return commit, new

    def _stage(self) -> str:
        """The commit with all files of the version, complete and on top of what `main` had when the branch began.

        What an earlier version left goes first and our record comes last: until then the branch has the record that
        says what it began with, also when an earlier try was killed and `main` has moved on since.
        """
        if self._staging not in self._branches:
            start = self._branches[MAIN]
            with conflicts():
                patiently(
                    lambda: client().create_branch(self._id, branch=self._staging, revision=start, repo_type=self._type)
                )
            self._branches[self._staging] = start
        head = self._branches[self._staging]
        there = files_at(self._id, head, self._type)
        outdated = self._outdated(head, there)
        if outdated:
            deletions = [CommitOperationDelete(path) for path in outdated]
            head = self._commit(self._staging, deletions, head, f"{self._version}: what earlier versions had")
        for group in groups(self._missing(there)):
            additions = [CommitOperationAdd(file.path, file.content) for file in group]
            head = self._commit(self._staging, additions, head, f"{self._version}: {len(group)} files")
        ignored = self._missing(files_at(self._id, head, self._type))
        if ignored:
            raise UserError(
                f"{self._id}: the Hub left out {ignored[0].path}; if the repository has a .gitignore that names such "
                "files, correct it there, then run the same command again"
            )
        return head

    def _missing(self, there: Mapping[str, RepoFile]) -> list[LocalFile]:
        return [file for file in self._files if not file.is_at(there.get(file.path))]

    def _tag(self, commit: str) -> None:
        """Makes the tag, and looks where it points: the Hub keeps an existing one in silence."""
        name = str(self._version)
        with conflicts():
            patiently(lambda: client().create_tag(self._id, tag=name, revision=commit, repo_type=self._type))
        refs = patiently(lambda: client().list_repo_refs(self._id, repo_type=self._type))
        if {tag.name: tag.target_commit for tag in refs.tags}.get(name) != commit:
            raise Conflict(f"tag {name} points elsewhere")

    def _refuse_other_content(self, commit: str) -> None:
        """The tag that is there must hold the same records and data; its card may differ."""
        there = files_at(self._id, commit, self._type)
        other = next((file.path for file in self._missing(there) if file.path != CARD), None)
        if other is not None:
            self._delete_spent_branches()  # ours can never become this version
            raise UserError(
                f"{self._id}@{self._version}: this version exists with other content ({other} differs) and a "
                "version is never moved; publish under another one, or with --version auto"
            )

    def _is_behind_main(self) -> bool:
        """Whether `main` shows a later version by now; it is not set back.

        Its card says so; people may have taken that out of it, and then its record is a later version's.
        """
        shown = as_version(str(parse_card(self._read(MAIN, CARD) or "").data.get("version")))
        if shown is not None:
            return shown > self._version
        tags = {as_version(name): commit for name, commit in self._tags.items()}
        later = [commit for version, commit in tags.items() if version is not None and version > self._version]
        record = self._read(MAIN, self._bundle.record)
        return record is not None and any(self._read(commit, self._bundle.record) == record for commit in later)

    def _main_operations(self, commit: str) -> list[Operation]:
        """What `main` lacks; large files are copied on the Hub from the tagged commit and not sent again."""
        head = self._branches[MAIN]
        there, tagged = files_at(self._id, head, self._type), files_at(self._id, commit, self._type)
        card = self._bundle.merge(self._bundle.card, self._read(head, CARD) or "")
        operations: list[Operation] = []
        for file in self._files:
            if file.path == CARD:
                if card != self._read(head, CARD):
                    operations.append(CommitOperationAdd(CARD, card.encode()))
            elif file.is_at(there.get(file.path)):
                continue
            elif tagged[file.path].lfs:
                operations.append(CommitOperationCopy(file.path, file.path, src_revision=commit))
            else:
                operations.append(CommitOperationAdd(file.path, file.content))
        return operations + [CommitOperationDelete(path) for path in self._outdated(head, there)]

    def _outdated(self, commit: str, there: Mapping[str, RepoFile]) -> list[str]:
        """Files of an earlier version that this one has not; what people added stays."""
        ours = {file.path for file in self._files}
        earlier = read_record(self._id, self._type, commit, self._bundle.record)
        superseded = self._bundle.superseded(earlier, list(there))
        return sorted(({*listed_files(earlier), *superseded} & set(there)) - ours)

    def _read(self, revision: str, path: str) -> str | None:
        """A small file's content as it is on the Hub; None where there is none."""
        return read_remote(self._id, self._type, self._branches.get(revision, revision), path)

    def _commit(self, branch: str, operations: Sequence[Operation], parent: str, title: str) -> str:
        return commit((self._id, self._type), operations, title, parent, branch)

    def _delete_spent_branches(self) -> None:
        """Those that gathered a version whose tag is made: this one's, and what a killed rival of another left."""
        made = {*self._tags, str(self._version)}
        for branch in self._branches:
            name = STAGING.fullmatch(branch)
            if name is None or name[1] not in made:
                continue
            try:
                patiently(lambda: client().delete_branch(self._id, branch=branch, repo_type=self._type))  # noqa: B023
            except RevisionNotFoundError:
                logger.debug("branch %s has been deleted by another process", branch)
            except HfHubHTTPError as error:
                why = scrub(error.server_message or str(error.response.status_code))
                logger.warning("%s: branch %s could not be deleted: %s", self._id, branch, why)


def _create_repo(repo_id: str, repo_type: RepoType, private: bool) -> None:
    patiently(
        lambda: client().create_repo(
            repo_id, repo_type=repo_type, exist_ok=True, visibility="private" if private else None
        )
    )
    if private and not patiently(lambda: client().repo_info(repo_id, repo_type=repo_type)).private:
        raise UserError(
            f"{repo_type} {repo_id}: exists and is public, so --private cannot hold; name another repository, or "
            "change its visibility in its settings"
        )
