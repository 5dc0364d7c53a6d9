"""`llm-with-positive`: hard negatives that the LLM writes with the query and the passage that answers it before it.

As in arXiv 2504.21015's later versions; here one passage of the corpus, the query's own, is shown.
"""

from typing import Annotated

import pyarrow as pa
from msgspec import Meta

from builders.context import Context
from builders.negatives import Mined
from builders.negatives.written import LlmNegativesConfig, write


class LlmWithPositiveConfig(LlmNegativesConfig, frozen=True, forbid_unknown_fields=True):
    """As for `llm`, with a prompt that expects the passage after the query, and how much of it is shown."""

    prompt: str = "hard-negative-with-positive-v1"
    passage_chars: Annotated[int, Meta(ge=1)] = 1000

    def shown(self, query: str, positive: str) -> str:
        """What the LLM sees of a query and the passage that answers it."""
        return f"{query}\nPassage: {' '.join(positive.split())[: self.passage_chars]}"


def mine(queries: pa.Table, context: Context, config: LlmWithPositiveConfig) -> Mined:
    """Has `count` negatives written for each query (`queries.TABLE`), seeing its text and its positive."""
    return write(queries, context, config, "llm-with-positive")
