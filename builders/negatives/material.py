"""What every miner is given, and what it gives back."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from builders import schema
from builders.dataset.costs import Stages
from builders.llm.messages import Converse
from builders.passages import Passages
from foils.errors import UserError

if TYPE_CHECKING:
    from builders.retrieval.bm25.search import Bm25Index


class Material:
    """The corpus and the tools that miners share; each is made once, when first asked for.

    Attributes:
        passages: `schema.CORPUS`.
        language: two-letter code.
        seed: the recipe's.
        converse: has the LLM answer many tasks at once.
        cache: a folder for what is computed once and kept: indexes, embeddings, scores.
        stages: records how long each took.
    """

    def __init__(
        self,
        passages: pa.Table,
        language: str,
        seed: int,
        converse: Converse,
        cache: Path = Path("outputs/cache"),
        stages: Stages | None = None,
    ) -> None:
        self.passages = passages
        self.cache = cache
        self.language = language
        self.seed = seed
        self.converse = converse
        self.stages = stages or Stages()

    @cached_property
    def corpus(self) -> Passages:
        """The corpus, to look texts up in."""
        return Passages(self.passages)

    @cached_property
    def bm25(self) -> "Bm25Index":
        """The BM25 index over the corpus, from the cache or made for it."""
        from builders.retrieval.bm25.search import Bm25Index  # compiles: reading a recipe need not wait for it

        return Bm25Index(self.corpus, self.language, self.cache / "bm25")


class Mined(NamedTuple):
    """What one kind of negative found for a batch of queries.

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


def no_llm(*_: object, **__: object) -> None:
    """In place of `Material.converse` where nothing is asked of an LLM."""
    raise UserError("this step asks no LLM, and something did; please report it")
