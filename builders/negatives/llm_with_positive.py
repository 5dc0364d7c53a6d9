"""`llm-with-positive`: hard negatives that the LLM writes with the query and the passage that answers it before it.

As in arXiv 2504.21015's later versions; here one passage of the corpus, the query's own, is shown.
"""

from typing import Annotated

import pyarrow as pa
from msgspec import Meta

from builders.context import Context
from builders.negatives import Mined
from builders.negatives.written import Ask, LlmNegativesConfig, rows_of, write


class LlmWithPositiveConfig(LlmNegativesConfig, frozen=True, forbid_unknown_fields=True):
    """As for `llm`, with a prompt that expects the passage after the query, and how much of it is shown."""

    prompt: str = "hard-negative-with-positive-v1"
    passage_chars: Annotated[int, Meta(ge=1)] = 1000


def mine(queries: pa.Table, context: Context, config: LlmWithPositiveConfig) -> Mined:
    """Has `count` negatives written for each query (`queries.TABLE`), seeing its text and its positive."""
    rows = rows_of(queries, context)
    asks = (Ask(row["_id"], row["text"], shown(row["text"], row["positive"], config), row["positive"]) for row in rows)
    return write(asks, queries.num_rows, context, config, "llm-with-positive")


def shown(query: str, positive: str, config: LlmWithPositiveConfig) -> str:
    """What the LLM sees of a query and its positive."""
    return f"{query}\nPassage: {' '.join(positive.split())[: config.passage_chars]}"
