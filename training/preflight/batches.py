"""How many batches and steps a training will have, from the sampler that the trainer itself makes.

A sampler without duplicates fills a batch with rows that share no text. Where texts recur, it gives fewer batches than
it announces, or smaller ones, and the trainer ends an epoch at the announced number, whatever rows are left. So the
sampler is iterated for each epoch, as long as `BUDGET_S` lasts; the rest is extrapolated.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, islice
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from datasets import IterableDataset
from msgspec import Struct
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

BUDGET_S = 10.0


class Batches(Struct, frozen=True):
    """The batches and steps of a training.

    Attributes:
        rows: of all data sets; 0 for a stream, whose length is not known.
        announced: batches of an epoch of one process that the trainer plans with; None for a stream.
        batches: those of the first epoch that come; None for a stream. `of_parts` has them by data set.
        steps: of the optimiser; the learning rate is laid out for `planned_steps`.
        epochs: begun.
        unused: rows that an epoch does not use, on average; it uses `repeats` again to fill batches.
        exact: whether every epoch was gone through, or all are alike.
        sampler_seconds: time that the sampler takes for an epoch, at least.
    """

    rows: int
    announced: int | None
    batches: int | None
    steps: int
    planned_steps: int
    epochs: int
    unused: float = 0.0
    repeats: float = 0.0
    of_parts: dict[str, int] = {}
    exact: bool = True
    sampler_seconds: float = 0.0

    @property
    def unused_share(self) -> float:
        """The share of rows that an epoch does not use, 0 to 1."""
        return self.unused / self.rows if self.rows else 0.0


class _Limited:
    """Rows that can be read until a deadline; a sampler without duplicates may read all of them for one batch."""

    def __init__(self, rows: Any, deadline: float) -> None:
        self._rows, self._deadline = rows, deadline

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        """Returns a row.

        Raises:
            TimeoutError: the deadline is over.
        """
        if perf_counter() > self._deadline:
            raise TimeoutError
        return self._rows[index]


class _Epoch(NamedTuple):
    batches: int  # of one process
    of_parts: list[int]
    unused: int
    repeats: int
    seconds: float
    whole: bool


def counted(trainer: Any, budget_s: float = BUDGET_S) -> Batches:
    """Iterates the sampler of a trainer; neither the trainer nor global random numbers change.

    Args:
        trainer: of sentence-transformers, with its rows and arguments.
        budget_s: seconds after which the rest is extrapolated.
    """
    arguments, rows = trainer.args, trainer.train_dataset
    if isinstance(rows, IterableDataset):  # it needs `max_steps`
        steps = max(arguments.max_steps, 0)
        return Batches(0, None, None, steps, steps, 1, exact=False)
    # Before accelerate gives each process its batches, and without accelerate keeping the loader.
    loader = trainer._build_dataloader(rows, arguments.train_batch_size, dataset_kind="train")  # noqa: SLF001
    sampler, processes, accumulation = loader.batch_sampler, arguments.world_size, arguments.gradient_accumulation_steps
    sizes = {name: len(part) for name, part in (rows if isinstance(rows, dict) else {"rows": rows}).items()}
    announced = len(sampler) // processes if arguments.dataloader_drop_last else math.ceil(len(sampler) / processes)
    updates = max(math.ceil(announced / accumulation), 1)
    planned, epochs = math.ceil(arguments.num_train_epochs * updates), math.ceil(arguments.num_train_epochs)
    if arguments.max_steps > 0:
        planned, epochs = arguments.max_steps, math.ceil(arguments.max_steps / updates)
    deadline = perf_counter() + budget_s
    several = getattr(sampler, "batch_samplers", [sampler])
    reading = [each for each in several if isinstance(each, NoDuplicatesBatchSampler)]
    for each in reading:
        each.dataset = _Limited(each.dataset, deadline)
    gone: list[_Epoch] = []
    for number in range(epochs if reading else 1):
        epoch = _epoch(sampler, number, list(sizes.values()), (announced, processes), deadline)
        if gone and not epoch.whole:
            break
        gone.append(epoch)
        if perf_counter() > deadline:
            break
    of_epochs = [updates if 0 < each.batches == announced else each.batches // accumulation for each in gone]
    return Batches(
        rows=sum(sizes.values()),
        announced=announced,
        batches=gone[0].batches,
        steps=min(sum(of_epochs) + (epochs - len(gone)) * of_epochs[0], planned),
        planned_steps=planned,
        epochs=epochs,
        unused=float(np.mean([each.unused for each in gone])),
        repeats=float(np.mean([each.repeats for each in gone])),
        of_parts=dict(zip(sizes, gone[0].of_parts, strict=True)),
        exact=all(each.whole for each in gone) and (len(gone) == epochs or not reading),
        sampler_seconds=max(each.seconds for each in gone),
    )


def _epoch(sampler: Any, number: int, sizes: Sequence[int], limits: tuple[int, int], deadline: float) -> _Epoch:
    """Counts the batches of an epoch, up to the announced ones of each process."""
    announced, processes = limits
    starts, started = [0, *accumulate(sizes)], perf_counter()
    used, taken, of_parts, count, is_late = np.zeros(starts[-1], np.bool_), 0, [0] * len(sizes), 0, False
    sampler.set_epoch(number)
    try:
        for step in islice(zip(*[iter(sampler)] * processes, strict=False), announced):  # one batch for each process
            count += 1
            for batch in step:
                taken += len(batch)
                of_parts[bisect_right(starts, batch[0]) - 1] += 1
                used[batch] = True
            if is_late := perf_counter() > deadline:
                break
    except TimeoutError:
        is_late = True
    seconds, distinct = perf_counter() - started, int(used.sum())
    if is_late and count < announced:
        of_sizes = [math.ceil(announced * processes * size / starts[-1]) for size in sizes]
        return _Epoch(announced, of_sizes, 0, 0, seconds * announced / max(count, 1), whole=False)
    return _Epoch(count, of_parts, starts[-1] - distinct, taken - distinct, seconds, whole=True)
