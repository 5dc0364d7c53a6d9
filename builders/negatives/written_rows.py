"""What comes of tasks that have negatives written, query by query: Arrow columns, in the order of the queries.

Some checks need more than one task: copies among the answers to one query, and stock answers, which many queries get.
They are made as tasks settle, in the queries' order, so that the order of the LLM's answers decides nothing.
"""

import re
from typing import Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.columns import Columns, Hashes, hash_of, in_places
from builders.negatives.material import Mined
from builders.negatives.written_checks import WrittenChecks, reject_beside
from builders.texts import Shingles, shingles
from foils.texts import normalised

_PLACE = pa.field("place", pa.int64())
_WRITTEN, _DROPPED = schema.GENERATED.insert(0, _PLACE), schema.DROPS.insert(0, _PLACE)


class Settled(Protocol):
    """What `llm.NegativesTask` is to its rows; see there for what each attribute means."""

    query_id: str
    size: int
    place: int | None
    kept: set[str]
    written: dict[str, tuple[str, str]]
    rejected: dict[str, tuple[str, str]]

    @property
    def may_ask_again(self) -> bool:
        """Whether negatives are missing and another try is left."""

    def take_back(self, negative_id: str, reason: str) -> None:
        """A written negative cannot be used beside others."""


TaskT = TypeVar("TaskT", bound=Settled)


class WrittenRows(Generic[TaskT]):
    """Collects settled tasks.

    Attributes:
        again: those that have lost an answer here and may ask for another one.
    """

    def __init__(self, kind: str, checks: WrittenChecks) -> None:
        self.again: list[TaskT] = []
        self._kind = kind
        self._checks = checks
        self._stock = Hashes()
        self._query_id = ""
        self._beside: dict[str, list[Shingles]] = {}  # of the current query, and of those that are asked again
        self._waiting: set[str] = set()
        self._written, self._dropped = Columns(_WRITTEN), Columns(_DROPPED)
        self._late_written: list[tuple[object, ...]] = []
        self._late_dropped: list[tuple[object, ...]] = []
        self._next = 0

    def add(self, task: TaskT) -> None:
        """Takes a settled task; those of one query come one after the other."""
        is_late = task.place is not None
        if task.place is None:
            task.place, self._next = self._next, self._next + task.size
            if task.query_id != self._query_id:
                if self._query_id not in self._waiting:
                    self._beside.pop(self._query_id, None)
                self._query_id = task.query_id
        self._judge(task)
        if task.may_ask_again:
            self.again.append(task)
            self._waiting.add(task.query_id)
            return
        for place, (negative_id, (text, call_key)) in enumerate(sorted(task.written.items(), key=_number), task.place):
            written = (place, negative_id, text, task.query_id, call_key)
            self._late_written.append(written) if is_late else self._written.add(*written)
        for place, (negative_id, (reason, text)) in enumerate(task.rejected.items(), task.place):
            dropped = (place, self._kind, negative_id, reason, text)
            self._late_dropped.append(dropped) if is_late else self._dropped.add(*dropped)

    def mined(self) -> Mined:
        """All of it."""
        generated = in_places(self._written.table(), self._late_written)
        drops = in_places(self._dropped.table(), self._late_dropped)
        return Mined(_candidates(generated), generated, drops)

    def _judge(self, task: TaskT) -> None:
        beside = self._beside.setdefault(task.query_id, [])
        for negative_id, (text, _) in sorted(task.written.items(), key=_number):
            if negative_id in task.kept:
                continue
            reason = reject_beside(text, beside, self._checks) or self._stock_answer(text)
            if reason is None:
                task.kept.add(negative_id)
                beside.append(shingles(text))
            else:
                task.take_back(negative_id, reason)

    def _stock_answer(self, text: str) -> str | None:
        """Whether as many queries as may have a text have it already."""
        most, folded = self._checks.max_repeats, normalised(text)
        is_new = not most or any(self._stock.add(hash_of(f"{copy} {folded}")) for copy in range(most))
        return None if is_new else "stock-answer"


def _candidates(generated: pa.Table) -> pa.Table:
    """Written negatives as candidates, ranked by their number; those of one query stand together."""
    rows = generated.num_rows
    queries = pc.dictionary_encode(generated["query-id"].combine_chunks()).indices.to_numpy() if rows else np.empty(0)
    starts = np.flatnonzero(np.diff(queries, prepend=-1))
    ranks = np.arange(rows) - np.repeat(starts, np.diff(starts, append=rows)) + 1
    columns = [generated["query-id"], generated["_id"], pa.array(ranks, pa.int32()), pa.nulls(rows, pa.float64())]
    return pa.table(columns, schema.CANDIDATES)


def _number(written: tuple[str, tuple[str, str]]) -> int:
    digits = re.search(r"\d+$", written[0])
    return int(digits[0]) if digits else 0
