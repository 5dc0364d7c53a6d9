"""Queries, one or more for each sampled passage: written by the LLM, or the user's own with judgements."""

from typing import NamedTuple

import pyarrow as pa

STAGE = "queries"
TABLE = pa.schema([("_id", pa.string()), ("text", pa.string()), ("corpus-id", pa.string())])


class Queries(NamedTuple):
    """Accepted queries with their positives.

    Attributes:
        table: `TABLE`; `corpus-id` is the passage that a query was written for. In the order of the passages.
        drops: `schema.DROPS`.
    """

    table: pa.Table
    drops: pa.Table
