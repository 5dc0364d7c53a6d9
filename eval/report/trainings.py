"""What the arms of a comparison share, by the records of their trainings: checked, not assumed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foils.comparison import Guarantee
from foils.kinds import NO_NEGATIVES
from foils.records import Preflight, RunRecord
from foils.words import listed

_NAMED = 3
_SHOWN = 24  # characters, enough for hashes to differ
_BY_NUMBER = "batch_sampler"
"""The sampler that shuffles row numbers; to all others the texts matter, negatives among them."""


def guarantees(records: Mapping[str, RunRecord]) -> list[Guarantee]:
    """What trainings share.

    Args:
        records: run -> its record; a run's name starts with its arm.
    """
    with_negatives = {name: record for name, record in records.items() if record.dataset.kind != NO_NEGATIVES}
    return [
        _same("base", records, lambda record: record.base.revision),
        _same("queries and positives, row by row", records, lambda record: record.training.pairs),
        _same("negatives of a row", with_negatives, lambda record: _negatives(record.training.preflight)),
        _same("steps", records, lambda record: record.training.steps),
        _same("batch size", records, lambda record: record.training.batch_size),
        _same("order of rows, by seed", records, lambda record: _order(record.training.preflight)),
        _same("longest text", records, lambda record: _longest(record.training.preflight)),
    ]


def tokens_of_a_row(by_arm: Mapping[str, Sequence[RunRecord]]) -> dict[str, int]:
    """Arm -> tokens that the model reads of a typical row: the means of its columns added up."""
    found = {}
    for arm, records in by_arm.items():
        preflight = records[-1].training.preflight
        columns = [column for table in preflight.tokens.values() for column in table] if preflight else []
        found[arm] = round(sum(column.mean for column in columns))
    return found


def _negatives(preflight: Preflight | None) -> int | None:
    """The negatives of a row."""
    return sum(name.startswith("negative") for name in preflight.plan.prompts) if preflight else None


def _longest(preflight: Preflight | None) -> int | None:
    return preflight.plan.max_seq_length if preflight else None


def _order(preflight: Preflight | None) -> str | None:
    """What decides the order in which a seed brings the rows: all but the seed itself."""
    if preflight is None or preflight.plan.sampler != _BY_NUMBER:
        return None
    return f"{preflight.batches['rows']} by {preflight.plan.sampler}"


def _same(what: str, records: Mapping[str, RunRecord], value: Callable[[RunRecord], Any]) -> Guarantee:
    values = {name: value(record) for name, record in records.items()}
    unknown = [name for name, found in values.items() if found is None]
    if unknown:
        return Guarantee(what, None, f"not known of {listed(unknown, _NAMED)}")
    groups: dict[Any, list[str]] = {}
    for name, found in values.items():
        groups.setdefault(found, []).append(name)
    if len(groups) <= 1:
        return Guarantee(what, True, str(next(iter(groups), ""))[:_SHOWN])
    differing = "; ".join(f"{str(found)[:_SHOWN]}: {listed(names, _NAMED)}" for found, names in groups.items())
    return Guarantee(what, False, differing)
