"""What of the figures is a problem, what is worth a warning, and what to do about each."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sentence_transformers.base.sampler import BatchSamplers

from training.preflight.batches import SECONDS_PER_LOOK, Batches
from training.preflight.disk import Disk
from training.preflight.findings import Notice, Problem
from training.preflight.memory import Memory
from training.preflight.report import Plan
from training.preflight.texts import Texts
from training.preflight.tokens import Lengths, positions_of

UNUSED, UNUSED_TOLD = 0.5, 0.05
"""Shares of rows that the sampler leaves out of an epoch: refused above, told above."""
REUSED, REUSED_TOLD, FEWEST = 0.05, 0.01, 20
"""Shares of rows with one and the same negative: refused above, told above; from so many rows on."""
CUT_TOLD = 0.2
SLOW_SECONDS = 1_800
"""Of an epoch, for the sampler alone."""
TIGHT = 0.8


class Facts(NamedTuple):
    """What was found, as `report.Report` names it."""

    plan: Plan
    batches: Batches
    memory: Memory | None
    disk: Disk
    tokens: dict[str, list[Lengths]]
    texts: dict[str, Texts]
    in_batch_negatives: bool
    streamed: bool


def problems(facts: Facts, arguments: Any) -> list[Problem]:
    """What must be solved, or allowed, before training."""
    found = list(_stream(arguments)) if facts.streamed else list(_batches(facts))
    found += [problem for name, each in facts.texts.items() for problem in _texts(_where(facts, name), each)]
    return [*found, *_room(facts)]


def notices(facts: Facts) -> list[Notice]:
    """What is good to know."""
    return [*_batch_notices(facts), *_text_notices(facts), *_room_notices(facts)]


def positions(model: Any, limit: int | None, base: str) -> list[Problem]:
    """Whether texts would be longer than the positions that a base has learnt."""
    most = positions_of(model)
    if limit is None or most is None or limit <= most:
        return []
    return [
        Problem(
            "positions", f"max_seq_length {limit}: base {base} has {most} positions", f"up to {most}", "set it lower"
        )
    ]


def _where(facts: Facts, name: str) -> str:
    return f"data set {name}: " if len(facts.texts) > 1 else ""


def _stream(arguments: Any) -> Iterator[Problem]:
    if arguments.max_steps <= 0:
        yield Problem(
            "no-batches",
            "trainer.max_steps is not set: a streamed data set has no length, so epochs cannot be counted",
            "a number of steps",
            "set trainer.max_steps",
        )


def _batches(facts: Facts) -> Iterator[Problem]:
    found, plan = facts.batches, facts.plan
    batch, size = plan.batch_size * plan.processes, f"trainer.per_device_train_batch_size {plan.batch_size}"
    together = f" on {plan.processes} processes" if plan.processes > 1 else ""
    if not found.batches:
        yield Problem(
            "no-batches",
            f"{size}{together}: sampler {plan.sampler} makes no batch of {found.rows:,} rows{_why(facts)}",
            "at least one batch an epoch",
            f"set it lower, or {_less_sharing(plan)}" if found.announced else "set it lower",
        )
        return
    if batch > found.rows:
        yield Problem(
            "batch-size", f"{size}{together}: the data has {found.rows:,} rows", f"up to {found.rows:,}", "set it lower"
        )
    empty = [name for name, count in found.of_parts.items() if not count]
    if empty:
        yield Problem(
            "no-batches",
            f"{size}{together}: no batch comes from data set {', '.join(empty)}",
            "at least one from each",
            "set it lower, or leave the data set out",
        )
    if found.unused_share > UNUSED and batch <= found.rows:
        yield Problem(
            "unused-rows",
            f"sampler {plan.sampler}: {found.unused:,.0f} of {found.rows:,} rows ({found.unused_share:.1%}) are unused "
            f"in an epoch{_why(facts)}",
            f"up to {UNUSED:.0%}",
            _less_sharing(plan),
        )
    if found.sampler_seconds > SLOW_SECONDS:
        least = "at least " if not found.exact else "about "
        yield Problem(
            "slow-sampler",
            f"sampler {plan.sampler}: takes {least}{found.sampler_seconds / 3600:,.1f} hours an epoch by itself, to "
            f"find rows without a common text{_why(facts)}",
            f"up to {SLOW_SECONDS // 60} minutes",
            _less_sharing(plan) + _hashes(plan),
        )


def _why(facts: Facts) -> str:
    """The text that keeps rows apart."""
    if facts.plan.sampler not in SECONDS_PER_LOOK:
        return ""
    most = max(facts.texts.values(), key=lambda each: each.most_used / max(each.rows, 1), default=None)
    if most is None or most.most_used < 2:  # noqa: PLR2004 - once is no reuse
        return ""
    return (
        f" (no text may stand twice in a batch; there are {most.negatives:,} distinct negatives, and one stands in "
        f"{most.most_used:,} rows)"
    )


def _less_sharing(plan: Plan) -> str:
    if plan.sampler not in SECONDS_PER_LOOK:
        return "set trainer.per_device_train_batch_size lower"
    return (
        "build with fewer uses of a negative (the selection rule max_uses), or set a smaller batch, or "
        f"trainer.batch_sampler = {BatchSamplers.BATCH_SAMPLER.value!r}"
    )


def _hashes(plan: Plan) -> str:
    hashed = BatchSamplers.NO_DUPLICATES_HASHED.value
    return "" if plan.sampler == hashed else f" (or {hashed!r}, about 10 times as fast)"


def _texts(where: str, found: Texts) -> Iterator[Problem]:
    if found.blanks:
        rows = "; ".join(f"{name}: rows {', '.join(map(str, places))}" for name, places in found.blank.items())
        yield Problem(
            "empty-text",
            f"{where}{found.blanks:,} texts are empty ({rows}{', ...' if _more(found) else ''})",
            "none",
            "drop these rows (counted from 0), or build the data set again",
        )
    if found.positives_as_negatives:
        rows = ", ".join(map(str, found.positive_as_negative))
        more = ", ..." if found.positives_as_negatives > len(found.positive_as_negative) else ""
        yield Problem(
            "positive-as-negative",
            f"{where}{found.positives_as_negatives:,} rows have their positive as a negative, case and white space "
            f"aside (rows {rows}{more})",
            "none",
            "drop these rows (counted from 0), or build the data set again",
        )
    if found.most_used >= FEWEST and found.most_used > REUSED * found.rows:
        yield Problem(
            "reused-negatives",
            f"{where}one negative stands in {found.most_used:,} of {found.rows:,} rows "
            f"({found.most_used / found.rows:.1%}): {found.most_used_text!r}",
            f"up to {REUSED:.0%}",
            "build with fewer uses of a negative (the selection rule max_uses)",
        )


def _more(found: Texts) -> bool:
    return found.blanks > sum(map(len, found.blank.values()))


def _room(facts: Facts) -> Iterator[Problem]:
    memory, disk = facts.memory, facts.disk
    if memory is not None and memory.need > memory.free:
        yield Problem(
            "memory",
            f"a step takes about {memory.need / 1e9:,.1f} GB more on each process",
            f"{memory.free / 1e9:,.1f} GB, which are free ({memory.device})",
            "set trainer.per_device_train_batch_size lower and trainer.gradient_accumulation_steps higher, or use a "
            "cached loss, trainer.gradient_checkpointing or a smaller max_seq_length",
        )
    if disk.need > disk.free:
        yield Problem(
            "disk",
            f"model and {disk.checkpoints} checkpoints take {disk.need / 1e9:,.1f} GB",
            f"{disk.free / 1e9:,.1f} GB, which are free",
            "free some, give --out on another disk, or set trainer.save_total_limit lower",
        )


def _batch_notices(facts: Facts) -> Iterator[Notice]:
    found, plan = facts.batches, facts.plan
    if found.batches and found.steps < found.planned_steps:
        yield Notice(
            "fewer-steps",
            f"training ends after {found.steps:,} of {found.planned_steps:,} planned steps, so the learning rate never "
            "reaches its end: the sampler gives fewer batches than it announces",
        )
    if UNUSED_TOLD < found.unused_share <= UNUSED:
        yield Notice("unused-rows", f"{found.unused_share:.1%} of the rows are unused in an epoch{_why(facts)}")
    if facts.in_batch_negatives and plan.sampler not in SECONDS_PER_LOOK and _repeats(facts):
        yield Notice(
            "duplicates-in-batch",
            f"loss {plan.loss} takes the other rows' passages as negatives and sampler {plan.sampler} lets the same "
            f"text into a batch twice: set trainer.batch_sampler = {BatchSamplers.NO_DUPLICATES.value!r}",
        )
    if not found.exact and not facts.streamed:
        yield Notice("estimated", f"batches are estimated: sampler {plan.sampler} was not gone through to its end")


def _repeats(facts: Facts) -> bool:
    return any(each.repeated_queries or each.shared for each in facts.texts.values())


def _text_notices(facts: Facts) -> Iterator[Notice]:
    for name, found in facts.texts.items():
        where = _where(facts, name)
        share = found.most_used / found.rows if found.rows else 0.0
        if found.most_used >= FEWEST and REUSED_TOLD < share <= REUSED:
            yield Notice(
                "reused-negatives",
                f"{where}one negative stands in {found.most_used:,} rows ({share:.1%}): {found.most_used_text!r}",
            )
    for name, columns in facts.tokens.items():
        cut = [f"{each.column} {each.cut:.0%}" for each in columns if each.cut > CUT_TOLD]
        if cut:
            yield Notice(
                "truncation",
                f"{_where(facts, name)}texts are cut at {facts.plan.max_seq_length} tokens: {', '.join(cut)}; set "
                "max_seq_length higher if their ends matter",
            )


def _room_notices(facts: Facts) -> Iterator[Notice]:
    memory = facts.memory
    if memory is not None and TIGHT * memory.free < memory.need <= memory.free:
        yield Notice("memory", f"a step takes about {memory.need / memory.free:.0%} of the memory that is free")
