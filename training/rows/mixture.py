"""The rows of a training: the recipe's data set, further data beside it, each in its share, in memory or streamed.

A share is one of all rows that an epoch trains on. The recipe's own data set gives all its rows; further data with a
share gives as many as make that share of the whole, without one all its rows. So with N rows and shares s_1, s_2 ... an
epoch has N / (1 - s_1 - s_2 ...) rows. No row comes twice: data that has too few for its share is refused. The texts of
the rows and the seed decide which are taken, so their order does not matter, and every epoch has the same rows.

A stream has no epochs: batches come in the shares without end, and small data comes again sooner.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from accelerate import PartialState
from datasets import Dataset, DatasetDict, IterableDataset
from msgspec.structs import replace

from foils.errors import UserError
from training.losses import table as losses
from training.losses.table import LOSSES
from training.recipe import TrainRecipe
from training.rows import teacher
from training.rows.hold_out import groups_of
from training.rows.ingredients import Ingredient, ingredient, random_key
from training.rows.samplers import InTurn
from training.rows.source import Source, resolve_more
from training.rows.stream import Stream
from training.rows.table import Table

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
        groups: of `hold_out.groups_of`; empty where no query is held out.
    """

    rows: Dataset | DatasetDict | IterableDataset
    sources: list[dict[str, Any]]
    columns: dict[str, list[str]]
    arguments: dict[str, Any]
    groups: Mapping[int, set[int]] = {}

    def summary(self) -> str:
        """One line for the log."""
        used = (source["used"] for source in self.sources)
        return ", ".join(f"{rows:,} rows of {name}" for name, rows in zip(self.columns, used, strict=True))

    def record(self) -> dict[str, Any]:
        """The run record's `dataset`; further data stands in its `also`."""
        first, *others = self.sources
        if self.streaming:
            first = {**first, "streaming": True}
        elif not others:
            first = {key: value for key, value in first.items() if key not in {"used", "share"}}
        return {**first, "also": others} if others else first

    def main(self) -> Dataset | None:
        """The rows of the recipe's own data set; None for a stream."""
        if self.streaming:
            return None
        return next(iter(self.rows.values())) if isinstance(self.rows, DatasetDict) else self.rows

    @property
    def streaming(self) -> bool:
        """Whether rows are read while training goes on."""
        return isinstance(self.rows, IterableDataset)


def load(config: TrainRecipe, source: Source, also: Sequence[Source | Table] | None = None) -> Training:
    """Loads what a recipe trains on; its further data is looked up by default.

    Raises:
        UserError: data cannot be read or lacks what the recipe names, has an empty text, comes twice, or has too few
            rows for its share; or the recipe asks for what a stream cannot do.
    """
    ingredients = _ingredients(config, source, map(resolve_more, config.also) if also is None else also)
    if len(ingredients) > 1 and "multi_dataset_batch_sampler" in config.trainer:
        raise UserError("recipe: trainer.multi_dataset_batch_sampler: the shares decide whose turn it is; leave it out")
    if config.streaming:
        return _streamed(config, ingredients)
    groups = groups_of(each.source for each in ingredients) if config.dev.queries else {}
    return _in_memory(config, ingredients)._replace(groups=groups)


def _ingredients(config: TrainRecipe, source: Source, also: Iterable[Source | Table]) -> list[Ingredient]:
    """The main data set first; refuses what comes twice and shares that leave it nothing."""
    given = math.fsum(more.share or 0 for more in config.also)
    if given >= 1 - 1e-9:
        raise UserError(
            f"recipe: also: the shares make {given:g} together, which leaves nothing for {source.name}; they must make "
            "less than 1"
        )
    known = {_content(source, config.kind): ingredient(source, config.kind)}
    for more, found in zip(config.also, also, strict=True):
        content, each = _content(found, more.kind), ingredient(found, more.kind, more.share)
        if content in known:
            raise UserError(
                f"recipe: also: {more.dataset}: the same data as {known[content].name}; name each once, with its share"
            )
        if each.name in {earlier.name for earlier in known.values()}:
            each = replace(each, name=f"{each.name} ({len(known) + 1})")
        known[content] = each
    return list(known.values())


def _content(source: Source | Table, kind: str | None) -> tuple[str | None, ...]:
    return (source.revision, *((source.config, source.split) if isinstance(source, Table) else (kind,)))


def _in_memory(config: TrainRecipe, ingredients: Sequence[Ingredient]) -> Training:
    loaded = {each.name: each.load(config.seed) for each in ingredients}
    taken = rows_for_shares(
        {each.name: each.share for each in ingredients}, {name: len(rows) for name, rows in loaded.items()}
    )
    used = {
        each.name: _for_loss(config, each, sample(loaded[each.name], taken[each.name], config.seed))
        for each in ingredients
    }
    whole = sum(taken.values())
    sources = [each.about(len(loaded[each.name]), taken[each.name], taken[each.name] / whole) for each in ingredients]
    columns = {name: table.column_names for name, table in used.items()}
    if len(used) == 1:
        return Training(next(iter(used.values())), sources, columns, {})
    return Training(DatasetDict(used), sources, columns, {"multi_dataset_batch_sampler": InTurn})


def rows_for_shares(shares: Mapping[str, float | None], rows: Mapping[str, int]) -> dict[str, int]:
    """The number of rows of each source that make the shares come true; a share of None takes all rows.

    >>> rows_for_shares({"ours": None, "general": 0.2}, {"ours": 800, "general": 1000})
    {'ours': 800, 'general': 200}

    Raises:
        UserError: a source has too few rows for its share, or a share is less than one row.
    """
    whole = sum(rows[name] for name, share in shares.items() if share is None)
    given = math.fsum(share or 0 for share in shares.values())
    taken = {name: rows[name] if s is None else round(s * whole / (1 - given)) for name, s in shares.items()}
    for name, share in shares.items():
        there, number = rows[name], taken[name]
        asked = f"recipe: also: {name}: a share of {share or 1:g} beside {whole:,} rows takes"
        if share is not None and number > there:
            most = math.floor(there * (1 - given + share) / (whole + there) * 1e4) / 1e4
            raise UserError(
                f"{asked} {number:,} rows; it has {there:,}: {number - there:,} are missing, and no row is used twice; "
                f"lower the share to at most {most:g}, or leave it out to use all rows"
            )
        if share is not None and number == 0:
            raise UserError(f"{asked} not one row; give more")
    return taken


def sample(rows: Dataset, number: int, seed: int) -> Dataset:
    """Takes the rows whose texts have the smallest random keys, in the data's order."""
    if number == len(rows):
        return rows
    keys = np.fromiter((random_key(tuple(row.values()), seed) for row in rows), np.uint64, len(rows))
    return rows.select(np.sort(np.argsort(keys, kind="stable")[:number]))


def _for_loss(config: TrainRecipe, each: Ingredient, rows: Dataset) -> Dataset:
    """Rows as the recipe's loss needs them, with a teacher's `label` for a distillation."""
    if config.task != "retriever":
        return rows
    source = each.source if LOSSES[config.loss].needs == "scores" else None
    if not isinstance(source, Source):
        losses.check(config, rows.column_names)
        return rows
    losses.check(config, rows.column_names, teacher.scorers_of(source))
    return teacher.with_scores(rows, source, str(each.kind), config.loss_options.teacher)


def _streamed(config: TrainRecipe, ingredients: Sequence[Ingredient]) -> Training:
    _check_streamable(config, ingredients)
    main = 1 - math.fsum(each.share or 0 for each in ingredients)
    streams = [each.stream(each.share or main) for each in ingredients]
    for stream in streams:
        losses.check(config, stream.columns)
    rows = [next(iter(stream.parts.values())).count_rows() for stream in streams]
    trainer = config.trainer
    block = int(trainer.get("per_device_train_batch_size", DEFAULT_BATCH)) * PartialState().num_processes
    steps, together = int(trainer.get("max_steps", -1)), block * int(trainer.get("gradient_accumulation_steps", 1))
    if steps <= 0:
        epoch = math.ceil(rows[0] / main / together)
        raise UserError(
            f"recipe: streaming: needs trainer.max_steps, since a stream has no end; {streams[0].name} has "
            f"{rows[0]:,} rows, all of which have come once after max_steps = {epoch} (of {together} rows each)"
        )
    logger.info(
        "streaming %s; the batches are put together as rows come, so equal texts may meet in one",
        ", ".join(f"{stream.name} ({number:,} rows)" for number, stream in zip(rows, streams, strict=True)),
    )
    shares = [(stream, number, float(stream.share or 0)) for stream, number in zip(streams, rows, strict=True)]
    # Otherwise one process would read for all, and it cannot join batches of different lengths.
    options = {**trainer.get("accelerator_config", {}), "dispatch_batches": False, "split_batches": False}
    return Training(
        Stream(streams, block, config.shuffle_buffer, config.seed),
        [stream.about(number, round(share * steps * together), share) for stream, number, share in shares],
        {stream.name: stream.columns for stream in streams},
        {"accelerator_config": options},
    )


def _check_streamable(config: TrainRecipe, ingredients: Sequence[Ingredient]) -> None:
    """Refuses what needs all rows at once, or an end."""
    sampler = config.trainer.get("batch_sampler", "batch_sampler")
    for asked, what in (
        (config.task != "retriever", f"task = {config.task!r}"),
        (sampler != "batch_sampler", f"trainer.batch_sampler = {sampler!r}"),
        (LOSSES[config.loss].needs == "scores", f"loss = {config.loss!r}"),
    ):
        if asked:
            raise UserError(
                f"recipe: streaming: {what} needs all rows at hand, and a stream has only those that come next; leave "
                "out the one or the other"
            )
    without = [each.name for each in ingredients[1:] if each.share is None]
    if without:
        raise UserError(
            f"recipe: also: {', '.join(without)}: a stream has no end, so it needs a share of it; give share"
        )
