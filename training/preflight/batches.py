"""How many batches and steps a training will have, from the sampler that the trainer itself makes.

A sampler without duplicates fills a batch with rows that share no text. Where texts recur, it gives fewer batches than
it announces, or smaller ones, and the trainer ends an epoch at the announced number, whatever rows are left. So the
sampler is iterated for the first epoch, as long as `BUDGET_S` lasts; the rest is extrapolated.
"""

import math
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, islice
from time import perf_counter
from typing import Any

import numpy as np
from datasets import IterableDataset
from msgspec import Struct
from sentence_transformers.base.sampler import BatchSamplers, NoDuplicatesBatchSampler

from foils import words
from training.preflight.report import Plan, Problem, Report
from training.preflight.texts import FEWER_USES, Texts

BUDGET_S = 10.0
UNUSED, UNUSED_WARNED = 0.5, 0.05
"""Shares of rows that the sampler leaves out of an epoch: refused above, warned of above."""
_WITHOUT_DUPLICATES = (BatchSamplers.NO_DUPLICATES.value, BatchSamplers.NO_DUPLICATES_HASHED.value)
_MOST_PARTS = 4


class Batches(Struct, frozen=True):
    """The batches and steps of a training.

    Attributes:
        rows: of all data sets; 0 for a stream, whose length is not known.
        announced: batches of an epoch of one process that the trainer plans with; None for a stream.
        batches: those of the first epoch that come; None for a stream. `of_parts` has them by data set.
        steps: of the optimiser; the learning rate is laid out for `planned_steps`.
        epochs: begun.
        unused: rows that the first epoch does not use; it uses `repeats` again to fill batches.
        exact: whether the first epoch was gone through, and no text kept a batch of it from coming.
        sampler_seconds: time that the sampler takes for an epoch, at least.
    """

    rows: int
    announced: int | None
    batches: int | None
    steps: int
    planned_steps: int
    epochs: int
    unused: int = 0
    repeats: int = 0
    of_parts: dict[str, int] = {}
    exact: bool = True
    sampler_seconds: float = 0.0

    @property
    def unused_share(self) -> float:
        """The share of rows that an epoch does not use, 0 to 1."""
        return self.unused / self.rows if self.rows else 0.0


def counted(trainer: Any, budget_s: float = BUDGET_S) -> Batches:
    """Iterates the sampler of a trainer; neither the trainer nor global random numbers change."""
    arguments, rows = trainer.args, trainer.train_dataset
    if isinstance(rows, IterableDataset):  # it needs `max_steps`
        steps = max(arguments.max_steps, 0)
        return Batches(0, None, None, steps, steps, 1, exact=False)
    # Before accelerate gives each process its batches, and without accelerate keeping the loader.
    loader = trainer._build_dataloader(rows, arguments.train_batch_size, dataset_kind="train")  # noqa: SLF001
    sampler, processes, accumulation = loader.batch_sampler, arguments.world_size, arguments.gradient_accumulation_steps
    announced = len(sampler) // processes if arguments.dataloader_drop_last else math.ceil(len(sampler) / processes)
    updates = max(math.ceil(announced / accumulation), 1)
    planned, epochs = math.ceil(arguments.num_train_epochs * updates), math.ceil(arguments.num_train_epochs)
    if arguments.max_steps > 0:
        planned, epochs = arguments.max_steps, math.ceil(arguments.max_steps / updates)
    sizes = {name: len(part) for name, part in (rows if isinstance(rows, dict) else {"rows": rows}).items()}
    starts = [0, *accumulate(sizes.values())]
    used, taken, of_parts, count = np.zeros(starts[-1], np.bool_), 0, [0] * len(sizes), 0
    batches, whole, started = announced, False, perf_counter()
    try:
        for step in islice(_steps(sampler, processes, budget_s), announced):
            count += 1
            for batch in step:
                taken += len(batch)
                of_parts[bisect_right(starts, batch[0]) - 1] += 1
                used[batch] = True
        batches, whole, distinct = count, True, int(used.sum())
    except TimeoutError:
        distinct = taken = starts[-1]
        of_parts = [math.ceil(announced * processes * size / starts[-1]) for size in sizes.values()]
    steps = updates if 0 < batches == announced else batches // accumulation
    return Batches(
        rows=starts[-1],
        announced=announced,
        batches=batches,
        steps=min(epochs * steps, planned),
        planned_steps=planned,
        epochs=epochs,
        unused=starts[-1] - distinct,
        repeats=taken - distinct,
        of_parts=dict(zip(sizes, of_parts, strict=True)),
        exact=whole and (epochs == 1 or batches == announced),
        sampler_seconds=(perf_counter() - started) * batches / max(count, 1),
    )


def _steps(sampler: Any, processes: int, budget_s: float) -> Iterator[Sequence[list[int]]]:
    """Yields the batches of the first epoch, one for each process at a time.

    Raises:
        TimeoutError: time is up; a sampler without duplicates may read all rows for a single batch.
    """
    deadline = perf_counter() + budget_s

    def in_time(rows: Any = None) -> Any:
        if perf_counter() > deadline:
            raise TimeoutError
        return rows

    for each in getattr(sampler, "batch_samplers", [sampler]):
        if isinstance(each, NoDuplicatesBatchSampler):
            each.dataset = each.dataset.with_transform(in_time)
    sampler.set_epoch(0)
    for step in zip(*[iter(sampler)] * processes, strict=False):
        yield step
        in_time()


def check(report: Report, found: Batches, texts: Collection[Texts], streamed: int | None = None) -> None:
    """Checks how many batches and steps there are, and how many rows they use; `streamed` rows were looked at."""
    plan, report.figures["batches"], report.figures["streamed"] = report.plan, found, streamed
    each = f"{plan.batch_size}" + (f" x {plan.processes} processes" if plan.processes > 1 else "")
    each += f" x {plan.accumulation} accumulated" if plan.accumulation > 1 else ""
    if streamed is not None:
        report.lines.append(("data", f"streamed, of unknown size; below: its first {streamed:,} rows"))
        report.lines.append(("batches", f"of {each}; {found.steps:,} steps"))
        return
    parts = f" in {len(found.of_parts)} data sets" if len(found.of_parts) > 1 else ""
    count = f"{'' if found.exact else 'about '}{found.batches:,}"
    count += f" ({found.announced:,} announced)" if found.announced != found.batches else ""
    steps = f"{found.steps:,} steps"
    steps += f" of {found.planned_steps:,} planned" if found.steps != found.planned_steps else ""
    again = f", {found.repeats:,} used again" if found.repeats else ""
    unused = f"{found.unused:,} rows unused an epoch ({found.unused_share:.1%})"
    report.lines += [
        ("data", f"{found.rows:,} rows{parts}; base {plan.base}, loss {plan.loss}"),
        ("batches", f"{count} of {each} an epoch; {found.epochs:,} epochs, {steps}"),
        ("", f"{unused}{again}; sampler {plan.sampler}"),
    ]
    if parts:
        counts = [f"{name} {count:,}" for name, count in found.of_parts.items()]
        report.lines.append(("", "; ".join(counts[:_MOST_PARTS])))
    why = _why(plan, texts)
    report.problems += _problems(plan, found, why)
    report.warnings += _warnings(plan, found, texts, why)


def _problems(plan: Plan, found: Batches, why: str) -> Iterator[Problem]:
    batch, size = plan.batch_size * plan.processes, f"trainer.per_device_train_batch_size {plan.batch_size}"
    size += f" on {plan.processes} processes" if plan.processes > 1 else ""
    less_sharing = "set trainer.per_device_train_batch_size lower"
    if plan.sampler in _WITHOUT_DUPLICATES:
        other = f"trainer.batch_sampler = {BatchSamplers.BATCH_SAMPLER.value!r}"
        less_sharing = f"{FEWER_USES}, or set a smaller batch, or {other}"
    if not found.batches:
        what = f"{size}: sampler {plan.sampler} makes no batch of {found.rows:,} rows{why}"
        remedy = f"set it lower, or {less_sharing}" if found.announced else "set it lower"
        yield Problem("no-batches", what, "at least one batch an epoch", remedy)
        return
    if batch > found.rows:
        what = f"{size}: the data has {found.rows:,} rows"
        yield Problem("batch-size", what, f"up to {found.rows:,}", "set it lower")
    empty = [name for name, count in found.of_parts.items() if not count]
    if empty:
        what = f"{size}: no batch comes from data set {', '.join(empty)}"
        yield Problem("no-batches", what, "at least one from each", "set it lower, or leave the data set out")
    if found.unused_share > UNUSED and batch <= found.rows:
        what = f"{found.unused:,} of {found.rows:,} rows ({found.unused_share:.1%}) are unused in an epoch"
        yield Problem("unused-rows", f"sampler {plan.sampler}: {what}{why}", f"up to {UNUSED:.0%}", less_sharing)


def _warnings(plan: Plan, found: Batches, texts: Collection[Texts], why: str) -> Iterator[str]:
    if found.batches and found.steps < found.planned_steps:
        yield (
            f"training ends after {found.steps:,} of {found.planned_steps:,} planned steps, so the learning rate never "
            "reaches its end: the sampler gives fewer batches than it announces"
        )
    if UNUSED_WARNED < found.unused_share <= UNUSED:
        yield f"{found.unused_share:.1%} of the rows are unused in an epoch{why}"
    repeats = any(each.repeated_queries or each.shared for each in texts)
    if plan.in_batch_negatives and plan.sampler not in _WITHOUT_DUPLICATES and repeats:
        yield (
            f"loss {plan.loss} takes the other rows' passages as negatives and sampler {plan.sampler} lets the same "
            f"text into a batch twice: set trainer.batch_sampler = {_WITHOUT_DUPLICATES[0]!r}"
        )
    if found.sampler_seconds > BUDGET_S:
        took = words.duration(found.sampler_seconds)
        yield f"sampler {plan.sampler} takes at least {took} an epoch{why}; batches are estimated from its first part"


def _why(plan: Plan, texts: Collection[Texts]) -> str:
    """The text that keeps rows apart."""
    most = max(texts, key=lambda each: each.most_used / max(each.rows, 1), default=None)
    if plan.sampler not in _WITHOUT_DUPLICATES or most is None or most.most_used <= 1:
        return ""
    return (
        f" (no text may stand twice in a batch; there are {most.negatives:,} distinct negatives, and one stands in "
        f"{most.most_used:,} rows)"
    )
