"""What the steps of a build share: the corpus, the LLM, a cache, and the clock."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec import UNSET, UnsetType

from builders.llm.messages import Converse
from builders.passages import Passages
from foils.engine.config import EngineConfig
from foils.errors import UserError

if TYPE_CHECKING:
    from builders.retrieval.bm25.search import Bm25Index


logger = logging.getLogger(__name__)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Logs how long a stage took."""
    started = perf_counter()
    yield
    logger.info("%s: %.1f s", stage, perf_counter() - started)


class Context:
    """The corpus and the tools that steps share. Each tool is made when it is first asked for.

    Attributes:
        passages: `schema.CORPUS`.
        language: an ISO 639 code.
        seed: the recipe's.
        converse: has the LLM answer many tasks at once.
        cache: a folder for what is computed once and kept: indexes, embeddings, scores.
        engine: computes what is large enough for more than one process; without it this one does.
    """

    def __init__(
        self,
        passages: pa.Table,
        language: str,
        seed: int,
        converse: Converse,
        cache: Path = Path("outputs/cache"),
        *,
        engine: EngineConfig | UnsetType = UNSET,
    ) -> None:
        self.passages = passages
        self.language = language
        self.seed = seed
        self.converse = converse
        self.cache = cache
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

    @cached_property
    def bm25(self) -> "Bm25Index":
        """The BM25 index over the corpus, read from the cache or built."""
        from builders.retrieval.bm25 import shards  # compiles: reading a recipe need not wait for it
        from builders.retrieval.bm25.search import Bm25Index

        if self.engine is not None and self.engine.runs_here and len(self.corpus) > shards.ROWS:
            return shards.ShardedIndex(self.corpus, self.language, self.cache, self.engine)
        return Bm25Index(self.corpus, self.language, self.cache / "bm25")


def no_llm(*_: object, **__: object) -> None:
    """Stands for `Context.converse` where nothing is asked of an LLM."""
    raise UserError("this step asks no LLM, and something did; please report it")
