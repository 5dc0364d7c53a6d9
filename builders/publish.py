"""Publishes a data set folder as one version of a Hub repository.

    python -m builders.publish FOLDER --push OWNER/NAME [--version v1.0.0] [--private] [--dry-run]

The files are those of the folder, byte for byte; only its card gains the repository's name, the version and what the
card on the Hub has from other hands. Killed at any point, it can be run again.
"""

import argparse
import logging
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from builders.folder import MANIFEST, read_manifest
from builders.versioning import compare
from cards.dataset import card_for_version
from cards.errors import UserError, run_entry
from cards.files import CARD
from cards.publishing import Bundle, publish
from cards.readback import ReadBack
from cards.release import (
    Target,
    add_push_arguments,
    merge_with_history,
    plan_release,
    push_target,
    released_card,
)

logger = logging.getLogger(__name__)


def publish_dataset(folder: Path, target: Target) -> None:
    """Publishes a complete data set folder, or finds it published.

    Raises:
        UserError: the folder is not complete, its licence is unknown, the version breaks the rules or exists with
            other content, or the Hub refuses.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"data set {folder}: empty or not there; build it first: python -m builders.build RECIPE")
    licence = manifest["license"] or target.license
    if licence is None:
        raise UserError(
            f"data set {folder}: the licence of its corpus ({manifest['inputs']['corpus']['source']}) is unknown, and "
            "what is published needs one; say it with --license, such as --license cc-by-4.0, or with corpus.license"
        )
    release = plan_release(target, "dataset", MANIFEST, manifest, compare)
    logger.info("%s: %s", target.repo_id, release.told())
    _warn_of_paths(manifest)
    if target.dry_run:
        return
    card = card_for_version((folder / CARD).read_text("utf-8"), manifest, target.repo_id, release.version)
    card = released_card(card, release, {"license": licence}, merge_with_history)
    (folder / CARD).write_text(card, "utf-8")
    bundle = Bundle(folder, "dataset", MANIFEST, card, merge_with_history, partial(_load, target.repo_id, manifest))
    published = publish(bundle, target.repo_id, release.version, private=target.private)
    logger.info(
        "%s@%s: %s; commit %s",
        target.repo_id,
        published.version,
        f"published, {len(manifest['configs'])} configurations read back and verified"
        if published.new
        else "is there with the same content: nothing to do",
        published.commit,
    )


def _load(repo_id: str, manifest: Mapping[str, Any], back: ReadBack, tag: str) -> None:
    back.check_configs(repo_id, tag, manifest["configs"])


def _warn_of_paths(manifest: Mapping[str, Any]) -> None:
    """A recipe is published as it is, and may tell more of a machine than its owner wants."""
    paths = re.findall(r"""["'](/[^"']+|~/[^"']*)["']""", manifest["recipe"]["text"])
    if paths:
        logger.warning("the recipe in card and manifest names %s: a path of this machine", paths[0])


def _entry() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a data set that builders.build wrote")
    add_push_arguments(parser, required=True, licence=True)
    arguments = parser.parse_args()
    target = push_target(arguments)
    if target is not None:
        publish_dataset(arguments.folder, target)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
