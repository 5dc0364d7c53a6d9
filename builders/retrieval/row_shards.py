"""Rows of a store that are computed by shards: which are missing, the plan's folder, and how parts come home."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from builders.passages import Positions
from builders.retrieval.row_store import KEY_BYTES, Keys, RowStore
from foils.engine.config import EngineConfig
from foils.engine.folder import finished
from foils.engine.parts import part_file, read_parts, state_of, vector_column, vectors_in
from foils.engine.plan import PLAN, Plan, read_plan
from foils.errors import UserError

Floats = npt.NDArray[np.float32]


def first_missing(store: RowStore, keys: Keys) -> Positions:
    """Returns where keys that a store lacks come first, in order."""
    missing = np.flatnonzero(store.find(keys) < 0)
    ordered = missing[np.lexsort((keys[missing, 1], keys[missing, 0]))]  # stable: equal keys stay in order
    again = (np.diff(keys[ordered], axis=0) == 0).all(axis=1)
    return np.sort(ordered[np.concatenate([[True], ~again])]) if len(ordered) else ordered


def by_range(positions: Positions, rows: int) -> list[Positions]:
    """Cuts positions, which are in order, by the range of rows that they lie in.

    >>> [part.tolist() for part in by_range(np.array([0, 3, 4, 12]), 4)]
    [[0, 3], [4], [12]]
    """
    if not len(positions):
        return []
    return np.split(positions, np.flatnonzero(np.diff(positions // rows)) + 1)


def plan_folder(cache: Path, name: str, keys: Keys, rows: int) -> Path:
    """Returns where the plan for keys lies: it depends on all of them, whichever are missing."""
    digest = hashlib.sha256(np.ascontiguousarray(keys).tobytes()).hexdigest()
    return cache / "engine" / f"{name}-{digest[:16]}-{rows}"


def is_shared(folder: Path, engine: EngineConfig | None, shards: int) -> bool:
    """Whether shards are computed by a plan: more than one by an engine, or those of a plan that was begun."""
    return (folder / PLAN).exists() or (engine is not None and shards > 1)


def complete(store: RowStore, folder: Path, make: Callable[[], Plan], engine: EngineConfig | None, label: str) -> None:
    """Has a plan's shards computed and their rows stored; the folder then goes.

    Args:
        store: takes the rows.
        folder: the plan's. One that was begun is finished as it is, by whatever engine.
        make: writes the rows of all shards into the folder and returns the plan.
        engine: who computes.
        label: what is computed, for the bar.

    Raises:
        UserError: as `made`; the store's disk is full.
    """
    try:
        for table in parts_of(folder, make, engine, label):
            _store(store, table)
    except UserError:  # a shard failed, or the code has changed: what is finished is kept whatever becomes of the plan
        plan = read_plan(folder) if (folder / PLAN).exists() else None
        for number in state_of(folder, plan).done if plan else ():
            _store(store, pq.read_table(part_file(folder, number)))
        raise


def _store(store: RowStore, part: pa.Table) -> None:
    keys, rows = from_table(part)
    missing = store.find(keys) < 0
    if missing.any():
        store.add(keys[missing], rows[missing])


def parts_of(folder: Path, make: Callable[[], Plan], engine: EngineConfig | None, label: str) -> Iterator[pa.Table]:
    """Yields the parts of a plan in order, once all are made; the folder goes when the last was taken. See `complete`.

    Raises:
        UserError: as `foils.engine.folder.finished`.
    """
    with finished(folder, make, engine or EngineConfig(), label) as plan:
        yield from read_parts(folder, plan)


def rows_table(keys: Keys, rows: Floats) -> pa.Table:
    """Returns keys and rows `(n, width)` as a table, for a part."""
    return pa.table({"key": key_array(keys), "row": vector_column(rows)})


def from_table(table: pa.Table) -> tuple[Keys, Floats]:
    """Returns the keys and rows of a part."""
    return keys_in(table["key"]), vectors_in(table["row"])


def key_array(keys: Keys) -> pa.Array:
    """Returns keys as an Arrow array."""
    content = pa.py_buffer(np.ascontiguousarray(keys).tobytes())
    return pa.Array.from_buffers(pa.binary(KEY_BYTES), len(keys), [None, content])


def keys_in(column: pa.ChunkedArray) -> Keys:
    """Returns the keys of an Arrow column."""
    return np.frombuffer(b"".join(column.to_pylist()), np.uint64).reshape(-1, 2)
