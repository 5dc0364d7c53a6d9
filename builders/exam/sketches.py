"""Sketches: the few hashes that stand for a passage where near duplicates are looked for, also by `foils.engine`."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec import Struct

from builders.context import Context
from builders.passages import Passages
from builders.retrieval.bm25 import shards
from builders.retrieval.row_shards import parts_of
from builders.spool import Spool
from builders.texts import Hashes, shingle_hashes
from foils.engine.plan import Places, Plan, make_plan

SIZE = 8
"""Smallest hashes of shingles that stand for a passage."""
_BITS = np.uint64(50)
"""Of a hash; those before them are the row in its batch."""


class SketchConfig(Struct, frozen=True):
    """How many hashes a passage has."""

    size: int = SIZE


class Sketch:
    """Gives the sketches of a shard's passages."""

    Config = SketchConfig

    def __init__(self, _: SketchConfig, __: Places) -> None:
        """Needs nothing."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """Sketches a shard."""
        hashes = np.concatenate([sketches(texts) for texts in Passages(table).batches()])
        return pa.table({"sketch": pa.FixedSizeListArray.from_arrays(hashes.ravel(), SIZE)})


def sketched(passages: Passages, context: Context | None) -> Hashes:
    """The sketches of all passages, `(n_passages, SIZE)`, mapped from disk.

    Args:
        passages: the corpus.
        context: its engine makes those of a corpus of several shards.

    Raises:
        UserError: as `parts_of`.
    """
    with tempfile.TemporaryFile(prefix="foils-sketches-", dir=Spool.folder) as file:
        for part in _parts(passages, context):
            part.tofile(file)
        file.flush()
        return np.memmap(file, np.uint64, "r").reshape(-1, SIZE)


def _parts(passages: Passages, context: Context | None) -> Iterator[Hashes]:
    if context is None or context.sharding is None:
        yield from map(sketches, passages.batches())
        return
    folder = context.cache / "engine" / f"{shards.corpus_name(passages, context.language)}-sketches"
    for part in parts_of(folder, partial(_plan, folder, passages), context.sharding, "sketches"):
        yield part["sketch"].combine_chunks().flatten().to_numpy()


def _plan(folder: Path, passages: Passages) -> Plan:
    return make_plan(
        folder, f"{__name__}:Sketch", SketchConfig(), shards.corpus_files(folder, passages, ("title", "text"))
    )


def sketches(texts: pa.Array) -> Hashes:
    """The smallest hashes of each text's shingles, `(n_texts, SIZE)`, with zeros behind those of a short text."""
    hashes, rows = shingle_hashes(texts)
    keys = np.sort(rows.astype(np.uint64) << _BITS | hashes >> (np.uint64(64) - _BITS))  # far faster than lexsort
    keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
    rows, hashes = (keys >> _BITS).astype(np.int64), keys & ((np.uint64(1) << _BITS) - np.uint64(1))
    place = np.arange(len(rows)) - np.searchsorted(rows, np.arange(len(texts)))[rows]
    made = np.zeros((len(texts), SIZE), np.uint64)
    made[rows[place < SIZE], place[place < SIZE]] = hashes[place < SIZE]
    return made
