"""What the arms of a comparison share, by the records of their trainings: checked, not assumed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from foils.comparison import Pairing
from foils.kinds import NO_NEGATIVES, PAIRS
from foils.records import RunRecord

_ELSEWHERE = "training (elsewhere, not known)"
_ROWS = ("queries and positives", "negatives of a row", "order of rows", "negatives")
_IMPLIED = {
    "dataset": _ROWS,
    "revision": _ROWS,
    "also": (*_ROWS, "steps"),
    "trainer": ("steps", "batch size", "order of rows"),
    "base": ("base", "longest text"),
    "max_seq_length": ("longest text",),
}
"""A key that a comparison's recipe names -> what else differs because of it."""
_BY_NUMBER = "batch_sampler"
"""The sampler that shuffles row numbers; to all others the texts matter, negatives among them."""


def pairings(records: Mapping[str, Sequence[RunRecord]], named: Mapping[str, Mapping[str, Any]]) -> list[Pairing]:
    """What each two arms share and differ in, seed by seed.

    Args:
        records: arm -> the records of its trainings; none of a model whose training is not known.
        named: arm -> what the comparison's recipe sets for it.
    """
    found = []
    for second, first in combinations(records, 2):
        both = list(zip(records[first], records[second], strict=False))
        states = {what: _state(value, both) for what, value in _SHARED.items()}
        differ = [] if both else [_ELSEWHERE]
        differ += dict.fromkeys(key for pair in both for key in _differing(*pair))
        differ += [what for what, same in states.items() if same is False]
        wanted = {
            key for each in (first, second) for key in named[each] if named[first].get(key) != named[second].get(key)
        }
        wanted |= {what for key in wanted for what in _IMPLIED.get(key, ())}
        if {named[first].get("kind"), named[second].get("kind")} & {*PAIRS}:
            wanted |= {*_ROWS, "steps"}
        unnamed = [what for what in differ if not {what, what.partition(".")[0]} & wanted]
        equal, unknown = ([what for what, same in states.items() if same is state] for state in (True, None))
        found.append(Pairing(first, second, equal, differ, unnamed, unknown))
    return found


def _state(value: Callable[[RunRecord], Any], both: Sequence[tuple[RunRecord, RunRecord]]) -> bool | None:
    """Whether two arms share something; None where their records do not say."""
    values = [(value(one), value(other)) for one, other in both]
    if not values or any(None in pair for pair in values):
        return None
    return all(one == other for one, other in values)


def _differing(one: RunRecord, other: RunRecord) -> list[str]:
    """The keys of the training recipe that differ, and whether the same kind has other negatives."""
    first, second = (dict(_flat(record.inputs.get("recipe", {}))) for record in (one, other))
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key) and key != "seed"]
    same_kind = one.dataset.kind == other.dataset.kind
    return [*keys, *(["negatives"] if same_kind and one.inputs.get("rows") != other.inputs.get("rows") else [])]


def _flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings with dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{key}.")
        else:
            yield f"{within}{key}", value


def tokens_of_a_row(by_arm: Mapping[str, Sequence[RunRecord]]) -> dict[str, int]:
    """Arm -> tokens that the model reads of a typical row: the means of its columns added up."""
    found = {}
    for arm, records in by_arm.items():
        preflight = records[-1].training.preflight
        columns = [column for table in preflight.tokens.values() for column in table] if preflight else []
        found[arm] = round(sum(column.mean for column in columns))
    return found


def _negatives(record: RunRecord) -> int | None:
    """The negatives of a row; None where it is not known, and for a training without any, as its kind says already."""
    preflight = record.training.preflight
    if preflight is None or record.dataset.kind == NO_NEGATIVES:
        return None
    return sum(name.startswith("negative") for name in preflight.plan.prompts)


def _order(record: RunRecord) -> str | None:
    """What decides the order in which a seed brings the rows: all but the seed itself."""
    preflight = record.training.preflight
    if preflight is None or preflight.plan.sampler != _BY_NUMBER:
        return None
    return f"{preflight.batches['rows']} by {preflight.plan.sampler}"


_SHARED: Mapping[str, Callable[[RunRecord], Any]] = {
    "base": lambda record: record.base.revision,
    "queries and positives": lambda record: record.training.pairs,
    "negatives of a row": _negatives,
    "steps": lambda record: record.training.steps,
    "batch size": lambda record: record.training.batch_size,
    "order of rows": _order,
    "longest text": lambda record: record.training.preflight and record.training.preflight.plan.max_seq_length,
}
"""What fair arms share -> its value, None for not known."""
