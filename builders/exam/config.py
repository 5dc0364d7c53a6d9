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
        queries: how many; without it 300, of `source` all. More of them show smaller differences between models.
        types: prompts of `builders/prompts/` with weights, for queries such as your users ask; none of `[queries]`.
        seed: draws the exam's groups; another one draws another exam from the same corpus.
        source: people's own queries with their judgements, in BEIR's layout, in place of what an LLM writes.
        split: which judgements of `source` are read.
        as_negatives: whether passages of the exam may be negatives of training queries, as they would be in a corpus
            that nobody had set an exam on.
        llm: another LLM than the one that writes the training queries, so that the exam does not share its habits.
    """

    queries: Annotated[int, Meta(ge=1)] | None = None
    types: dict[str, Annotated[float, Meta(gt=0)]] = {}
    seed: Seed = 42
    source: str | None = None
    split: str = "test"
    as_negatives: bool = True
    llm: LlmConfig | None = None

    @property
    def wanted(self) -> int:
        """The number of queries; of `source`, 0 stands for all."""
        return self.queries or (QUERIES if self.source is None else 0)

    def weights(self) -> dict[str, float]:
        """Prompts with their weights; none where people's own queries are taken."""
        return {} if self.source else self.types or TYPES
