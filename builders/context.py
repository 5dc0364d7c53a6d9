"""What the steps of a build share: the corpus, the LLM, a cache, and the clock."""

from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec import UNSET, UnsetType

from builders.dataset.costs import Stages
from builders.llm.messages import Converse
from builders.passages import Passages
from foils.engine.config import EngineConfig
from foils.errors import UserError

if TYPE_CHECKING:
    from builders.retrieval.bm25.search import Bm25Index


class Context:
    """The corpus and the tools that steps share. Each tool is made when it is first asked for.

    Attributes:
        passages: `schema.CORPUS`.
        language: an ISO 639 code.
        seed: the recipe's.
        converse: has the LLM answer many tasks at once.
        cache: a folder for what is computed once and kept: indexes, embeddings, scores.
        stages: records how long each took.
        engine: computes what is large enough for more than one process; without it this one does.
    """

    def __init__(
        self,
        passages: pa.Table,
        language: str,
        seed: int,
        converse: Converse,
        cache: Path = Path("outputs/cache"),
        stages: Stages | None = None,
        *,
        engine: EngineConfig | UnsetType = UNSET,
    ) -> None:
        self.passages = passages
        self.language = language
        self.seed = seed
        self.converse = converse
        self.cache = cache
        self.stages = stages or Stages()
        self.engine = engine or None

    def asking(self, converse: Converse, seed: int) -> "Context":
        """The same with another LLM and seed; what was made of the corpus is shared."""
        other = copy(self)
        other.converse, other.seed = converse, seed
        return other

    @cached_property
    def corpus(self) -> Passages:
        """The corpus, to look texts up in."""
        return Passages(self.passages)

    @property
    def sharding(self) -> EngineConfig | None:
        """The engine, where it runs here and the corpus has several shards."""
        from builders.retrieval.bm25 import shards  # compiles: reading a recipe need not wait for it

        runs_here = self.engine is not None and self.engine.runs_here
        return self.engine if runs_here and len(self.corpus) > shards.ROWS else None

    @cached_property
    def bm25(self) -> "Bm25Index":
        """The BM25 index over the corpus, read from the cache or built."""
        from builders.retrieval.bm25 import shards
        from builders.retrieval.bm25.search import Bm25Index

        if self.sharding is not None:
            return shards.ShardedIndex(self.corpus, self.language, self.cache, self.sharding)
        return Bm25Index(self.corpus, self.language, self.cache / "bm25")


def no_llm(*_: object, **__: object) -> None:
    """Stands for `Context.converse` where nothing is asked of an LLM."""
    raise UserError("this step asks no LLM, and something did; please report it")
