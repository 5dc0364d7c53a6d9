"""Queries held out of training, by which the best checkpoint is chosen.

A hash of a query's text alone decides whether it is held out. So all kinds of negatives, all seeds and all orders of
the rows hold out the same queries, and models that are compared were chosen by the same measure. The queries come from
the training data; no evaluation set is touched.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from foils.errors import UserError
from foils.texts import normalised
from training.recipe import DevConfig
from training.rows.source import Source

logger = logging.getLogger(__name__)

_SALT = b"foils: dev"
_BATCH = 10_000

Keys = npt.NDArray[np.uint64]
RowsT = TypeVar("RowsT", Dataset, dict[str, Dataset])


def key_of(text: str | None) -> int:
    """A 64-bit hash of a normalised text; a missing text counts as an empty one."""
    return int.from_bytes(hashlib.blake2b(normalised(text or "").encode(), digest_size=8, key=_SALT).digest(), "little")


def text_keys(rows: Dataset, column: str) -> Keys:
    """The key of each row's text, `(n_rows,)`; the rows are read batch by batch."""
    batches = rows.select_columns([column]).with_format("arrow").iter(_BATCH)
    texts = (text for batch in batches for text in batch[column].to_pylist())
    return np.fromiter(map(key_of, texts), np.uint64, len(rows))


def pairs_hash(rows: Any) -> str | None:
    """SHA-256 of the queries and positives in their order: trainings that share it differ in their negatives alone.

    None for a stream, and for rows without positives.
    """
    tables = list(rows.values()) if isinstance(rows, dict) else [rows]
    if not all(isinstance(table, Dataset) and {"query", "positive"} <= {*table.column_names} for table in tables):
        return None
    digest = hashlib.sha256()
    for table in tables:
        for column in ("query", "positive"):
            digest.update(text_keys(table, column).tobytes())
    return digest.hexdigest()


def groups_of(source: Source) -> dict[int, int]:
    """The key of each training query of a data set -> that of the group of passages that answers it.

    A data set without an exam has no groups.
    """
    if "train-queries" not in source.configs():
        return {}
    queries = source.table("train-queries").load()
    if "group" not in queries.column_names:
        return {}
    asked, groups = text_keys(queries, "text"), text_keys(queries, "group")
    return dict(zip(asked.tolist(), groups.tolist(), strict=True))


def _of_their_groups(queries: Keys, groups: Mapping[int, int]) -> Keys:
    """All queries of the groups that some of them belong to."""
    taken = {groups[query] for query in queries.tolist() if query in groups}
    return np.fromiter((query for query, group in groups.items() if group in taken), np.uint64)


def hold_out(rows: RowsT, config: DevConfig, groups: Mapping[int, int] | None = None) -> tuple[RowsT, Dataset | None]:
    """Parts rows into those to train on and those of the held-out queries.

    The queries with the smallest hashes are held out, with all their rows. Rows of other queries that share a positive
    with them, by text, or that belong to their groups, are left out of training, in all sources.

    Of several sources, queries are held out of the first. Both parts are in the order of `rows`; the second is None
    where no query is held out.

    Raises:
        UserError: more than half of the queries are asked for, nothing would remain, or the rows are a stream.
    """
    if config.queries == 0:
        return rows, None
    asked = f"recipe: dev.queries {config.queries}:"
    sources = rows if isinstance(rows, dict) else {"": rows}
    first = next(iter(sources.values()))
    if not isinstance(first, Dataset):
        raise UserError(
            f"{asked} queries cannot be held out of rows that are streamed; set it to 0, or load the rows without "
            "streaming"
        )
    queries, positives = text_keys(first, "query"), text_keys(first, "positive")
    distinct = np.unique(queries)
    if config.queries > len(distinct) // 2:
        raise UserError(
            f"{asked} the data set has {len(distinct)} different queries and at most half of them may be held out; set "
            f"it to {len(distinct) // 2} or lower, or build a larger data set"
        )
    held = np.isin(queries, distinct[: config.queries])
    chosen, answers = np.unique(queries[held]), np.unique(positives[held])
    chosen = np.union1d(chosen, _of_their_groups(chosen, groups or {}))
    kept, left_out = {}, -int(held.sum())
    for name, source in sources.items():
        if source is not first:
            queries, positives = text_keys(source, "query"), text_keys(source, "positive")
        ours = np.isin(queries, chosen) | np.isin(positives, answers)
        kept[name] = source.select(np.flatnonzero(~ours))
        left_out += int(ours.sum())
        if not len(kept[name]):
            raise UserError(
                f"{asked} no row {f'of {name} ' if name else ''}would be left to train on, since all share their "
                "positives with held-out queries; set it lower, or build a larger data set"
            )
    logger.info(
        "dev: %d queries (%d rows) held out; %d more rows share texts or groups with them and are left out of training",
        *(config.queries, int(held.sum()), left_out),
    )
    return (kept if isinstance(rows, dict) else kept[""]), first.select(np.flatnonzero(held))
