"""`llm-with-positive`: hard negatives that the LLM writes with the query and the passage that answers it before it.

As in arXiv 2504.21015's later versions; here one passage of the corpus, the query's own, is shown.
"""

from typing import Annotated

import pyarrow as pa
from msgspec import Meta

from builders.negatives.llm import Ask, LlmNegativesConfig, rows_of, write
from builders.negatives.material import Material, Mined


class LlmWithPositiveConfig(LlmNegativesConfig, frozen=True, forbid_unknown_fields=True):
    """As for `llm`, with a prompt that expects the passage after the query, and how much of it is shown."""

    prompt: str = "hard-negative-with-positive-v1"
    passage_chars: Annotated[int, Meta(ge=1)] = 1000


def mine(queries: pa.Table, material: Material, config: LlmWithPositiveConfig) -> Mined:
    """Has `count` negatives written for each query (`queries.TABLE`), seeing its text and its positive."""

    def shown(row: dict[str, str]) -> str:
        passage = " ".join(row["positive"].split())[: config.passage_chars]
        return f"{row['text']}\nPassage: {passage}"

    asks = (Ask(row["_id"], row["text"], shown(row), row["positive"]) for row in rows_of(queries, material))
    return write(asks, queries.num_rows, material, config, "llm-with-positive")
