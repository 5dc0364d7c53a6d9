"""Retrieval by embeddings, for the round-trip check."""

from collections.abc import Sequence

import numpy as np

from cards.models import resolve_model


def search(
    queries: Sequence[str], ids: Sequence[str], texts: Sequence[str], model_name: str, k: int
) -> list[list[str]]:
    """The ids of each query's `k` nearest passages by cosine similarity, best first, ties by id.

    Args:
        queries: texts.
        ids: passage ids, one per text.
        texts: the passages.
        model_name: any sentence-transformers model, see `cards.models.resolve_model`.
        k: at most this many ids per query.
    """
    from sentence_transformers import SentenceTransformer

    reference = resolve_model(model_name)
    model = SentenceTransformer(reference.location)
    passages = model.encode_document(list(texts), normalize_embeddings=True, show_progress_bar=True)
    questions = model.encode_query(list(queries), normalize_embeddings=True)
    id_order = np.argsort(np.argsort(np.array(ids, dtype=object)))
    found = []
    for question in questions:  # one row at a time: the full matrix would be (n_queries, n_passages)
        similarities = np.round(passages @ question, 6)
        best = np.lexsort((id_order, -similarities))[:k]
        found.append([ids[position] for position in best])
    return found
