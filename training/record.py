"""A finished run's record, `run.json`: what was trained, from what, by what code, and what it took.

It holds everything that the model's card says and that `cards.verify` follows back; its `inputs` decide whether a run
is done already, see `training.identity`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cards.merging import parse_card
from cards.model import write_model_card
from cards.publish.files import CARD
from foils.errors import UserError
from foils.hub import download
from foils.kinds import PAIRS
from foils.models import ModelReference, weights_hash
from foils.provenance import file_hashes
from training.identity import Run
from training.loop.making import Job
from training.publish import RUN_RECORD
from training.rows.source import Source


def write_record(run: Run, job: Job, folder: Path, outcome: Mapping[str, Any], beside: Mapping[str, Any]) -> None:
    """Writes a finished model's record and card into its folder; `beside` has further keys of the record."""
    config, base = run.recipe.config, run.base
    # Without the folder of the data, whose revision is recorded.
    overrides = [each for each in run.recipe.overrides if run.source.tag is not None or not each.startswith("dataset=")]
    record = {
        "inputs": run.inputs,
        "recipe": {"text": run.recipe.text, "overrides": overrides},
        "dataset": job.training.record(),
        "base": {
            "name": base.name,
            "revision": base.revision,
            "weights": base.weights,
            "reference": config.base,
        },
        "training_datasets": msgspec.to_builtins(job.seen),
        "model": {"revision": f"sha256:{weights_hash(folder)}"},
        **_for_card(run),
        "task": config.task,
        "seed": config.seed,
        "training": outcome,
        "seconds": outcome["seconds"],
        **run.surroundings(),
        **beside,
        "files": file_hashes(folder),
    }
    write_model_card(folder, record)
    (folder / RUN_RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def _for_card(run: Run) -> dict[str, Any]:
    """The license, language and origin of the queries, as far as they are known; an origin must hold for all data."""
    manifests = [source.manifest() if isinstance(source, Source) else {} for source in (run.source, *run.also)]
    kinds = (run.recipe.config.kind, *(more.kind for more in run.recipe.config.also))
    origins = {None if kind in PAIRS else _origin(about) for kind, about in zip(kinds, manifests, strict=True)}
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
