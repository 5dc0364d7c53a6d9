"""What all arms of a comparison must share, looked up in the records of their trainings: checked, not assumed."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from eval.runs import CONTROL
from foils.errors import UserError

Record = Mapping[str, Any]
_SHOWN = 24  # characters, enough to tell hashes apart
_BY_NUMBER = "batch_sampler"
"""The sampler that shuffles row numbers; to all others the texts matter, negatives among them."""


class Guarantee(Struct, frozen=True):
    """One thing that arms share, or do not.

    Attributes:
        what: in a few words.
        held: whether they do; None where the records cannot tell.
        told: the value that all share, or who differs.
    """

    what: str
    held: bool | None
    told: str


class Shared(NamedTuple):
    """What the arms share, and what each makes a model read: arm -> tokens of a row, a mean."""

    guarantees: list[Guarantee]
    tokens: dict[str, int]


def read_record(folder: Path) -> dict[str, Any]:
    """A trained model's run record.

    Raises:
        UserError: it is missing or broken.
    """
    file = folder / "run.json"
    try:
        record: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return {**record, "training": dict(record["training"]), "dataset": dict(record["dataset"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{file}: not a run record of training/train.py; delete {folder} and run again") from None


def shared_by(records: Mapping[str, Record]) -> Shared:
    """What trainings share, and the tokens that they read.

    Args:
        records: run -> its record; a run's name starts with its arm.
    """
    with_negatives = {name: record for name, record in records.items() if record["dataset"].get("kind") != CONTROL}
    found = [
        _same("base", records, lambda record: record["base"]["revision"]),
        _same("queries and positives, row by row", records, lambda record: record["training"].get("pairs")),
        _same(
            "negatives of a row",
            with_negatives,
            lambda record: sum(
                name.startswith("negative") for name in record["training"]["preflight"]["plan"]["prompts"]
            ),
        ),
        _same("steps", records, lambda record: record["training"]["steps"]),
        _same("batch size", records, lambda record: record["training"]["batch_size"]),
        _same("order of rows, by seed", records, _order),
        _same("longest text", records, lambda record: _plan(record)["max_seq_length"]),
    ]
    return Shared(found, _tokens(records))


def losses(records: Mapping[str, Record]) -> dict[str, list[tuple[int, float]]]:
    """Arm -> step and training loss, the mean over its seeds at the steps that all of them logged."""
    by_arm: dict[str, list[dict[int, float]]] = {}
    for record in records.values():
        history = record["training"].get("history") or []
        by_arm.setdefault(record["dataset"]["kind"], []).append(
            {row["step"]: row["loss"] for row in history if "loss" in row}
        )
    return {
        arm: [
            (step, sum(run[step] for run in runs) / len(runs))
            for step in sorted(set.intersection(*(set(run) for run in runs)))
        ]
        for arm, runs in by_arm.items()
    }


def lines(shared: Shared) -> list[str]:
    """As a person reads it in the terminal."""
    marks = {True: "the same", False: "DIFFERS", None: "unknown"}
    told = [f"{each.what}: {marks[each.held]} ({each.told})" for each in shared.guarantees]
    budgets = ", ".join(f"{arm} {count}" for arm, count in shared.tokens.items())
    return [*told, f"tokens read of a row: {budgets}"]


def _tokens(records: Mapping[str, Record]) -> dict[str, int]:
    """Arm -> tokens that the model read of a typical row, the mean over its columns added up."""
    found: dict[str, int] = {}
    for record in records.values():
        lengths = [column for table in record["training"]["preflight"]["tokens"].values() for column in table]
        found[record["dataset"]["kind"]] = round(sum(column.get("mean", 0) for column in lengths))
    return found


def _plan(record: Record) -> Any:
    return record["training"]["preflight"]["plan"]


def _order(record: Record) -> str | None:
    """What decides the order in which a seed brings the rows: all but the seed itself."""
    plan = _plan(record)
    if plan["sampler"] != _BY_NUMBER:
        return None
    return f"{record['training']['preflight']['batches']['rows']} by {plan['sampler']}"


def _same(what: str, records: Mapping[str, Record], value: Callable[[Record], Any]) -> Guarantee:
    values = {name: value(record) for name, record in records.items()}
    unknown = [name for name, found in values.items() if found is None]
    if unknown:
        return Guarantee(what, None, f"not known of {_listed(unknown)}")
    groups: dict[Any, list[str]] = {}
    for name, found in values.items():
        groups.setdefault(found, []).append(name)
    if len(groups) <= 1:
        return Guarantee(what, True, str(next(iter(groups), ""))[:_SHOWN])
    told = "; ".join(f"{str(found)[:_SHOWN]}: {_listed(names)}" for found, names in groups.items())
    return Guarantee(what, False, told)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004
