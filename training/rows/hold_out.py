"""Queries held out of training, by which the best checkpoint is chosen.

Hashes of a query's text and of its group alone decide whether it is held out. So all kinds of negatives, all seeds and
all orders of the rows hold out the same queries, and models that are compared were chosen by the same measure. The
queries come from the training data; no evaluation set is touched.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict

from foils.errors import UserError
from foils.texts import normalised
from training.recipe import DevConfig
from training.rows.source import Source
from training.rows.table import Table

logger = logging.getLogger(__name__)

_SALT = b"foils: dev"
_BATCH = 10_000

Keys = npt.NDArray[np.uint64]
Groups = Mapping[int, set[int]]


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


def groups_of(sources: Iterable[Source | Table]) -> dict[int, set[int]]:
    """The key of each training query of data sets -> those of the groups of passages that answer it.

    Groups of one corpus are the same in all data sets that were built from it. A data set without an exam has none.
    """
    found: dict[int, set[int]] = {}
    for source in sources:
        if not isinstance(source, Source):
            continue
        for config in {"train-queries", "train-pairs"}.intersection(source.configs()):
            queries = source.table(config).load()
            if "group" not in queries.column_names:
                continue
            corpus = source.manifest().get("inputs", {}).get("corpus", {}).get("sha256", source.revision)
            for query, group in zip(text_keys(queries, "text").tolist(), queries["group"], strict=True):
                found.setdefault(query, set()).add(key_of(f"{corpus}/{group}"))
    return found


def _in_order(distinct: Keys, groups: Groups, config: DevConfig) -> tuple[Keys, Keys]:
    """The held-out queries, of one group after the other, and all queries that leave training with them.

    Raises:
        UserError: more than half of the queries would leave.
    """
    group = np.fromiter((min(groups.get(query, [query])) for query in distinct.tolist()), np.uint64, len(distinct))
    sizes = np.unique(group, return_counts=True)[1]
    ends = np.cumsum(sizes)
    most = int(ends[ends <= len(distinct) // 2].max(initial=0))
    if config.queries > most:
        raise UserError(
            f"recipe: dev.queries {config.queries}: the data set has {len(distinct)} different queries in {len(sizes)} "
            f"groups (one each without an exam); whole groups are held out, and at most half of the queries; set it to "
            f"{most}{' or lower' * bool(most)}, or build a larger data set"
        )
    held = distinct[np.lexsort((distinct, group))][: config.queries]
    taken = set().union(*(groups.get(query, ()) for query in held.tolist()))
    neighbours = (query for query, known in groups.items() if known & taken)
    return held, np.union1d(held, np.fromiter(neighbours, np.uint64))


def hold_out(rows: Any, config: DevConfig, groups: Groups | None = None) -> tuple[Any, Dataset | None]:
    """Parts rows, a Dataset or a DatasetDict by source, into those to train on and those of the held-out queries.

    The queries of the groups with the smallest hashes are held out, with all their rows; a query without a group is one
    by itself. Rows of other queries that share a positive with them, by text, or that belong to their groups, are left
    out of training, in all sources.

    Of several sources, queries are held out of the first. Both parts are in the order of `rows`; the second is None
    where no query is held out.

    Raises:
        UserError: more than half of the queries would leave training, nothing would remain, or the rows are a stream.
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
    chosen, leaving = _in_order(np.unique(queries), groups or {}, config)
    held = np.isin(queries, chosen)
    answers = np.unique(positives[held])
    kept, left_out = {}, -int(held.sum())
    for name, source in sources.items():
        if source is not first:
            queries, positives = text_keys(source, "query"), text_keys(source, "positive")
        ours = np.isin(queries, leaving) | np.isin(positives, answers)
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
    return (DatasetDict(kept) if isinstance(rows, dict) else kept[""]), first.select(np.flatnonzero(held))
