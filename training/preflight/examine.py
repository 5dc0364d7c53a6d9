"""Counts all figures of a training on the trainer that will run it, and checks them."""

from itertools import islice

from datasets import Dataset, IterableDataset
from sentence_transformers import CrossEncoder
from sentence_transformers.base.sampler import BatchSamplers

from training.job import Ready
from training.losses.table import LOSSES, mini_batch_of
from training.preflight import batches, checks, prompts, room, texts, tokens
from training.preflight.findings import Figures, Plan, Report

STREAMED = 1_000
"""Rows of a stream that are looked at."""


def examine(ready: Ready) -> Report:
    """Looks at data, model and arguments as the trainer has them; changes nothing, random numbers included."""
    job, trainer, model, arguments = ready.job, ready.trainer, ready.trainer.model, ready.trainer.args
    rows = trainer.train_dataset
    parts = _first_rows(rows) if isinstance(rows, IterableDataset) else _parts(rows)
    originals = parts if ready.originals is None else _parts(ready.originals)
    lengths = {name: tokens.counted(table, model, ready.prompts, arguments.seed) for name, table in parts.items()}
    report = Report(
        Figures(
            plan=_plan(ready),
            batches=batches.counted(trainer),
            memory=_memory(ready, [each for columns in lengths.values() for each in columns]),
            disk=room.disk(model, arguments, job.out, timed=job.config.checkpoint_minutes > 0),
            tokens=lengths,
            texts={name: texts.examined(table) for name, table in originals.items()},
            seen=job.seen,
            streamed=sum(map(len, parts.values())) if isinstance(rows, IterableDataset) else None,
        )
    )
    for check in checks.ALL:
        check(report)
    checks.positions(report, tokens.positions_of(model))
    lacking = prompts.missing(job.base.name, model, ready.prompts)
    report.warnings += [lacking] if lacking else []
    return report


def _parts(rows: Dataset | dict[str, Dataset]) -> dict[str, Dataset]:
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


def _memory(ready: Ready, lengths: list[tokens.Lengths]) -> room.Memory | None:
    if not lengths:
        return None
    model, arguments, plan = ready.trainer.model, ready.trainer.args, _plan(ready)
    columns = dict[str, int]()
    for each in lengths:
        read = min(each.longest, plan.max_seq_length or each.longest)
        columns[each.column] = max(read, columns.get(each.column, 1))
    mini_batch = None if isinstance(model, CrossEncoder) else mini_batch_of(ready.job.config)
    merged = arguments.device.type != "cpu"  # see training.loop.retriever.Trainer
    rows = arguments.per_device_train_batch_size
    return room.memory(model, arguments, room.Batch(rows, columns, plan.in_batch_negatives, mini_batch, merged))
