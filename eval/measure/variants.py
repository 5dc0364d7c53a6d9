"""Systems made of one base, worse or other by design: with fewer dimensions, with noise, or joined with BM25."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from eval.measure.encoder import Encoder
from eval.measure.tasks import Task
from foils.metrics import DEPTH, Rankings, top

RANK_OFFSET = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""
_BATCH = 256  # queries whose scores are in memory at once
Floats = npt.NDArray[np.float32]


def variants(
    encoder: Encoder, task: Task, dimensions: Sequence[int], noise: Sequence[float]
) -> Iterator[tuple[str, Rankings]]:
    """The base and each variant of it, by name, with what it finds on a task; texts are encoded once.

    Args:
        encoder: the base.
        task: where to search.
        dimensions: how many of the first dimensions a variant has.
        noise: length of the normal noise that is added to a vector, as a share of the vector's.
    """
    queries, passages = task.queries(), task.passages()
    asked = encoder.encode_query(list(queries.values()))
    there = encoder.encode_document(list(passages.values()))
    vectors = {"base": (asked, there)}
    vectors |= {f"{count} dimensions": (asked[:, :count], there[:, :count]) for count in dimensions}
    vectors |= {f"noise {share:g}": (_blurred(asked, share, 0), _blurred(there, share, 1)) for share in noise}
    for name, (of_queries, of_passages) in vectors.items():
        yield name, nearest(of_queries, of_passages, list(queries), list(passages))


def nearest(asked: Floats, there: Floats, queries: Sequence[str], passages: Sequence[str]) -> Rankings:
    """The passages with the highest cosines: query id -> passage id -> cosine, `DEPTH` of them.

    Args:
        asked: vectors of the queries `(n_queries, dim)`.
        there: vectors of the passages `(n_passages, dim)`.
        queries: ids of the queries.
        passages: ids of the passages.
    """
    asked, there = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (asked, there))
    depth = min(DEPTH, len(passages))
    found = {}
    for start in range(0, len(queries), _BATCH):
        scores = asked[start : start + _BATCH] @ there.T
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        for query, places, row in zip(queries[start : start + _BATCH], best, scores, strict=True):
            found[query] = {passages[place]: float(row[place]) for place in places}
    return found


def joined(lexical: Rankings, dense: Rankings, weight: float) -> Rankings:
    """Two systems' hits by reciprocal rank fusion, the first with this weight and the second with the rest."""
    found: dict[str, dict[str, float]] = {}
    for query in lexical.keys() | dense.keys():
        scores = found.setdefault(query, {})
        for rankings, share in ((lexical, weight), (dense, 1 - weight)):
            for rank, (passage, _) in enumerate(top(rankings.get(query, {})), 1):
                scores[passage] = scores.get(passage, 0.0) + share / (RANK_OFFSET + rank)
    return found


def _blurred(vectors: Floats, share: float, seed: int) -> Floats:
    noise = np.random.default_rng(seed).standard_normal(vectors.shape, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    blurred: Floats = vectors + share * lengths / np.float32(vectors.shape[1] ** 0.5) * noise
    return blurred
