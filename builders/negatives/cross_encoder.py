"""`cross-encoder`: the passages that a cross-encoder ranks highest among the best of BM25, dense retrieval or both."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders import schema
from builders.context import Context
from builders.negatives import Mined, dense
from builders.retrieval.hits import Hits, scores_table
from builders.retrieval.nearest import id_order
from builders.scores.config import CrossEncoderConfig
from builders.scores.cross_encoder import score_located
from builders.scores.pairs import Pairs

logger = logging.getLogger(__name__)

LEAST_ABOVE = 0.6
WARNING = (
    "the cross-encoder puts a query's own passage above %.0f %% of the passages it scores for it (by chance: 50 %%): "
    "its negatives are hardly better than random ones of the pool; take a stronger one, or train it on more"
)

Numbers = npt.NDArray[np.int64]


def mine(queries: pa.Table, context: Context, config: CrossEncoderConfig) -> Mined:
    """Scores each query's (`queries.TABLE`) pool with the cross-encoder and ranks it by that score.

    Ties are broken by id. `scores` holds the whole pool and each query's positive, if the corpus has it. `record` says
    how a lane other than fp32 agrees with it, and how often the model puts a query's own passage above the pool.

    Raises:
        UserError: the model cannot be loaded or gives more than one score; see `score_located` for more.
    """
    corpus = context.corpus
    size = max(len(corpus), 1)
    hits = [_pool(name, queries, context, config) for name in config.pool_from]
    positives = corpus.positions(queries["corpus-id"])
    # A pair is one number, so that joining pools and positives is one sort.
    own = (np.arange(len(positives)) * size + positives)[positives >= 0]
    pooled = np.unique(np.concatenate([each.query_numbers * size + each.positions for each in hits]))
    wanted = np.union1d(pooled, own)
    asked, answering = np.divmod(wanted, size)
    found, agreement = score_located(Pairs(queries["text"], corpus, asked, answering), queries["_id"], context, config)
    scores = scores_table(queries, corpus, (asked, answering), found)
    in_pool, is_own = (np.isin(wanted, some, assume_unique=True) for some in (pooled, own))
    best, ranks = _ranked(asked[in_pool], answering[in_pool], found[in_pool], id_order(corpus), config.depth)
    candidates = scores.take(pa.array(np.flatnonzero(in_pool)[best])).add_column(2, "rank", pa.array(ranks, pa.int32()))
    record: dict[str, Any] = {}
    if agreement is not None:
        record["agreement with fp32"] = agreement
    above = _own_above(asked, is_own, found)
    if above is not None:
        record["own passage above the pool"] = round(above, 4)
        if above < LEAST_ABOVE:
            logger.warning(WARNING, 100 * above)
    return Mined(candidates.cast(schema.CANDIDATES), scores=scores, record=record)


def _own_above(asked: Numbers, is_own: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float | None:
    """Returns the share of a pool that scores below the query's own passage, mean over queries; None without pools.

    >>> _own_above(np.array([0, 0, 0, 1, 1]), np.array([1, 0, 0, 0, 1], bool), np.array([0.5, 0.1, 0.9, 0.2, 0.3]))
    0.75
    """
    own = np.full(asked.max(initial=-1) + 1, np.nan)
    own[asked[is_own]] = scores[is_own]
    compared = ~is_own & ~np.isnan(own[asked])
    if not compared.any():
        return None
    below = np.bincount(asked[compared], scores[compared] < own[asked[compared]])
    pool = np.bincount(asked[compared])
    return float(np.mean(below[pool > 0] / pool[pool > 0]))


def _ranked(
    asked: Numbers, answering: Numbers, scores: npt.NDArray[np.float64], ties: Numbers, depth: int
) -> tuple[Numbers, Numbers]:
    """Returns the places of the best `depth` pairs of each query, in the queries' order, and their ranks from 1.

    >>> _ranked(np.array([0, 0, 1]), np.array([5, 3, 5]), np.array([0.1, 0.1, 0.7]), np.arange(6), 1)
    (array([1, 2]), array([1, 1]))
    """
    order = np.lexsort((ties[answering], -scores, asked))
    ranks = np.arange(len(order)) - np.searchsorted(asked[order], asked[order]) + 1
    return order[ranks <= depth], ranks[ranks <= depth]


def _pool(found_by: str, queries: pa.Table, context: Context, config: CrossEncoderConfig) -> Hits:
    """Returns what BM25 or the embedding model finds."""
    if found_by == "bm25":
        return context.bm25.search_arrow(queries["text"], config.pool)
    return dense.search(queries, context, dense.DenseConfig(model=config.dense_model), config.pool)
