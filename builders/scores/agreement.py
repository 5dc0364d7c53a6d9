"""The check that a fast lane ranks as fp32 does, on a sample, before anything is built on it."""

import logging

import msgspec
import numpy as np
import numpy.typing as npt

from builders.hashing import keyed_hash
from foils.encode.batches import Numbers
from foils.errors import UserError

logger = logging.getLogger(__name__)

SAMPLE_QUERIES = 32
SAMPLE_PAIRS = 600
LEAST_SPEARMAN = 0.99
TOP = 5
_LEAST_PAIRS = 100
_SHARE = 0.05

Scores = npt.NDArray[np.float64]


class Agreement(msgspec.Struct, frozen=True):
    """How a lane's ranking compares with fp32's.

    Attributes:
        lane: which one.
        queries: how many the sample has.
        pairs: how many the sample has.
        spearman: rank correlation of all pairs' scores, within -1 and 1.
        same_top_5: share of queries with the same five best passages, in any order.
    """

    lane: str
    queries: int
    pairs: int
    spearman: float
    same_top_5: float


def sampled(query_ids: list[str], query_positions: Numbers, seed: int) -> Numbers:
    """Returns the rows of pairs to compare: whole queries, chosen by the seed and their ids.

    At most 32 queries and 600 pairs; where there are few pairs at most a twentieth of them, but no less than 100, so
    that the check costs little beside the work.

    >>> sampled(["a", "b"], np.array([0, 0, 1, 1, 1]), 42).tolist()
    [0, 1, 2, 3, 4]
    """
    limit = min(SAMPLE_PAIRS, max(_LEAST_PAIRS, int(len(query_positions) * _SHARE)))
    present = np.unique(query_positions).tolist()
    rows = np.empty(0, np.int64)
    for query in sorted(present, key=lambda query: keyed_hash(seed, "rank-agreement", query_ids[query]))[
        :SAMPLE_QUERIES
    ]:
        if len(rows) >= limit:
            break
        rows = np.concatenate([rows, np.flatnonzero(query_positions == query)])
    return rows[:SAMPLE_PAIRS]


def compare(lane: str, scores: Scores, reference: Scores, query_positions: Numbers) -> Agreement:
    """Compares a lane's scores `(n_pairs,)` with the scores of fp32."""
    from scipy.stats import spearmanr

    if np.ptp(reference) == 0 or np.ptp(scores) == 0:  # no ranking to compare: alike only if neither has one
        rho = float(np.ptp(reference) == np.ptp(scores))
    else:
        rho = float(spearmanr(scores, reference).statistic)

    def top(values: Scores, rows: Numbers) -> set[int]:
        return set(np.argsort(-values[rows], kind="stable")[:TOP].tolist())

    by_query = [np.flatnonzero(query_positions == query) for query in np.unique(query_positions)]
    same = [top(scores, rows) == top(reference, rows) for rows in by_query]
    return Agreement(lane, len(by_query), len(scores), round(rho, 4), round(float(np.mean(same)), 4))


def check_agreement(found: Agreement) -> None:
    """Refuses a lane that ranks pairs otherwise than fp32 does.

    Raises:
        UserError: the rank correlation is below 0.99.
    """
    logger.info(
        "cross-encoder in %s against fp32: Spearman %.4f over %d pairs, same top %d for %.0f %% of %d queries",
        *(found.lane, found.spearman, found.pairs, TOP, 100 * found.same_top_5, found.queries),
    )
    if found.spearman < LEAST_SPEARMAN:
        raise UserError(
            f"negatives.cross-encoder.precision: {found.lane} ranks {found.pairs} sampled pairs otherwise than fp32 "
            f'does (Spearman {found.spearman:.4f}; wanted {LEAST_SPEARMAN} or more); set precision = "fp32"'
        )
