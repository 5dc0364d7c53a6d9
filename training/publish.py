"""Publishes a trained model as one version of a Hub repository, with its card and run record.

    python -m training.publish FOLDER --push OWNER/NAME [--version v1.0.0] [--license ID] [--private]
        [--dry-run]

`training/train.py --push` does the same after training. Scores are published by `eval.run --push`. Killed at any point,
it can be run again.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cards.model import merge_model_cards, model_card
from cards.publish.publishing import Bundle, publish
from cards.publish.release import Target, plan_release, publish_entry, released_card
from cards.publish.versions import Change, largest
from foils.errors import UserError, run_entry

logger = logging.getLogger(__name__)

RUN_RECORD = "run.json"


def finished_record(folder: Path, remedy: str = "name the --out of a training that ended well") -> dict[str, Any]:
    """Reads the run record of a model folder.

    Raises:
        UserError: the folder holds no finished run, so it is not ours to publish or to replace.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RUN_RECORD).read_bytes())
        if record.keys() >= {"inputs", "recipe", "dataset", "training", "seconds", "hardware", "code", "packages"}:
            return record
    except (OSError, ValueError, AttributeError):
        pass
    raise UserError(f"folder {folder}: holds no finished run ({RUN_RECORD} is missing or unreadable); {remedy}")


def publish_model(folder: Path, target: Target) -> None:
    """Publishes a model folder, or finds it published.

    Raises:
        UserError: the folder holds no finished run, the version breaks the rules, or the Hub refuses.
    """
    record = finished_record(folder)
    release = plan_release(target, "model", RUN_RECORD, record, compare)
    logger.info("%s: %s", target.repo_id, release.summary())
    if target.dry_run:
        return
    merge = partial(merge_model_cards, weights=record["model"]["revision"])
    card = released_card(model_card(record, target.repo_id, release.version), release, target.license, merge)
    bundle = Bundle(folder, "model", RUN_RECORD, card, merge, superseded=partial(_outdated, record["model"]))
    publish(bundle, target, release.version)


def compare(earlier: Mapping[str, Any], ours: Mapping[str, Any]) -> Change | None:
    """The change from an earlier run record to ours; None where they are the same.

    Another base or task is major, other weights are minor, and all else is a patch.
    """
    if earlier == ours:
        return None
    return largest(_changes(earlier, ours)) or Change("patch", ("the run record",))


def _changes(earlier: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[Change]:
    if earlier["base"]["name"] != ours["base"]["name"] or earlier["task"] != ours["task"]:
        each = [f"{record['task']} from {record['base']['name']}" for record in (earlier, ours)]
        yield Change("major", (" -> ".join(each),))
    other_weights = earlier["model"] != ours["model"]
    if other_weights:
        yield Change("minor", ("other weights",))
    before, now = _stated(earlier), _stated(ours)
    for what in now:
        if before[what] != now[what] and (other_weights or what == "exports"):
            yield Change("minor", (f"{what}: {before[what]} -> {now[what]}",))
    if other_weights and earlier["recipe"] != ours["recipe"]:
        yield Change("minor", ("the recipe",))


def _stated(record: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a record whose change a reader of the card wants to know."""
    also = [each["name"] for each in record["dataset"].get("also", [])]
    return {
        "exports": " ".join(each["format"] for each in record.get("exports", [])) or "none",
        **{f"dataset {key}": record["dataset"].get(key) for key in ("name", "tag", "kind", "rows")},
        **{f"training {key}": record["training"].get(key) for key in ("steps", "batch_size")},
        "further data": ", ".join(also) or "none",
        "seed": record["seed"],
    }


def _outdated(model: Mapping[str, str], earlier: Mapping[str, Any], paths: Sequence[str]) -> list[str]:
    """The files that hold figures of earlier weights."""
    if not earlier or earlier["model"] == model:
        return []
    return [path for path in paths if path.startswith(("evaluation/", ".eval_results/", "comparison/"))]


if __name__ == "__main__":
    sys.exit(run_entry(partial(publish_entry, __doc__, "a model that training/train.py wrote", publish_model)))
