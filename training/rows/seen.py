"""The evaluation sets that a trained model has seen, by its data and by its base: for mteb's zero-shot flag."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from foils.models import ModelReference
from foils.records import Seen
from training.rows.source import Source, read_json
from training.rows.table import Table


def seen_by(source: Source, base: ModelReference, also: Sequence[Source | Table] = ()) -> Seen:
    """Looks up what data and base have seen; nothing is known of data that `builders.build` did not make.

    The base's own run record says what it has seen, or else mteb's registry. Where it is a model with a run record,
    `compared_with` has only what the base's data was compared with as well.

    Raises:
        UserError: a manifest or run record cannot be read, or the Hub cannot be reached.
    """
    data, compared = _seen_by_data([source, *also])
    record = Path(base.location) / "run.json"
    if not record.exists():
        known = registered(base.name)
        names = None if known is None else known.get_training_datasets()
        return Seen(data, None if names is None else sorted(names), compared)
    recorded = read_json(record, "base").get("training_datasets")
    if recorded is None:
        return Seen(data, None, [])
    earlier = msgspec.convert(recorded, Seen)
    before = sorted({*(earlier.data or []), *(earlier.base or [])})
    if earlier.data is None or earlier.base is None:
        return Seen(data, before or None, [])
    return Seen(data, before, [name for name in compared if name in earlier.compared_with])


def registered(name: str) -> Any:
    """What mteb's registry knows of a model on the Hub (`mteb.ModelMeta`); None where it does not know it."""
    if "/" not in name:
        return None
    import mteb

    try:
        return mteb.get_model_meta(name, fetch_from_hf=False)
    except KeyError:
        return None


def _seen_by_data(sources: Sequence[Source | Table]) -> tuple[list[str] | None, list[str]]:
    """The sets that any of the data overlaps with, and those that all of it was compared with."""
    reports = [source.manifest().get("leakage") if isinstance(source, Source) else None for source in sources]
    known = [report for report in reports if report is not None]
    overlaps = sorted({name for report in known for name in report["training_datasets"]})
    if len(known) < len(reports):
        return overlaps or None, []
    compared = [[each["name"] for each in report["sets"]] for report in known]
    return overlaps, [name for name in compared[0] if all(name in names for names in compared)]
