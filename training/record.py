"""A finished run's record, `run.json`: what was trained, from what, by what code, and what it took.

It holds everything that the model's card says and that `cards.verify` follows back; its `inputs` decide whether a run
is done already, see `training.identity`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from cards.model import write_model_card
from cards.models import weights_hash
from cards.provenance import file_hashes
from training.data import Source
from training.identity import Run
from training.mixture import Training
from training.publish import RUN_RECORD
from training.seen import Seen


class Finished(NamedTuple):
    """What came of a run.

    Attributes:
        training: the rows that it was trained on.
        seen: of evaluation sets, by data and base.
        outcome: as the trainers return it.
        memory: the most that training held, as `cards.hardware.PeakMemory` gives it.
        changes: what differed around the run each time that it was gone on with.
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
        "recipe": {"text": run.recipe.text, "overrides": _telling(run.recipe.overrides, run.source)},
        "dataset": finished.training.record(),
        "base": {
            "name": base.name,
            "revision": base.revision,
            "weights": base.weights,
            "reference": config.base,
        },
        "training_datasets": msgspec.to_builtins(finished.seen),
        "model": {"revision": f"sha256:{weights_hash(folder)}"},
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


def _telling(overrides: Sequence[str], source: Source) -> list[str]:
    """The overrides that say what was trained; in which folder the data lay is not told, its revision is."""
    return [override for override in overrides if source.tag is not None or not override.startswith("dataset=")]
