"""The rows of a training: the recipe's data set, further data beside it, each in its share, in memory or streamed.

A share is one of all rows that an epoch trains on. The recipe's own data set gives all its rows; further data with a
share gives as many as make that share of the whole, without one all its rows. So with N rows and shares s_1, s_2 ... an
epoch has N / (1 - s_1 - s_2 ...) rows. No row comes twice: data that has too few for its share is refused. The texts of
the rows and the seed decide which are taken, so their order does not matter, and every epoch has the same rows.

A stream has no epochs: batches come in the shares without end, and small data comes again sooner.
"""

import logging
import math
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict, IterableDataset
from msgspec import Struct

from foils.errors import UserError
from foils.kinds import NO_NEGATIVES
from training.losses import table as losses
from training.losses.table import LOSSES
from training.recipe import Columns, TrainRecipe
from training.rows import teacher
from training.rows.further import Plain, load_plain, resolve_more
from training.rows.samplers import InTurn
from training.rows.shares import rows_for_shares, sample
from training.rows.source import (
    Source,
    check_counts,
    check_texts,
    draws_of,
    files_of,
    load_rows,
    trained_columns,
)
from training.rows.stream import Part, Stream, Streamed, columns_of, count_rows

logger = logging.getLogger(__name__)

DEFAULT_BATCH = 8
"""The trainer's own, where the recipe has no `per_device_train_batch_size`."""


class Training(NamedTuple):
    """The rows for the trainer, and their description for the run record.

    Attributes:
        rows: one Dataset; a DatasetDict by source where there are several; or a stream.
        sources: of each source name, revision, tag, its kind or its config and split, rows there are, rows used and
            their share of all; the recipe's data set first.
        columns: of each source, in the trainer's order.
        arguments: what the trainer's arguments need for these rows.
    """

    rows: Dataset | DatasetDict | IterableDataset
    sources: list[dict[str, Any]]
    columns: dict[str, list[str]]
    arguments: dict[str, Any]

    def summary(self) -> str:
        """One line for the log."""
        return ", ".join(
            f"{each['used']:,} rows of {name}" for name, each in zip(self.columns, self.sources, strict=True)
        )

    def record(self) -> dict[str, Any]:
        """The run record's `dataset`; further data stands in its `also`."""
        first, *others = self.sources
        about = {key: value for key, value in first.items() if others or self.streaming or key not in {"used", "share"}}
        return {**about, **({"streaming": True} if self.streaming else {}), **({"also": others} if others else {})}

    def some(self, most: int = 500) -> Dataset:
        """Rows of the recipe's own data set; of a stream, its first."""
        if self.streaming:
            first, *rows = islice(self.rows, most)
            return Dataset.from_list([first, *(row for row in rows if row.keys() == first.keys())])
        return next(iter(self.rows.values())) if isinstance(self.rows, DatasetDict) else self.rows

    @property
    def streaming(self) -> bool:
        """Whether rows are read while training goes on."""
        return isinstance(self.rows, IterableDataset)


class Ingredient(Struct, frozen=True):
    """A source with what the recipe says of it."""

    name: str
    source: Source | Plain
    kind: str | None
    columns: Columns | None
    share: float | None

    def about(self, rows: int, used: int, share: float) -> dict[str, Any]:
        """The source in the run record."""
        what = {"kind": self.kind}
        if isinstance(self.source, Plain):
            what = {"config": self.source.config, "split": self.source.split}
        pinned = {"name": self.source.name, "revision": self.source.revision, "tag": self.source.tag}
        return {**pinned, **what, "rows": rows, "used": used, "share": round(share, 6)}


def resolve_also(config: TrainRecipe) -> list[Source | Plain]:
    """Pins the recipe's further data, in the recipe's order.

    Raises:
        UserError: one of them cannot be found, see `training.rows.further`.
    """
    return [resolve_more(more) for more in config.also]


def load(config: TrainRecipe, source: Source, also: Sequence[Source | Plain] | None = None) -> Training:
    """Loads what a recipe trains on.

    Args:
        config: the recipe.
        source: its data set, pinned.
        also: its further data, pinned; looked up by default.

    Raises:
        UserError: data cannot be read or lacks what the recipe names, has an empty text, comes twice, or has too few
            rows for its share; or the recipe asks for what a stream cannot do.
    """
    ingredients = _ingredients(config, source, resolve_also(config) if also is None else also)
    if len(ingredients) > 1 and "multi_dataset_batch_sampler" in config.trainer:
        raise UserError("recipe: trainer.multi_dataset_batch_sampler: the shares decide whose turn it is; leave it out")
    return _streamed(config, ingredients) if config.streaming else _in_memory(config, ingredients)


def _ingredients(config: TrainRecipe, source: Source, also: Sequence[Source | Plain]) -> list[Ingredient]:
    """The main data set first; refuses what comes twice and shares that leave it nothing."""
    given = math.fsum(more.share or 0 for more in config.also)
    if given >= 1 - 1e-9:
        raise UserError(
            f"recipe: also: the shares make {given:g} together, which leaves nothing for {source.name}; they must make "
            "less than 1"
        )
    ingredients = [Ingredient(_label(source, config.kind), source, config.kind, None, None)]
    for more, found in zip(config.also, also, strict=True):
        known = {earlier.name: _content(earlier.source, earlier.kind) for earlier in ingredients}
        same = next((name for name, content in known.items() if content == _content(found, more.kind)), None)
        if same is not None:
            raise UserError(f"recipe: also: {more.dataset}: the same data as {same}; name each once, with its share")
        label = name = _label(found, more.kind)
        number = 2
        while name in known:
            name, number = f"{label} ({number})", number + 1
        ingredients.append(Ingredient(name, found, more.kind, more.columns, more.share))
    return ingredients


def _label(source: Source | Plain, kind: str | None) -> str:
    if isinstance(source, Source):
        return f"{source.name}/{kind}"
    parts = [source.name, source.config if source.config != "default" else None]
    return "/".join(part for part in (*parts, source.split if source.split != "train" else None) if part)


def _content(source: Source | Plain, kind: str | None) -> tuple[str | None, ...]:
    if isinstance(source, Plain):
        return (source.revision, source.config, source.split)
    return (source.revision, kind)


def _in_memory(config: TrainRecipe, ingredients: Sequence[Ingredient]) -> Training:
    loaded: dict[str, Dataset] = {}
    for each in ingredients:
        if isinstance(each.source, Plain):
            loaded[each.name] = load_plain(each.source, each.columns)
        else:
            loaded[each.name] = load_rows(each.source, str(each.kind), config.seed)
            check_texts(loaded[each.name], each.name)
    rows = {name: len(table) for name, table in loaded.items()}
    taken = rows_for_shares({each.name: each.share for each in ingredients}, rows)
    used = {
        each.name: _with_scores(config, each, sample(loaded[each.name], taken[each.name], config.seed))
        for each in ingredients
    }
    sources = [
        each.about(rows[each.name], taken[each.name], taken[each.name] / sum(taken.values())) for each in ingredients
    ]
    columns = {name: table.column_names for name, table in used.items()}
    if len(used) == 1:
        return Training(next(iter(used.values())), sources, columns, {})
    return Training(DatasetDict(used), sources, columns, {"multi_dataset_batch_sampler": InTurn})


def _with_scores(config: TrainRecipe, ingredient: Ingredient, rows: Dataset) -> Dataset:
    """Rows as the recipe's loss needs them, with a teacher's `label` for a distillation.

    Raises:
        UserError: the rows cannot serve the loss.
    """
    if config.task != "retriever":
        return rows
    source, distils = ingredient.source, LOSSES[config.loss].needs == "scores"
    scorers = teacher.scorers_of(source) if distils and isinstance(source, Source) else ()
    losses.check(config, rows.column_names, scorers)
    if distils and isinstance(source, Source):
        return teacher.with_scores(rows, source, str(ingredient.kind), config.loss_options.teacher)
    return rows


def _streamed(config: TrainRecipe, ingredients: Sequence[Ingredient]) -> Training:
    _check_streamable(config)
    without = [each.name for each in ingredients[1:] if each.share is None]
    if without:
        raise UserError(
            f"recipe: also: {', '.join(without)}: a stream has no end, so it needs a share of it; give share"
        )
    main = 1 - math.fsum(each.share or 0 for each in ingredients)
    streams = [_stream_of(each, main if each.share is None else each.share) for each in ingredients]
    for stream in streams:
        losses.check(config, stream.columns)
    rows = [count_rows(stream.parts[0]) for stream in streams]
    block, trainer = _batch(config) * PartialState().num_processes, config.trainer
    steps, together = int(trainer.get("max_steps", -1)), block * int(trainer.get("gradient_accumulation_steps", 1))
    if steps <= 0:
        epoch = math.ceil(rows[0] / streams[0].share / together)
        raise UserError(
            f"recipe: streaming: needs trainer.max_steps, since a stream has no end; {streams[0].name} has "
            f"{rows[0]:,} rows, all of which have come once after max_steps = {epoch} (of {together} rows each)"
        )
    sources = [
        each.about(number, round(stream.share * steps * together), stream.share)
        for each, number, stream in zip(ingredients, rows, streams, strict=True)
    ]
    logger.info(
        "streaming %s; the batches are put together as rows come, so equal texts may meet in one",
        ", ".join(f"{stream.name} ({number:,} rows)" for number, stream in zip(rows, streams, strict=True)),
    )
    # Otherwise one process would read for all, and it cannot join batches of different lengths.
    options = {**trainer.get("accelerator_config", {}), "dispatch_batches": False, "split_batches": False}
    columns = {stream.name: stream.columns for stream in streams}
    stream = Stream(streams, block, config.shuffle_buffer, config.seed)
    return Training(stream, sources, columns, {"accelerator_config": options})


def _check_streamable(config: TrainRecipe) -> None:
    """Refuses what needs all rows at once."""
    sampler = config.trainer.get("batch_sampler", "batch_sampler")
    for asked, what in (
        (config.task != "retriever", f"task = {config.task!r}"),
        (config.length_buckets, "length_buckets"),
        (sampler != "batch_sampler", f"trainer.batch_sampler = {sampler!r}"),
        (LOSSES[config.loss].needs == "scores", f"loss = {config.loss!r}"),
    ):
        if asked:
            raise UserError(
                f"recipe: streaming: {what} needs all rows at hand, and a stream has only those that come next; leave "
                "out the one or the other"
            )


def _batch(config: TrainRecipe) -> int:
    """Rows that the trainer takes at once in a process: with several GPUs in one process, of all of them."""
    each = int(config.trainer.get("per_device_train_batch_size", DEFAULT_BATCH))
    several = PartialState().num_processes == 1 and PartialState().device.type == "cuda"
    return each * (torch.cuda.device_count() if several else 1)


def _stream_of(each: Ingredient, share: float) -> Streamed:
    source = each.source
    if isinstance(source, Plain):
        columns = trained_columns(columns_of(source.name, source.files, source.form), each.columns, source.name)
        return Streamed(each.name, share, (Part(source.name, source.files, source.form, columns),))
    kind = str(each.kind)
    draws = draws_of(source, kind)
    names = list(dict.fromkeys(name for draw in draws for name in draw.parts))
    parts = []
    for name in names:
        files = files_of(source, name)
        columns = trained_columns(columns_of(source.name, files, "parquet"), None, f"{source.name}, kind {name}")
        columns = dict(list(columns.items())[:2]) if kind == NO_NEGATIVES else columns
        parts.append(Part(f"{source.name}/{name}", files, "parquet", columns))
    check_counts(kind, [sum(len(parts[names.index(name)].columns) - 2 for name in draw.parts) for draw in draws])
    if len(parts) == 1:
        return Streamed(each.name, share, tuple(parts))
    return Streamed(
        each.name, share, tuple(parts), tuple((draw, tuple(map(names.index, draw.parts))) for draw in draws)
    )
