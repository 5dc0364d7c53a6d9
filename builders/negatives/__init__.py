"""Kinds of negatives, one module each; `builders.mining.MINERS` is the whole registry."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from builders import schema


class Mined(NamedTuple):
    """What one kind of negative found for a table of queries.

    Attributes:
        candidates: `schema.CANDIDATES`, ranked from 1 within each query.
        generated: `schema.GENERATED`; empty for kinds that pick passages from the corpus.
        drops: `schema.DROPS`, of answers that could not be used.
        scores: `schema.SCORES` that the kind's own scorer gave, to the candidates and to each query's positive.
        record: how they were found, for the manifest.
    """

    candidates: pa.Table
    # Not `empty_table`, which imports pandas: reading a recipe need not wait for it.
    generated: pa.Table = pa.Table.from_batches([], schema.GENERATED)
    drops: pa.Table = pa.Table.from_batches([], schema.DROPS)
    scores: pa.Table = pa.Table.from_batches([], schema.SCORES)
    record: Mapping[str, Any] = {}


def config_of(negatives: Any, kind: str) -> Any:
    """Returns a kind's own settings in the recipe's `[negatives]`."""
    return getattr(negatives, kind.replace("-", "_"))
