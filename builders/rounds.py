"""Rounds: some checks compare the answers to several tasks. A task that fails one is asked again after all others.

These checks are made as tasks are settled, in the tasks' order, so the order of the LLM's answers decides nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

import pyarrow as pa

from builders import schema
from builders.llm.messages import Converse, TaskT
from builders.spool import Spool, in_places

Row = tuple[object, ...]
Settled = tuple[Sequence[Row], Sequence[Row]]
"""Rows of accepted texts, and of drops."""
_PLACE = pa.field("place", pa.int64())


def in_rounds(
    converse: Converse,
    stage: str,
    tasks: Iterable[TaskT],
    *,
    total: int,
    attempts: int,
    settle: Callable[[TaskT], Settled | None],
    columns: pa.Schema,
) -> tuple[pa.Table, pa.Table]:
    """Has tasks answered; returns the accepted rows and the drops, both in the order of the tasks.

    Args:
        converse: the LLM.
        stage: names the progress bar and the account.
        tasks: what is asked.
        total: the number of tasks.
        attempts: of each task in the first round. In a further round it has one.
        settle: makes the rows of a task; None asks it again.
        columns: of accepted rows; those of drops are `schema.DROPS`.
    """
    tables = (Spool(columns.insert(0, _PLACE)), Spool(schema.DROPS.insert(0, _PLACE)))
    late: tuple[list[Row], list[Row]] = ([], [])
    places: Iterator[int] = count()
    again: list[tuple[int, TaskT]] = []
    is_first = True

    def done(task: TaskT) -> bool:
        place, settled = next(places), settle(task)
        if settled is None:
            again.append((place, task))
            return False
        for table, further, rows in zip(tables, late, settled, strict=True):
            for row in rows:
                if is_first:
                    table.row(place, *row)
                else:
                    further.append((place, *row))
        return bool(settled[0])

    if total:
        converse(stage, tasks, total=total, attempts=attempts, done=done)
    is_first = False
    while again:
        waiting, again = again, []
        places = iter([place for place, _ in waiting])
        converse(stage, [task for _, task in waiting], total=len(waiting), attempts=1, done=done)
    accepted, dropped = (in_places(table.table(), rows) for table, rows in zip(tables, late, strict=True))
    return accepted, dropped
