"""The report of pre-flight: all figures, the table for the terminal, and the refusal."""

from collections.abc import Collection
from itertools import islice

from datasets import Dataset, IterableDataset
from msgspec import Struct
from sentence_transformers import CrossEncoder
from sentence_transformers.base.sampler import BatchSamplers

from foils.errors import UserError
from training.job import Ready
from training.losses.table import LOSSES, mini_batch_of
from training.preflight import batches, checks, prompts, room, texts, tokens
from training.preflight.findings import Check, Figures, Plan, Problem
from training.recipe import Allowable

STREAMED = 1_000
"""Rows of a stream that are looked at."""
_LABEL = 10


class Report(Struct, frozen=True):
    """The figures and the checks of them.

    Attributes:
        figures: for the run record.
        checks: in the order of the table.
    """

    figures: Figures
    checks: list[Check]

    @property
    def problems(self) -> list[Problem]:
        """The problems that must be solved, or allowed, before training."""
        return [problem for check in self.checks for problem in check.problems]

    @property
    def warnings(self) -> list[str]:
        """The warnings, which do not stop a training."""
        return [warning for check in self.checks for warning in check.warnings]


def examine(ready: Ready) -> Report:
    """Looks at data, model and arguments as the trainer has them; changes nothing, random numbers included."""
    job, trainer, model, arguments = ready.job, ready.trainer, ready.trainer.model, ready.trainer.args
    streamed = isinstance(trainer.train_dataset, IterableDataset)
    parts = _parts(trainer.train_dataset)
    originals = parts if ready.originals is None else _parts(ready.originals)
    counted = batches.counted(trainer)
    lengths = {name: tokens.counted(rows, model, ready.prompts, arguments.seed) for name, rows in parts.items()}
    figures = Figures(
        plan=_plan(ready),
        batches=counted,
        memory=_memory(ready, [each for columns in lengths.values() for each in columns]),
        disk=room.disk(model, arguments, job.out, counted.steps, timed=job.config.checkpoint_minutes > 0),
        tokens=lengths,
        texts={name: texts.examined(rows) for name, rows in originals.items()},
        seen=job.seen,
        streamed=sum(map(len, parts.values())) if streamed else None,
    )
    lacking = prompts.missing(job.base.name, model, ready.prompts)
    of_model = [checks.positions(figures, tokens.positions_of(model)), Check(warnings=[lacking] if lacking else [])]
    return Report(figures, [check(figures) for check in checks.ALL] + of_model)


def refuse(report: Report, allowed: Collection[Allowable] = ()) -> None:
    """Refuses what must not be trained with.

    Args:
        report: what pre-flight found.
        allowed: the recipe's `allow`: keys of problems that are let through.

    Raises:
        UserError: there are problems; all of them, one line each.
    """
    left = [problem for problem in report.problems if problem.key not in allowed]
    if left:
        raise UserError("\n".join(["pre-flight: not started:", *(f"  {problem.line}" for problem in left)]))


def table(report: Report) -> str:
    """The report for the terminal, about 20 lines."""
    lines = [line for check in report.checks for line in check.lines]
    lines += [("warning", warning) for warning in report.warnings]
    lines += [("problem", " ".join(problem.found.split())) for problem in report.problems]
    return "\n".join(f"{label:<{_LABEL}}{text}".rstrip() for label, text in lines)


def _parts(rows: Dataset | dict[str, Dataset] | IterableDataset) -> dict[str, Dataset]:
    if isinstance(rows, IterableDataset):
        return _first_rows(rows)
    return {"rows": rows} if isinstance(rows, Dataset) else dict(rows)


def _first_rows(stream: IterableDataset) -> dict[str, Dataset]:
    """The first rows of a stream by their columns, which are those of their source; a small source comes again."""
    parts: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for row in islice(stream, STREAMED):
        parts.setdefault(tuple(row), {})[tuple(row.values())] = None
    names = [f"stream {number}" for number in range(1, len(parts) + 1)] if len(parts) > 1 else ["stream"]
    return {
        name: Dataset.from_list([dict(zip(columns, row, strict=True)) for row in rows])
        for name, (columns, rows) in zip(names, parts.items(), strict=True)
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
    model, arguments = ready.trainer.model, ready.trainer.args
    limit, columns = tokens.limit_of(model), dict[str, int]()
    for each in lengths:
        columns[each.column] = max(min(each.longest, limit or each.longest), columns.get(each.column, 1))
    merged = arguments.device.type != "cpu"  # see training.loop.retriever.Trainer
    rows = arguments.per_device_train_batch_size
    plan, pairs = _plan(ready), isinstance(model, CrossEncoder)
    mini_batch = None if pairs else mini_batch_of(ready.job.config)
    batch = room.Batch(rows, columns, plan.in_batch_negatives, mini_batch, merged)
    return room.memory(model, arguments, batch)
