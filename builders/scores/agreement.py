"""The check that a fast lane ranks as fp32 does, on a sample, before anything is built on it."""

import logging

import numpy as np
import numpy.typing as npt

from builders.hashing import keyed_hash
from foils.encode.batches import Numbers
from foils.errors import UserError

logger = logging.getLogger(__name__)

SAMPLE_QUERIES = 32
SAMPLE_PAIRS = 600
LEAST_SPEARMAN = 0.99
_LEAST_PAIRS = 100
_SHARE = 0.05

Scores = npt.NDArray[np.float64]


def sampled(query_ids: list[str], query_positions: Numbers, seed: int) -> Numbers:
    """Returns the rows of pairs to compare: whole queries, chosen by the seed and their ids.

    At most 32 queries and 600 pairs; where there are few pairs at most a twentieth of them, but no less than 100, so
    that the check costs little beside the work.

    >>> sampled(["a", "b"], np.array([0, 0, 1, 1, 1]), 42).tolist()
    [0, 1, 2, 3, 4]
    """
    limit = min(SAMPLE_PAIRS, max(_LEAST_PAIRS, int(len(query_positions) * _SHARE)))
    present = np.unique(query_positions).tolist()
    order = sorted(present, key=lambda query: keyed_hash(seed, "rank-agreement", query_ids[query]))
    rows = np.empty(0, np.int64)
    for query in order[:SAMPLE_QUERIES]:
        if len(rows) >= limit:
            break
        rows = np.concatenate([rows, np.flatnonzero(query_positions == query)])
    return rows[:SAMPLE_PAIRS]


def agreement(lane: str, scores: Scores, reference: Scores) -> float:
    """Returns the rank correlation (Spearman's) of a lane's scores `(n_pairs,)` with those of fp32.

    Raises:
        UserError: it is below 0.99.
    """
    from scipy.stats import spearmanr

    if np.ptp(reference) == 0 or np.ptp(scores) == 0:  # no ranking to compare: alike only if neither has one
        rho = float(np.ptp(reference) == np.ptp(scores))
    else:
        rho = float(spearmanr(scores, reference).statistic)
    logger.info("cross-encoder in %s against fp32: Spearman %.4f over %d pairs", lane, rho, len(scores))
    if rho < LEAST_SPEARMAN:
        raise UserError(
            f"negatives.cross-encoder.precision: {lane} ranks {len(scores)} sampled pairs otherwise than fp32 does "
            f'(Spearman {rho:.4f}; wanted {LEAST_SPEARMAN} or more); set precision = "fp32"'
        )
    return rho
