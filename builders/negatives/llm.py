"""`llm`: hard negatives that the LLM writes from the query's text alone; the corpus is never shown to it.

The idea is arXiv 2504.21015's first version: the LLM learns what a hard negative is and then gets the query. The
answers are checked afterwards (`written_checks`), also against the query's own passage.
"""

import pyarrow as pa

from builders.context import Context
from builders.negatives import Mined
from builders.negatives.written import LlmNegativesConfig, write


def mine(queries: pa.Table, context: Context, config: LlmNegativesConfig) -> Mined:
    """Has `count` negatives written for each query (`queries.TABLE`), seeing its `text` and nothing else."""
    return write(queries, context, config, "llm")
