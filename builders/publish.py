"""Publishes a data set folder as one version of a Hub repository.

    python -m builders.publish FOLDER --push OWNER/NAME [--version v1.0.0] [--private] [--dry-run]

The files are those of the folder, byte for byte; only its card gains the repository's name, the version and what the
card on the Hub has from other hands. Killed at any point, it can be run again.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from builders.dataset import versioning
from builders.dataset.folder import FORMAT, MANIFEST, read_complete
from cards.comparison import carried, without_block
from cards.dataset import USE, card_for_version
from cards.merging import blocks, parse_card
from cards.publish.files import CARD
from cards.publish.publishing import Bundle, publish
from cards.publish.readback import check_configs
from cards.publish.release import Target, merge_with_history, plan_release, publish_entry, released_card
from cards.publish.versions import Change
from foils.errors import UserError, run_entry

logger = logging.getLogger(__name__)


def publish_dataset(folder: Path, target: Target) -> None:
    """Publishes a complete data set folder, or finds it published.

    Raises:
        UserError: the folder is not complete, its licence is unknown, the version breaks the rules or exists with
            other content, or the Hub refuses.
    """
    manifest = read_complete(folder)
    licence = manifest["license"] or target.license
    if licence is None:
        raise UserError(
            f"data set {folder}: the licence of its corpus ({manifest['inputs']['corpus']['source']}) is unknown, and "
            "what is published needs one; say it with --license, such as --license cc-by-4.0, or with corpus.license"
        )
    generated = _card_of(folder)
    release = plan_release(target, "dataset", MANIFEST, manifest, _compare)
    logger.info("%s: %s", target.repo_id, release.summary())
    _warn_of_paths(manifest)
    if target.dry_run:
        return
    card = card_for_version(without_block(generated), manifest, target.repo_id, release.version)
    card = released_card(card, release, licence, merge_with_history)
    _write_card(folder, carried(card, folder))
    load, loaded = (
        partial(check_configs, target.repo_id, manifest["configs"]),
        f"{len(manifest['configs'])} configurations ",
    )
    publish(Bundle(folder, "dataset", MANIFEST, card, merge_with_history, load, loaded), target, release.version)


def _card_of(folder: Path) -> str:
    """The folder's card, with the block that is written anew for each version."""
    again = "build the data set again into another folder (LLM answers are kept)"
    try:
        card = (folder / CARD).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{folder / CARD}: it is not there, or no UTF-8; {again}") from None
    try:
        known = blocks(parse_card(card).text)
    except UserError as error:
        raise UserError(f"{folder / CARD}: {error}") from None
    if USE not in known:
        raise UserError(f"{folder / CARD}: its part between the marks foils:{USE} is gone; {again}")
    return card


def _write_card(folder: Path, card: str) -> None:
    """Puts the card in place at once: a killed publication, or a second one, never meets half of it."""
    partial_card = folder / f".{CARD}.{os.getpid()}.partial"
    try:
        partial_card.write_text(card, "utf-8")
        partial_card.replace(folder / CARD)
    except OSError as error:
        raise UserError(f"{folder / CARD}: cannot be written ({error.strerror}); make the folder writable") from None


def _compare(earlier: Mapping[str, Any], ours: Mapping[str, Any]) -> Change | None:
    """What differs from a version's manifest, which another program may have written."""
    if not isinstance(earlier, dict) or earlier.get("format") != FORMAT:
        return Change("major", (f"the earlier {MANIFEST} is not of format {FORMAT}",))
    return versioning.compare(earlier, ours)


def _warn_of_paths(manifest: Mapping[str, Any]) -> None:
    """A recipe is published as it is, and may say more of a machine than its owner wants."""
    paths = re.findall(r"""["'](/[^"']+|~/[^"']*)["']""", manifest["recipe"]["text"])
    if paths:
        logger.warning("the recipe in card and manifest names %s: a path of this machine", paths[0])


if __name__ == "__main__":
    help_of_folder = "a data set that builders.build wrote"
    sys.exit(run_entry(partial(publish_entry, __doc__, help_of_folder, publish_dataset)))
