"""`llm-with-positive`: hard negatives that the LLM writes with the query and the passage that answers it before it.

As in arXiv 2504.21015's later versions; here one passage of the corpus, the query's own, is shown.
"""

import pyarrow as pa

from builders.negatives.llm import LlmNegativesConfig, write
from builders.negatives.material import Material, Mined

PASSAGE_CHARS = 1000


class LlmWithPositiveConfig(LlmNegativesConfig, frozen=True, forbid_unknown_fields=True):
    """As for `llm`, with a prompt that expects the passage after the query, and how much of it is shown."""

    prompt: str = "hard-negative-with-positive-v1"
    passage_chars: int = PASSAGE_CHARS


def mine(queries: pa.Table, material: Material, config: LlmWithPositiveConfig) -> Mined:
    """Has `count` negatives written for each query (`queries.TABLE`), seeing its text and its positive."""
    texts = {row["_id"]: row["text"] for row in queries.to_pylist()}
    shown = {
        row[
            "_id"
        ]: f"{row['text']}\nPassage: {' '.join(material.texts[row['corpus-id']].split())[: config.passage_chars]}"
        for row in queries.to_pylist()
    }
    return write(shown, texts, material, config, "llm-with-positive")
