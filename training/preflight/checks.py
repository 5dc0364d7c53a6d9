"""All checks, one after the other."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, IterableDataset
from sentence_transformers import CrossEncoder
from sentence_transformers.base.data_collator import DEFAULT_LABEL_COLUMNS

from foils.errors import UserError
from foils.models import ModelReference
from training.preflight import base as bases
from training.preflight import disk, judged, memory, prompts, texts, tokens
from training.preflight.batches import Batches, codes_of, foretell, plan_of
from training.preflight.findings import Notice
from training.preflight.hashes import Column, hashed
from training.preflight.report import Plan, Report
from training.seen import Seen

STREAMED = 1_000
"""Rows of a stream that are looked at."""


class Loss(NamedTuple):
    """What a loss does with a batch.

    Attributes:
        name: as the recipe has it.
        in_batch_negatives: whether each query is compared with all passages of the batch.
        mini_batch: texts at a time, for a cached loss; None for the whole batch.
    """

    name: str
    in_batch_negatives: bool
    mini_batch: int | None = None


class Asked(NamedTuple):
    """A training that is about to start.

    Attributes:
        rows: as the trainer gets them; several data sets by name; or a stream.
        model: a SentenceTransformer or CrossEncoder, as it will be trained, `max_seq_length` included.
        arguments: the trainer's, built.
        prompts: column -> what the trainer puts before its texts.
        loss: see there.
        base: the name of what the model starts from.
        output: the model's folder, which need not exist.
        seen: overlap with evaluation sets; None leaves it out.
        originals: for a cross-encoder, the rows (query, positive, negatives) that its pairs were made of.
        timed_checkpoints: whether checkpoints are saved by the clock, whatever `save_strategy` says.
        merged: whether all columns of a batch but the first go through the model as one, padded to the longest, as
            sentence-transformers' losses do unless told otherwise; None for not on a CPU.
    """

    rows: Dataset | Mapping[str, Dataset] | IterableDataset
    model: Any
    arguments: Any
    prompts: Mapping[str, str]
    loss: Loss
    base: str
    output: Path
    seen: Seen | None = None
    originals: Dataset | Mapping[str, Dataset] | None = None
    timed_checkpoints: bool = False
    merged: bool | None = None


def check_base(base: ModelReference, task: str) -> None:
    """Refuses a base that cannot be trained for a task, before it is loaded.

    Raises:
        UserError: it is a decoder, has another head, or no tokenizer; says what was found.
    """
    problems = bases.examined(base, task)
    if problems:
        raise UserError("; ".join(problem.line for problem in problems))


def examine(asked: Asked) -> Report:
    """Looks at data, model and arguments as the trainer will get them; changes nothing, random numbers included."""
    streamed = isinstance(asked.rows, IterableDataset)
    parts = _parts(asked.rows)
    hashes = {name: hashed(rows, _text_columns(rows)) for name, rows in parts.items()}
    batches = _streamed_steps(asked.arguments) if streamed else _batches(parts, hashes, asked.arguments)
    limit, seed = tokens.limit_of(asked.model), asked.arguments.seed
    lengths = {
        name: tokens.counted(rows, hashes[name], asked.model, asked.prompts, seed) for name, rows in parts.items()
    }
    needed = _memory(asked, [each for columns in lengths.values() for each in columns], limit)
    weights = sum(each.numel() * each.element_size() for each in asked.model.parameters())
    trained = sum(each.numel() for each in asked.model.parameters() if each.requires_grad)
    states = needed.optimiser if needed else int(8 * trained)
    space = disk.examined(asked.output, asked.arguments, (weights, states), batches.steps, asked.timed_checkpoints)
    said = _texts(asked, parts, hashes)
    plan = _plan(asked, limit)
    facts = judged.Facts(plan, batches, needed, space, lengths, said, asked.loss.in_batch_negatives, streamed)
    problems = [*judged.problems(facts, asked.arguments), *judged.positions(asked.model, limit, asked.base)]
    notices = judged.notices(facts)
    lacking = prompts.missing(asked.base, asked.model, asked.prompts)
    notices += [Notice("missing-prompts", lacking)] if lacking else []
    rows = sum(map(len, parts.values())) if streamed else None
    return Report(plan, batches, needed, space, lengths, said, asked.seen, notices, problems, rows)


def _parts(rows: Dataset | Mapping[str, Dataset] | IterableDataset) -> dict[str, Dataset]:
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


def _text_columns(rows: Dataset) -> list[str]:
    """Columns that go into the model."""
    return [name for name in rows.column_names if name not in DEFAULT_LABEL_COLUMNS]


def _batches(parts: Mapping[str, Dataset], hashes: Mapping[str, Mapping[str, Column]], arguments: Any) -> Batches:
    plan = plan_of(arguments)
    codes = {}
    for name, rows in parts.items():
        columns = [column.exact for column in hashes[name].values()]
        alone = (np.full((len(rows), 1), -1, np.int32), 0)
        codes[name] = codes_of(columns) if plan.without_duplicates and len(rows) else alone
    return foretell(codes, plan)


def _streamed_steps(arguments: Any) -> Batches:
    """A stream has no length, so the trainer needs `max_steps`."""
    steps = max(arguments.max_steps, 0)
    return Batches(0, None, None, steps, steps, 1, exact=False)


def _memory(asked: Asked, lengths: list[tokens.Lengths], limit: int | None) -> memory.Memory | None:
    if not lengths:
        return None
    columns: dict[str, int] = {}
    for each in lengths:
        read = min(each.longest, limit) if limit else each.longest
        columns[each.column] = max(read, columns.get(each.column, 1))
    merged = asked.merged if asked.merged is not None else asked.arguments.device.type != "cpu"
    rows = asked.arguments.per_device_train_batch_size
    batch = memory.Batch(rows, columns, asked.loss.in_batch_negatives, asked.loss.mini_batch, merged)
    return memory.examined(asked.model, asked.arguments, batch)


def _texts(
    asked: Asked, parts: Mapping[str, Dataset], hashes: Mapping[str, dict[str, Column]]
) -> dict[str, texts.Texts]:
    if asked.originals is None:
        return {name: texts.examined(rows, hashes[name]) for name, rows in parts.items()}
    originals = _parts(asked.originals)
    return {name: texts.examined(rows, hashed(rows, _text_columns(rows))) for name, rows in originals.items()}


def _plan(asked: Asked, limit: int | None) -> Plan:
    plan = plan_of(asked.arguments)
    given = {} if isinstance(asked.model, CrossEncoder) else dict(asked.prompts)
    return Plan(
        asked.base, plan.sampler, plan.batch_size, plan.processes, plan.accumulation, limit, asked.loss.name, given
    )
