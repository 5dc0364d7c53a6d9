"""`cross-encoder`: the passages that a cross-encoder ranks highest among the best of BM25, dense retrieval or both."""

import logging
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders import schema
from builders.negatives import dense
from builders.negatives.material import Material, Mined
from builders.passages import Passages
from builders.scoring.config import CrossEncoderConfig
from builders.scoring.cross_encoder import score_and_check

logger = logging.getLogger(__name__)

LEAST_ABOVE = 0.6
WARNING = (
    "the cross-encoder puts a query's own passage above %.0f %% of the passages it scores for it (by chance: 50 %%): "
    "its negatives are hardly better than random ones of the pool; take a stronger one, or train it on more"
)

Numbers = npt.NDArray[np.int64]
Found = tuple[Numbers, Numbers]  # each hit's query, by its row, and its passage, by its position


def mine(queries: pa.Table, material: Material, config: CrossEncoderConfig) -> Mined:
    """Scores each query's (`queries.TABLE`) pool with the cross-encoder and ranks it by that score.

    Equal scores are in the order of ids. `scores` holds the whole pool and each query's positive; `record` tells how a
    lane other than fp32 agrees with it, and how often it puts a query's own passage above the pool.

    Raises:
        UserError: the model cannot be loaded or gives more than one score; see `score_and_check` for more.
    """
    corpus = material.corpus
    pools = [POOLS[name](queries, material, config) for name in config.pool_from]
    positives = (np.arange(queries.num_rows), corpus.positions(queries["corpus-id"]))
    # A pair is one number, so that joining pools and positives is one sort. A positive of another corpus is left out.
    pooled = np.unique(np.concatenate([_joined(found, corpus) for found in pools]))
    wanted = np.union1d(pooled, _joined(positives, corpus)[positives[1] >= 0])
    asked, answering = np.divmod(wanted, max(len(corpus), 1))
    pairs = pa.table({"query-id": queries["_id"].take(pa.array(asked)), "corpus-id": corpus.ids_at(answering)})
    scored = score_and_check(pairs, queries.select(["_id", "text"]), corpus, material, config)
    in_pool = np.isin(wanted, pooled, assume_unique=True)
    candidates = _ranked(scored.table.filter(pa.array(in_pool)), asked[in_pool], config.depth)
    record = {} if scored.agreement is None else {"agreement with fp32": msgspec.to_builtins(scored.agreement)}
    is_own = np.isin(wanted, _joined(positives, corpus), assume_unique=True)
    above = _own_above(asked, is_own, scored.table["score"].to_numpy())
    if above is not None:
        record["own passage above the pool"] = round(above, 4)
        if above < LEAST_ABOVE:
            logger.warning(WARNING, 100 * above)
    return Mined(candidates, scores=scored.table, record=record)


def _own_above(asked: Numbers, is_own: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float | None:
    """Mean over queries of the share of the pool that scores below the query's own passage; None without a pool.

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


def _joined(found: Found, corpus: Passages) -> Numbers:
    return found[0] * len(corpus) + found[1]


def _ranked(scores: pa.Table, asked: Numbers, depth: int) -> pa.Table:
    """The best `depth` of each query as `schema.CANDIDATES`: in the queries' order, best first, ties by id."""
    ids = np.argsort(np.argsort(scores["corpus-id"].to_numpy(zero_copy_only=False)))
    order = np.lexsort((ids, -scores["score"].to_numpy(), asked))
    in_order = asked[order]
    ranks = np.arange(len(order)) - np.searchsorted(in_order, in_order) + 1
    kept = ranks <= depth
    best = scores.take(pa.array(order[kept]))
    columns = {"query-id": best["query-id"], "corpus-id": best["corpus-id"], "rank": pa.array(ranks[kept], pa.int32())}
    return pa.table({**columns, "score": best["score"]}, schema.CANDIDATES)


def _bm25_pool(queries: pa.Table, material: Material, config: CrossEncoderConfig) -> Found:
    hits = material.bm25.search_arrow(queries["text"], config.pool)
    return hits.query_numbers, hits.positions


def _dense_pool(queries: pa.Table, material: Material, config: CrossEncoderConfig) -> Found:
    hits = dense.search(queries, material, dense.DenseConfig(model=str(config.dense_model)), config.pool)
    return hits.query_numbers, hits.positions


POOLS: Mapping[str, Callable[[pa.Table, Material, CrossEncoderConfig], Found]] = {
    "bm25": _bm25_pool,
    "dense": _dense_pool,
}
"""What finds the pool -> its hits, in any order."""
