"""The recipe's `[exam]`."""

from typing import Annotated

from msgspec import Meta, Struct

from builders.llm.config import LlmConfig
from foils.recipe import Seed

QUERIES = 300
"""Queries that an LLM writes where the recipe does not say."""
TYPES = {"exam-question-v1": 2.0, "exam-search-v1": 1.0, "exam-situation-v1": 1.0}
"""Prompts of the exam where the recipe does not say: none of them is a training query's."""


class ExamConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept out of training, to be asked afterwards.

    Attributes:
        queries: how many an LLM writes; without it 300, and none where `source` is given. With both, people's own
            stand beside the LLM's and are measured apart. More of them show smaller differences between models.
        types: prompts of `builders/prompts/` with weights, for queries such as your users ask; none of `[queries]`.
        seed: draws the exam's groups; another one draws another exam from the same corpus.
        source: people's own queries in BEIR's layout. Where it has no judgements, the LLM judges the ten best hits of
            BM25, and of the build's embedding model, and must quote the words that answer the query.
        split: which judgements of `source` are read.
        sample: how many queries of `source` are used; 0 = all.
        as_negatives: whether passages of the exam may be negatives of training queries, as they would be in a corpus
            that nobody had set an exam on.
        llm: another LLM than the one that writes the training queries, so that the exam does not share its habits; it
            judges too.
    """

    queries: Annotated[int, Meta(ge=1)] | None = None
    types: dict[str, Annotated[float, Meta(gt=0)]] = {}
    seed: Seed = 42
    source: str | None = None
    split: str = "test"
    sample: Annotated[int, Meta(ge=0)] = 0
    as_negatives: bool = True
    llm: LlmConfig | None = None

    @property
    def wanted(self) -> int:
        """The number of queries that an LLM writes."""
        return self.queries or (QUERIES if self.source is None else 0)

    def weights(self) -> dict[str, float]:
        """Prompts with their weights; none where an LLM writes no query."""
        return (self.types or TYPES) if self.wanted else {}
