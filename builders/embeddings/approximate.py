"""Above about a million passages: an inverted file of 8-bit vectors (faiss) finds, stored vectors score.

Why this index: an HNSW graph holds all vectors and their links in memory (2 kB a passage of 384 numbers) and is built
by searching it, which takes most of an hour for a million passages on two cores. An inverted file of vectors cut to 8
bits takes 400 bytes a passage, is built by k-means in minutes, and queries that come by the thousand share its lists.
What the 8 bits lose is made good: twice as many passages are fetched as wanted and scored from the stored vectors, so
that scores and the order of what is found are those of the exact search.
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from builders.embeddings.search import exact
from builders.embeddings.vectors import Floats, Vectors, cosines
from builders.hits import Hits
from builders.passages import Positions
from foils.errors import UserError

logger = logging.getLogger(__name__)

EXACT_BELOW = 1_000_000
GOOD_RECALL = 0.95
SAMPLE = 256
_FETCH = 2  # times k
_TRAIN_PER_LIST = 40
_BLOCK = 16_384


def nearest(queries: Vectors, passages: Vectors, ties: Positions, k: int, exact_below: int, indexes: Path) -> Hits:
    """Each query's `k` nearest passages: exact below `exact_below` passages, else by an index.

    Lists are searched, twice as many each time, until the recall of the exact hits on `SAMPLE` queries is 0.95; which
    recall was reached is logged.

    Args:
        queries: of length 1.
        passages: of length 1.
        ties: see `search.id_order`.
        k: hits per query.
        exact_below: passages from which on an index is used.
        indexes: a folder that keeps indexes; one is built once for the same passages.

    Raises:
        UserError: an index is needed and faiss is not installed.
    """
    if len(passages.places) < exact_below or not len(queries.places):
        return exact(queries, passages, ties, k)
    index = _index(passages, indexes)
    k = min(k, len(passages.places))
    sample = Vectors(queries.rows, _sampled(queries))
    wanted = exact(sample, passages, ties, k)
    probes, lists, recall = min(16, index.nlist), index.nlist, 0.0
    while recall < GOOD_RECALL:
        index.nprobe = probes
        recall = recall_of(_search(index, sample, passages, ties, k), wanted)
        logger.info("recall@%d of the index, %d of %d lists searched: %.3f", k, probes, lists, recall)
        if probes == lists:
            break
        probes = min(2 * probes, lists)
    if recall < GOOD_RECALL:
        logger.warning(
            "the approximate index finds only %.1f %% of the %d nearest passages; for exact search set "
            "negatives.dense.exact_below above %d",
            *(100 * recall, k, len(passages.places)),
        )
    return _search(index, queries, passages, ties, k)


def recall_of(found: Hits, wanted: Hits) -> float:
    """The share of the wanted hits that were found.

    >>> wanted = Hits(np.array([0, 2]), np.array([4, 7]), np.array([0.9, 0.8], np.float32))
    >>> recall_of(Hits(np.array([0, 1]), np.array([7]), np.array([0.8], np.float32)), wanted)
    0.5
    """
    pairs = [np.stack([hits.query_numbers, hits.positions], axis=1) for hits in (found, wanted)]
    both = np.concatenate([np.unique(part, axis=0) for part in pairs])
    shared = len(both) - len(np.unique(both, axis=0))
    return shared / max(1, len(wanted.positions))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise UserError(
            "search: above exact_below passages faiss finds the nearest ones, and it is not installed; run: "
            "pip install faiss-cpu (or pip install -e '.[fast]'), or set exact_below higher"
        ) from None
    return faiss


def _index(passages: Vectors, indexes: Path) -> Any:
    """The index over passages: number i in it is passage i."""
    faiss = _faiss()
    digest = hashlib.blake2b(np.ascontiguousarray(passages.places).tobytes(), digest_size=8).hexdigest()
    file = indexes / f"ivf-{digest}.faiss"  # rows on disk never change, so their places tell which they are
    if file.exists():
        return faiss.read_index(str(file))
    size, dim = len(passages.places), passages.dim
    lists = max(1, min(int(4 * size**0.5), size // _TRAIN_PER_LIST))
    logger.info("indexing %d vectors in %d lists", size, lists)
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    # Evenly over the rows, by no lot: a corpus in another order gives other rows, and the same lists but for noise.
    sample = np.linspace(0, size - 1, min(size, lists * _TRAIN_PER_LIST)).astype(np.int64)
    index.cp.seed, index.cp.spherical = 1234, True
    index.train(passages.take(sample))
    for start in range(0, size, _BLOCK):
        index.add(passages.take(np.arange(start, min(start + _BLOCK, size))))
    partial = file.with_suffix(f".{os.getpid()}.partial")
    faiss.write_index(index, str(partial))
    partial.replace(file)
    return index


def _search(index: Any, queries: Vectors, passages: Vectors, ties: Positions, k: int) -> Hits:
    """The best `k` of those that the index finds, scored and ordered as by the exact search."""
    fetch = min(_FETCH * k, len(passages.places))
    asked, hits, scored = list[Positions](), list[Positions](), list[Floats]()
    for start in range(0, len(queries.places), _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, len(queries.places)))
        _, listed = index.search(queries.take(numbers), fetch)
        rows, columns = np.nonzero(listed >= 0)  # -1: the lists that were searched hold fewer
        found = listed[rows, columns]
        scores = cosines(queries, passages, numbers[rows], found)
        order = np.lexsort((ties[found], -scores, rows))
        ranks = np.arange(len(order)) - np.searchsorted(rows[order], rows[order])
        order = order[ranks < k]
        asked.append(numbers[rows[order]])
        hits.append(found[order])
        scored.append(scores[order].astype(np.float32))
    offsets = np.searchsorted(np.concatenate(asked), np.arange(len(queries.places) + 1))
    return Hits(offsets, np.concatenate(hits), np.concatenate(scored))


def _sampled(queries: Vectors) -> Positions:
    """Places of `SAMPLE` queries: those whose vectors hash lowest, whatever the order of queries."""
    digests = [
        hashlib.blake2b(queries.take(np.array([number])).tobytes(), digest_size=8).digest()
        for number in range(len(queries.places))
    ]
    return queries.places[np.argsort(np.array(digests), kind="stable")[:SAMPLE]]
