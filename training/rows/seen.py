"""The evaluation sets that a trained model has seen, by its data and by its base: for mteb's zero-shot flag."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from foils.errors import UserError
from foils.hub import download
from foils.models import ModelReference
from training.rows.further import Plain
from training.rows.source import Source

MANIFEST, RUN_RECORD = "manifest.json", "run.json"


class Seen(Struct, frozen=True):
    """The run record's `training_datasets`; every name is one of an mteb task or of an evaluation folder.

    Attributes:
        data: evaluation sets that overlap with the training data, as its manifest says; None if it was compared with
            none.
        base: those that the base was trained on, as its own run record or mteb's registry says; None if neither knows.
        compared_with: evaluation sets that the data was compared with; where the base is a model with a run record,
            the base's data as well. Of others nothing is known.
    """

    data: list[str] | None
    base: list[str] | None
    compared_with: list[str]


def seen_by(source: Source, base: ModelReference, also: Sequence[Source | Plain] = ()) -> Seen:
    """Looks up what data and base have seen; nothing is known of data that `builders.build` did not make.

    Raises:
        UserError: a manifest or run record cannot be read, or the Hub cannot be reached.
    """
    data, compared = _seen_by_data([source, *also])
    record = Path(base.location) / RUN_RECORD
    if not record.exists():
        return Seen(data, _registered(base.name), compared)
    recorded = _read(record, "base").get("training_datasets")
    if recorded is None:
        return Seen(data, None, [])
    earlier = msgspec.convert(recorded, Seen)
    known = earlier.data is not None and earlier.base is not None
    before = sorted({*(earlier.data or []), *(earlier.base or [])})
    return Seen(
        data, before if known or before else None, [x for x in compared if known and x in earlier.compared_with]
    )


def _seen_by_data(sources: Sequence[Source | Plain]) -> tuple[list[str] | None, list[str]]:
    """The sets that any of the data overlaps with, and those that all of it was compared with."""
    reports = [manifest_of(source).get("leakage") if isinstance(source, Source) else None for source in sources]
    known = [report for report in reports if report is not None]
    overlaps = sorted({name for report in known for name in report["training_datasets"]})
    if len(known) < len(reports):
        return overlaps or None, []
    compared = [[each["name"] for each in report["sets"]] for report in known]
    return overlaps, [name for name in compared[0] if all(name in names for names in compared)]


def _registered(name: str) -> list[str] | None:
    """The training sets of a model on the Hub, by mteb's registry."""
    if "/" not in name:
        return None
    import mteb

    try:
        found = mteb.get_model_meta(name, fetch_from_hf=False).get_training_datasets()
    except KeyError:
        return None
    return None if found is None else sorted(found)


def manifest_of(source: Source) -> dict[str, Any]:
    """A data set's manifest; empty where it has none, as plain training rows need none.

    Raises:
        UserError: it cannot be read, or the Hub cannot be reached.
    """
    here = source.tag is None
    folder = Path(source.location) if here else download(source.location, source.revision, "dataset", [MANIFEST])
    return _read(folder / MANIFEST, "data set")


def _read(file: Path, what: str) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except ValueError:
        raise UserError(f"{what} {file}: not JSON; build or train it again, or name another") from None
    return content
