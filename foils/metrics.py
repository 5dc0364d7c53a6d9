"""Retrieval metrics by query, and the interval of their mean: what evaluation computes and verification repeats."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytrec_eval
from scipy.stats import bootstrap

METRICS = {"nDCG@10": "ndcg_cut_10", "Precision@10": "P_10", "Recall@100": "recall_100"}
"""Printed name -> trec_eval's name."""
MAIN_METRIC = "nDCG@10"
JUDGED = "judged@10"
"""Printed name of the share of a query's ten best hits that have a judgement, relevant or not."""
REPORTED = (*METRICS, JUDGED)
DEPTH = 100
"""Ranks that the metrics look at; deeper ones need not be kept."""
CONFIDENCE = 0.95
RESAMPLES = 9999

Rankings = Mapping[str, Mapping[str, float]]
Qrels = Mapping[str, Mapping[str, int]]
PerQuery = dict[str, dict[str, float]]


def per_query_scores(rankings: Rankings, qrels: Qrels, metrics: Mapping[str, str] = METRICS) -> PerQuery:
    """Every metric of every judged query by trec_eval; a query without hits scores 0.

    Args:
        rankings: query id -> passage id -> score, higher is better.
        qrels: query id -> passage id -> relevance.
        metrics: printed name -> trec_eval's name.

    Returns:
        query id -> printed metric name -> value, 0 to 1, in the order of `qrels`.
    """
    evaluator = pytrec_eval.RelevanceEvaluator(
        {query_id: dict(judged) for query_id, judged in qrels.items()}, set(metrics.values())
    )
    measured = evaluator.evaluate({query_id: dict(rankings.get(query_id, {})) for query_id in qrels})
    return {query: {name: measured.get(query, {}).get(key, 0.0) for name, key in metrics.items()} for query in qrels}


def means(scores: PerQuery, names: Iterable[str] = METRICS) -> dict[str, float]:
    """Printed metric name -> mean over the queries."""
    return {name: sum(query[name] for query in scores.values()) / len(scores) for name in names}


def top(hits: Mapping[str, float], depth: int = DEPTH) -> list[tuple[str, float]]:
    """A query's best hits in trec_eval's order: by score, ties by the greater id.

    Its scores are single precision, so what differs beyond that is a tie.

    >>> top({"a": 0.5, "b": 0.5, "c": 0.9})
    [('c', 0.9), ('b', 0.5), ('a', 0.5)]
    """
    return sorted(hits.items(), key=lambda hit: (np.float32(hit[1]), hit[0]), reverse=True)[:depth]


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean over queries: percentile bootstrap, 9,999 resamples, fixed seed."""
    sample = np.asarray(values, dtype=float)
    if np.ptp(sample) == 0:  # nothing to resample
        return float(sample[0]), float(sample[0])
    interval = bootstrap(
        (sample,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    return float(interval.low), float(interval.high)
