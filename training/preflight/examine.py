"""Looks at the trainer that will run a training: all figures, and what is wrong with them.

report = examine(ready)             # seconds; minutes for a million rows
print(report.table())
report.refuse(config.allow)         # raises, with a remedy for each problem
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from datasets import Dataset, IterableDataset
from sentence_transformers import CrossEncoder
from sentence_transformers.base.sampler import BatchSamplers

from foils import words
from foils.records import Seen
from training.loop.making import Ready
from training.losses.table import LOSSES, mini_batch_of
from training.preflight import batches, room, texts, tokens
from training.preflight.report import Plan, Report

STREAMED = 1_000
"""Rows of a stream that are looked at."""
_MOST_NAMES = 6


def examine(ready: Ready) -> Report:
    """Looks at data, model and arguments as the trainer has them; changes nothing, random numbers included."""
    job, trainer, model, arguments = ready.job, ready.trainer, ready.trainer.model, ready.trainer.args
    rows, streamed = trainer.train_dataset, isinstance(ready.trainer.train_dataset, IterableDataset)
    tables = _first_rows(rows) if streamed else _by_name(rows)
    originals = tables if ready.originals is None else _by_name(ready.originals)
    found = {name: texts.examined(table) for name, table in originals.items()}
    lengths = {name: tokens.counted(table, model, ready.prompts, arguments.seed) for name, table in tables.items()}
    report = Report(plan := _plan(ready), {"plan": plan})
    batches.check(
        report, batches.counted(trainer), found.values(), sum(map(len, tables.values())) if streamed else None
    )
    disk = room.disk_of(model, arguments, job.out, timed=job.config.checkpoint_minutes > 0)
    room.check(report, _memory(ready, plan, lengths), disk)
    tokens.check(report, lengths, tokens.positions_of(model))
    texts.check(report, found)
    _overlap(report, job.seen)
    tokens.check_prompts(report, model)
    return report


def _by_name(rows: Dataset | dict[str, Dataset]) -> dict[str, Dataset]:
    return {"rows": rows} if isinstance(rows, Dataset) else dict(rows)


def _first_rows(stream: IterableDataset) -> dict[str, Dataset]:
    """The first rows of a stream by their columns, which are those of their source; a small source comes again."""
    parts: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for row in islice(stream, STREAMED):
        parts.setdefault(tuple(row), {})[tuple(row.values())] = None
    return {
        f"stream {number}" if len(parts) > 1 else "stream": Dataset.from_list(
            [dict(zip(columns, row, strict=True)) for row in rows]
        )
        for number, (columns, rows) in enumerate(parts.items(), start=1)
    }


def _plan(ready: Ready) -> Plan:
    arguments, config = ready.trainer.args, ready.job.config
    sampler, pairs = arguments.batch_sampler, isinstance(ready.trainer.model, CrossEncoder)
    return Plan(
        base=ready.job.base.name,
        sampler=sampler.value if isinstance(sampler, BatchSamplers) else getattr(sampler, "__name__", str(sampler)),
        batch_size=arguments.train_batch_size,
        processes=arguments.world_size,
        accumulation=arguments.gradient_accumulation_steps,
        max_seq_length=tokens.limit_of(ready.trainer.model),
        loss="binary-cross-entropy" if pairs else config.loss,
        in_batch_negatives=not pairs and LOSSES[config.loss].in_batch,
        prompts=dict(ready.prompts),
    )


def _memory(ready: Ready, plan: Plan, lengths: Mapping[str, Sequence[tokens.Lengths]]) -> room.Room | None:
    model, arguments = ready.trainer.model, ready.trainer.args
    columns = dict[str, int]()
    for each in (each for some in lengths.values() for each in some):
        read = min(each.longest, plan.max_seq_length or each.longest)
        columns[each.column] = max(read, columns.get(each.column, 1))
    if not columns:
        return None
    mini_batch = None if isinstance(model, CrossEncoder) else mini_batch_of(ready.job.config)
    merged = arguments.device.type != "cpu"  # see training.loop.making.Trainer
    return room.memory_of(
        model, arguments, columns, in_batch=plan.in_batch_negatives, mini_batch=mini_batch, merged=merged
    )


def _overlap(report: Report, seen: Seen | None) -> None:
    """Reports which evaluation sets data and base have seen."""
    report.figures["seen"] = seen
    if seen is not None:
        data, base, compared = (
            None if names is None else words.listed(names, _MOST_NAMES) or "none"
            for names in (seen.data, seen.base, seen.compared_with)
        )
        known = f"with {data}; compared with {compared}"
        unknown = "the data was not compared with any evaluation set: nothing is known"
        report.lines.append(("overlap", unknown if data is None else known))
        report.lines.append(("", f"evaluation sets that the base was trained on: {base or 'not known'}"))
