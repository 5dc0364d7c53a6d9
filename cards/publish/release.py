"""The next version of a repository: which number, why, and what its card says of it."""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import RepositoryNotFoundError
from msgspec import Struct

from cards.merging import block, blocks, merge_cards, parse_card, with_block
from cards.publish.files import CARD, read_record, read_remote
from cards.publish.versions import AUTO, FIRST, Change, Version, as_version, check_step, parse_version
from foils.errors import UserError
from foils.hub import RepoType, client, explained, patiently

Compare = Callable[[Mapping[str, Any], Mapping[str, Any]], Change | None]
CHANGELOG = "changelog"
_ENTRY = re.compile(r"^### (v\d+\.\d+\.\d+)\n(.*?)(?=^### v|\Z)", re.MULTILINE | re.DOTALL)


class Target(Struct, frozen=True):
    """Where to publish to, as the command line says.

    Attributes:
        repo_id: `owner/name`.
        version: `v1.2.3`, or `auto`.
        private: of a repository that is created.
        dry_run: only say what would be done.
        license: for the card, where the data itself does not know it.
    """

    repo_id: str
    version: str = AUTO
    private: bool = False
    dry_run: bool = False
    license: str | None = None


class Release(Struct, frozen=True):
    """The version that comes next.

    Attributes:
        repo_id: the repository.
        version: its number.
        previous: the version it is compared with; None for the first.
        change: what differs from `previous`; None where nothing does.
        remote_card: the README on `main`; empty where there is none.
        tagged_card: the README of `version`, where that exists and `main` may not have it yet.
    """

    repo_id: str
    version: Version
    previous: Version | None
    change: Change | None
    remote_card: str
    tagged_card: str = ""

    def summary(self) -> str:
        """The number, and why it is this one, in one line."""
        if self.previous is None:
            return f"{self.version}: the first version"
        if self.change is None:
            return f"{self.version}: nothing differs from it"
        return f"{self.version}: {self.change.level} after {self.previous}: {'; '.join(self.change.reasons)}"

    def changelog(self) -> str:
        """The card's section on versions, the newest first."""
        entries = {**_entries(self.tagged_card), **_entries(self.remote_card)}
        if self.previous is None:
            entries.setdefault(str(self.version), "- first version")
        elif self.change is not None:
            reasons = "\n".join(f"- {reason}" for reason in self.change.reasons)
            entries[str(self.version)] = f"{self.change.level.capitalize()} change after {self.previous}:\n\n{reasons}"
        return _section(entries)


def add_push_arguments(
    parser: argparse.ArgumentParser, *, required: bool = False, licence: bool = False, dry_run_alone: str = ""
) -> None:
    """The options that publish what a command made; `dry_run_alone` says what `--dry-run` does without `--push`."""
    parser.add_argument(
        "--push", metavar="OWNER/NAME", required=required, help="publish to this Hub repository, as one version"
    )
    parser.add_argument(
        "--version", default=AUTO, help="vMAJOR.MINOR.PATCH, or auto: the next one, with the reason (default)"
    )
    parser.add_argument("--private", action="store_true", help="a repository that is created is private")
    dry_run = "only say which version would be published, and why"
    parser.add_argument(
        "--dry-run", action="store_true", help=f"with --push: {dry_run}; {dry_run_alone}" if dry_run_alone else dry_run
    )
    if licence:
        parser.add_argument("--license", help="for the card, where neither corpus.license nor a model's base says it")


def push_target(arguments: argparse.Namespace, *, dry_run_alone: bool = False) -> Target | None:
    """The options as a target; None without `--push`.

    Args:
        arguments: from the command line.
        dry_run_alone: `--dry-run` means something without `--push`, too.

    Raises:
        UserError: the version has no valid form, or options of `--push` stand alone.
    """
    if arguments.push is None:
        if arguments.version != AUTO or arguments.private or (arguments.dry_run and not dry_run_alone):
            options = "--version and --private" if dry_run_alone else "--version, --private and --dry-run"
            raise UserError(f"{options} belong to --push OWNER/NAME; add it, or leave them out")
        return None
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", arguments.push):
        raise UserError(f"--push {arguments.push}: wanted OWNER/NAME, a user or organisation and a repository")
    if arguments.version != AUTO:
        parse_version(arguments.version)
    return Target(
        arguments.push, arguments.version, arguments.private, arguments.dry_run, getattr(arguments, "license", None)
    )


def publish_entry(description: str | None, folder: str, publish: Callable[[Path, Target], None]) -> None:
    """The command line `FOLDER --push OWNER/NAME`.

    Args:
        description: of the command.
        folder: says which folders it takes.
        publish: what it runs.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=folder)
    add_push_arguments(parser, required=True, licence=True)
    arguments = parser.parse_args()
    target = push_target(arguments)
    if target is not None:
        publish(arguments.folder, target)


def plan_release(
    target: Target, repo_type: RepoType, record_name: str, record: Mapping[str, Any], compare: Compare
) -> Release:
    """Decides the version by what the repository has.

    Args:
        target: its `version` is taken, if it keeps the rules, or found.
        repo_type: of the repository.
        record_name: `manifest.json` or `run.json`.
        record: ours.
        compare: `(earlier record, ours) -> Change`, None where they are the same version.

    Raises:
        UserError: the version breaks the rules, or the repository cannot be read.
    """
    with explained(f"{repo_type} {target.repo_id}"):
        commits, head = _remote_state(target.repo_id, repo_type)
        card = (read_remote(target.repo_id, repo_type, head, CARD) or "") if head else ""
        wanted = None if target.version == AUTO else parse_version(target.version)
        earlier = [version for version in commits if wanted is None or version != wanted]
        if not earlier:
            return Release(target.repo_id, wanted or FIRST, None, None, card)
        latest = max(earlier)
        if wanted in commits:  # made before: publishing finds out whether it is the same
            latest = max((version for version in earlier if version < wanted), default=latest)
        before = read_record(target.repo_id, repo_type, commits[latest], record_name)
    try:
        change = compare(before, record)
    except (KeyError, TypeError, AttributeError):  # another program or an older Foils wrote it
        change = Change("major", (f"{latest} has no {record_name} of this form",))
    if wanted is not None and wanted not in commits:
        if change is None:
            raise UserError(f"version {wanted}: nothing differs from {latest}; there is nothing to publish")
        check_step(wanted, latest, change)
    if wanted is not None or change is not None:
        version = wanted or latest.next(change.level if change else "patch")
        return Release(target.repo_id, version, latest, change, card)
    with explained(f"{repo_type} {target.repo_id}@{latest}"):
        tagged = read_remote(target.repo_id, repo_type, commits[latest], CARD) or ""
    return Release(target.repo_id, latest, latest, None, card, tagged)


def released_card(generated: str, release: Release, licence: str | None, merge: Callable[[str, str], str]) -> str:
    """The card of a version: generated parts and version history anew, all else as it is on the Hub.

    Args:
        generated: the folder's card, with its `use` block made for this version.
        release: the version.
        licence: as the command or the data says it; without one, that on the Hub goes before the generated card's.
        merge: `(generated card, card on the Hub) -> card`.

    Raises:
        UserError: the card on the Hub cannot be read.
    """
    card = parse_card(generated)
    text = with_block(card.text, CHANGELOG, block(CHANGELOG, release.changelog()))
    try:
        chosen = licence or parse_card(release.remote_card).data.get("license")
        data = {**card.data, **({"license": chosen} if chosen else {}), "version": str(release.version)}
        ours = card._replace(data=data, text=text)
        return merge(ours.render(), release.remote_card)
    except UserError as error:
        raise UserError(f"{release.repo_id}: {CARD} on the Hub: {error}") from None


def merge_with_history(new: str, existing: str, keep: tuple[str, ...] = ()) -> str:
    """`merge_cards`, with the versions that either card lists."""
    entries = {**_entries(existing), **_entries(new)}
    if entries and CHANGELOG in blocks(new):
        new = with_block(new, CHANGELOG, block(CHANGELOG, _section(entries)))
    return merge_cards(new, existing, keep)


def _entries(card: str) -> dict[str, str]:
    """Version -> what the card says of it."""
    section = blocks(card).get(CHANGELOG, "").removesuffix(f"<!-- foils:{CHANGELOG} end -->")
    return {found[1]: found[2].strip() for found in _ENTRY.finditer(section)}


def _section(entries: Mapping[str, str]) -> str:
    ordered = sorted(entries.items(), key=lambda entry: parse_version(entry[0]), reverse=True)
    return "## Versions\n\n" + "\n\n".join(f"### {name}\n\n{text}" for name, text in ordered)


def _remote_state(repo_id: str, repo_type: RepoType) -> tuple[dict[Version, str], str | None]:
    """The versions with their commits, and the head of `main`; nothing where there is no repository yet."""
    try:
        refs = patiently(lambda: client().list_repo_refs(repo_id, repo_type=repo_type))
    except RepositoryNotFoundError:
        return {}, None
    commits = {version: tag.target_commit for tag in refs.tags if (version := as_version(tag.name)) is not None}
    head = next((branch.target_commit for branch in refs.branches if branch.name == "main"), None)
    return commits, head
