"""A finished run's record, `run.json`: what was trained, from what, by what code, and what it took.

It holds everything that the model's card says and that `cards.verify` follows back; its `inputs` decide whether a run
is done already, see `training.identity`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from cards.merging import parse_card
from cards.model import write_model_card
from cards.publish.files import CARD
from foils.errors import UserError
from foils.hub import download
from foils.models import ModelReference, weights_hash
from foils.provenance import file_hashes
from training.identity import Run
from training.publish import RUN_RECORD
from training.rows.mixture import Training
from training.rows.seen import Seen, manifest_of
from training.rows.source import Source


class Finished(NamedTuple):
    """The results of a run.

    Attributes:
        training: the rows that it was trained on.
        seen: of evaluation sets, by data and base.
        outcome: as the trainers return it.
        memory: the most that training held, as `foils.hardware.PeakMemory` gives it.
        changes: what differed around the run each time that it was resumed.
    """

    training: Training
    seen: Seen
    outcome: dict[str, Any]
    memory: dict[str, Any]
    changes: list[str]


def write_record(run: Run, folder: Path, finished: Finished) -> None:
    """Writes a finished model's record and card into its folder."""
    config, base, outcome = run.recipe.config, run.base, finished.outcome
    record = {
        "inputs": run.inputs(),
        "recipe": {"text": run.recipe.text, "overrides": _shaping_overrides(run.recipe.overrides, run.source)},
        "dataset": finished.training.record(),
        "base": {
            "name": base.name,
            "revision": base.revision,
            "weights": base.weights,
            "reference": config.base,
        },
        "training_datasets": msgspec.to_builtins(finished.seen),
        "model": {"revision": f"sha256:{weights_hash(folder)}"},
        **_for_card(run),
        "task": config.task,
        "seed": config.seed,
        "training": outcome,
        "seconds": outcome["seconds"],
        "peak_memory": finished.memory,
        **run.surroundings(),
        **({"changes": finished.changes} if finished.changes else {}),
        "files": file_hashes(folder),
    }
    write_model_card(folder, record)
    (folder / RUN_RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def _shaping_overrides(overrides: Sequence[str], source: Source) -> list[str]:
    """The overrides without the folder of the data, whose revision is recorded."""
    return [override for override in overrides if source.tag is not None or not override.startswith("dataset=")]


def _for_card(run: Run) -> dict[str, Any]:
    """The license, language and origin of the queries, as far as they are known; an origin must hold for all data."""
    manifests = [manifest_of(source) if isinstance(source, Source) else {} for source in (run.source, *run.also)]
    origins = {_origin(manifest) for manifest in manifests}
    known = {
        "license": _license(run.base),
        "language": sorted({manifest["language"] for manifest in manifests if manifest.get("language")}),
        "queries": origins.pop() if len(origins) == 1 else None,
    }
    return {name: value for name, value in known.items() if value}


def _origin(manifest: Mapping[str, Any]) -> str | None:
    """The origin of a build's queries: `labelled`, `llm`, or None where its manifest does not say."""
    inputs = manifest.get("inputs") or {}
    if "queries" in inputs:
        return "labelled"
    return "llm" if (inputs.get("llm") or {}).get("model") else None


def _license(base: ModelReference) -> str | None:
    """The license in a base's card; None where it cannot be read."""
    try:
        folder = download(base.name, base.revision, "model", [CARD]) if base.on_hub else Path(base.location)
        found = parse_card((folder / CARD).read_text("utf-8")).data.get("license")
    except (OSError, UnicodeDecodeError, UserError):
        return None
    return found if isinstance(found, str) else None
