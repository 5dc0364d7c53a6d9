"""How many batches and steps a training will really have: sentence-transformers' samplers, foretold.

`NoDuplicatesBatchSampler` fills a batch with rows that share no text. Where texts recur it gives fewer batches than it
announces, or smaller ones; and the trainer stops an epoch at the announced number, whatever rows are left. All of it
follows from texts, seed and epoch, so it is computed exactly, with the samplers' own random numbers, on integer codes
in place of texts.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Struct
from sentence_transformers.base.sampler import BatchSamplers, MultiDatasetBatchSamplers

from training.preflight.kernels import one_pass

Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]

PASSES = 3  # sampler.py: one, and _MAX_RESAMPLE_PASSES more where it fell short
# Rows that the samplers of all epochs may look at before the rest is estimated: some ten seconds.
BUDGET = 1_000_000_000
# What looking at a row costs sentence-transformers, measured on one busy core: it reads the row from the data set, or
# compares its hashes.
SECONDS_PER_LOOK = {"no_duplicates": 1e-4, "no_duplicates_hashed": 1e-5}


class Plan(NamedTuple):
    """What the trainer's arguments say about batches.

    Attributes:
        sampler: `batch_sampler`, `no_duplicates`, `no_duplicates_hashed` or another's name.
        several: `proportional` or `round_robin`.
        batch_size: rows in a batch of one process.
        processes: that train.
        accumulation: batches of a process that make up a step.
        epochs: wanted.
        max_steps: wanted; with it, epochs do not count. -1 for none.
        drop_last: whether incomplete batches are dropped.
        seed: of the order.
    """

    sampler: str
    several: str
    batch_size: int
    processes: int
    accumulation: int
    epochs: float
    max_steps: int
    drop_last: bool
    seed: int

    @property
    def without_duplicates(self) -> bool:
        """Whether a text may stand in a batch only once."""
        return self.sampler in SECONDS_PER_LOOK


class Batches(Struct, frozen=True):
    """What a training will have.

    Attributes:
        rows: of all data sets.
        announced: batches of an epoch of one process, as the trainer plans with; None for a stream.
        batches: those of the first epoch that come.
        steps: of the optimiser, in all; `planned_steps` is what the learning rate is laid out for.
        planned_steps: see there.
        epochs: begun.
        unused: rows that an epoch does not use, on average.
        repeats: rows that an epoch uses again, on average, to make up for batches that it could not fill.
        of_parts: batches of the first epoch from each data set, over all processes.
        exact: False where it was too much to go through, or the sampler is not one that is known.
        sampler_seconds: what the sampler itself takes in an epoch, about.
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
        """Of all rows, 0 to 1."""
        return self.unused / self.rows if self.rows else 0.0


def plan_of(arguments: Any) -> Plan:
    """The plan in sentence-transformers' training arguments."""
    sampler, several = arguments.batch_sampler, arguments.multi_dataset_batch_sampler
    return Plan(
        sampler.value if isinstance(sampler, BatchSamplers) else getattr(sampler, "__name__", str(sampler)),
        several.value if isinstance(several, MultiDatasetBatchSamplers) else getattr(several, "__name__", str(several)),
        arguments.train_batch_size,
        arguments.world_size,
        arguments.gradient_accumulation_steps,
        arguments.num_train_epochs,
        arguments.max_steps,
        arguments.dataloader_drop_last,
        arguments.seed,
    )


def codes_of(hashes: Sequence[npt.NDArray[np.uint64]]) -> tuple[Codes, int]:
    """Numbers of the texts that stand in the columns more than once.

    Args:
        hashes: of each column's texts, each `(n_rows,)`.

    Returns:
        `(n_rows, n_columns)`, -1 where a text stands nowhere else; and how many codes there are.
    """
    ordered = np.sort(np.concatenate(hashes))
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    codes = np.full((len(hashes[0]), len(hashes)), -1, np.int32)
    if len(repeated):
        for number, column in enumerate(hashes):
            places = np.minimum(np.searchsorted(repeated, column), len(repeated) - 1)
            found = repeated[places] == column
            codes[found, number] = places[found]
    return codes, len(repeated)


def foretell(parts: dict[str, tuple[Codes, int]], plan: Plan, budget: int = BUDGET) -> Batches:
    """What a training will have.

    Args:
        parts: the codes of each data set, see `codes_of`.
        plan: see there.
        budget: rows that may be looked at, over all epochs, before the rest is estimated.
    """
    sizes = {name: len(codes) for name, (codes, _) in parts.items()}
    total = sum(sizes.values())
    announced = _announced(list(sizes.values()), plan)
    updates = max(math.ceil(announced / plan.accumulation), 1)
    planned = plan.max_steps if plan.max_steps > 0 else math.ceil(plan.epochs * updates)
    epochs = math.ceil(planned / updates) if plan.max_steps > 0 else math.ceil(plan.epochs)
    known = plan.sampler == BatchSamplers.BATCH_SAMPLER.value or plan.without_duplicates
    counter = _Counter(parts, plan, budget)
    first: _Epoch | None = None
    gone: list[_Epoch] = []
    steps = 0
    for number in range(epochs if announced else 0):
        epoch = counter.epoch(number, announced)
        first, gone = first or epoch, [*gone, epoch]
        whole = epoch.batches == announced
        steps += updates if whole else epoch.batches // plan.accumulation
        if counter.same_every_epoch or counter.spent:
            steps += (epochs - number - 1) * (updates if whole else epoch.batches // plan.accumulation)
            break
        if steps >= planned:
            break
    mean = np.mean([[each.unused, each.repeats, each.looks] for each in gone] or [[total, 0, 0]], axis=0)
    return Batches(
        rows=total,
        announced=announced,
        batches=first.batches if first else 0,
        steps=min(steps, planned),
        planned_steps=planned,
        epochs=epochs,
        unused=float(mean[0]),
        repeats=float(mean[1]),
        of_parts=dict(zip(sizes, first.of_parts if first else [0] * len(sizes), strict=True)),
        exact=known and not counter.spent,
        sampler_seconds=float(mean[2]) * SECONDS_PER_LOOK.get(plan.sampler, 0.0),
    )


def _length(rows: int, plan: Plan) -> int:
    """Batches that a sampler announces for a data set."""
    return rows // plan.batch_size if plan.drop_last else math.ceil(rows / plan.batch_size)


def _announced(sizes: Sequence[int], plan: Plan) -> int:
    """Batches of an epoch that the trainer counts on, for each process."""
    lengths = [_length(size, plan) for size in sizes]
    round_robin = plan.several == MultiDatasetBatchSamplers.ROUND_ROBIN.value
    whole = min(lengths) * len(lengths) if round_robin else sum(lengths)
    return whole // plan.processes if plan.drop_last else math.ceil(whole / plan.processes)


class _Epoch(NamedTuple):
    batches: int  # of a process
    of_parts: list[int]
    unused: int
    repeats: int
    looks: int


class _Batch(NamedTuple):
    part: int
    rows: Rows | int
    """Which they are; only how many where each is used once."""


class _Counter:
    """Goes through epochs as the trainer would."""

    def __init__(self, parts: dict[str, tuple[Codes, int]], plan: Plan, budget: int) -> None:
        self._parts, self._plan = list(parts.values()), plan
        self._generator = torch.Generator()
        self._left, self._looks = budget, 0
        repeated = plan.without_duplicates and any(count for _, count in self._parts)
        self.same_every_epoch = not repeated
        self.spent = False

    def epoch(self, number: int, announced: int) -> _Epoch:
        """What comes in an epoch, up to the announced number of batches for each process."""
        self._looks = 0
        plan, used = self._plan, [np.zeros(len(codes), np.bool_) for codes, _ in self._parts]
        of_parts, batches, rows_used, distinct = [0] * len(used), 0, 0, 0
        waiting: list[_Batch] = []
        for batch in self._batches(number):
            if batches == announced:
                break
            waiting.append(batch)
            if len(waiting) < plan.processes:
                continue
            batches += 1
            for part, rows in waiting:
                of_parts[part] += 1
                if isinstance(rows, int):
                    rows_used, distinct = rows_used + rows, distinct + rows
                else:
                    rows_used += len(rows)
                    used[part][rows] = True
            waiting = []
        distinct += sum(int(of_part.sum()) for of_part in used)
        total = sum(len(codes) for codes, _ in self._parts)
        return _Epoch(batches, of_parts, total - distinct, rows_used - distinct, self._looks)

    def _batches(self, epoch: int) -> Iterator[_Batch]:
        """Batches in the order of a `RoundRobinBatchSampler` or `ProportionalBatchSampler`, or of the only data set."""
        samplers = [self._sampler(part, epoch) for part in range(len(self._parts))]
        if len(samplers) == 1:
            yield from samplers[0]
            return
        self._generator.manual_seed(self._plan.seed + epoch)
        if self._plan.several == MultiDatasetBatchSamplers.ROUND_ROBIN.value:
            for together in zip(*samplers, strict=False):
                yield from together
            return
        lengths = [_length(len(codes), self._plan) for codes, _ in self._parts]
        owners = np.repeat(np.arange(len(lengths)), lengths)
        for place in torch.randperm(len(owners), generator=self._generator).numpy():
            batch = next(samplers[owners[place]], None)
            if batch is not None:
                yield batch

    def _sampler(self, part: int, epoch: int) -> Iterator[_Batch]:
        codes, n_codes = self._parts[part]
        plan, rows = self._plan, len(codes)
        length = _length(rows, plan)
        if self.same_every_epoch:
            self._looks += rows
            for start in range(0, length * plan.batch_size, plan.batch_size):
                yield _Batch(part, min(plan.batch_size, rows - start))
            return
        self._generator.manual_seed(plan.seed + epoch)
        given = 0
        for again in range(PASSES):
            for batch in self._pass(codes, n_codes):
                yield _Batch(part, batch)
                given += 1
                if again and given >= length:
                    return
            if given >= length or not given:
                return

    def _pass(self, codes: Codes, n_codes: int) -> Iterator[Rows]:
        """The rows of each batch of one shuffle."""
        plan = self._plan
        order = torch.randperm(len(codes), generator=self._generator, dtype=torch.int32).numpy()
        limits = (_length(len(codes), plan) + 1, self._left)
        used, ends, looks, worked, enough = one_pass(codes[order], n_codes, plan.batch_size, plan.drop_last, limits)
        self._left, self.spent = max(self._left - worked, 0), self.spent or not enough
        start, looked = 0, 0
        for end, by_now in zip(ends, looks, strict=False):
            self._looks, looked = self._looks + by_now - looked, by_now
            yield order[used[start:end]]
            start = end
        self._looks += looks[-1] - looked
