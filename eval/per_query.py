"""Every figure of every query, from a ranking and the judgements alone: no model is needed to compute it again."""

from foils.metrics import METRICS, PerQuery, Qrels, Rankings, per_query_scores, top

DEPTH = 1000
"""Ranks that are kept; MAP looks at all of them."""
FURTHER = {"MRR@10": "recip_rank", "MAP": "map"}
"""Beside the published metrics: printed name -> trec_eval's name."""
JUDGED = "judged@10"
NAMES = (*METRICS, *FURTHER, JUDGED)
_CUT = 10


def scores_of(rankings: Rankings, qrels: Qrels) -> PerQuery:
    """Query id -> name of `NAMES` -> value, 0 to 1, in the order of `qrels`.

    `judged@10` is the share of the ten best hits that anyone has judged, relevant or not: where it is low, the other
    figures say little, for what nobody judged counts as irrelevant.

    Args:
        rankings: query id -> passage id -> score, higher is better.
        qrels: query id -> passage id -> relevance, 0 for judged irrelevant.
    """
    found = per_query_scores(rankings, qrels, METRICS | FURTHER)
    for query, scores in found.items():
        if scores["MRR@10"] < 1 / _CUT:  # trec_eval's has no cut: 1 / rank of the first relevant hit
            scores["MRR@10"] = 0.0
        best = top(rankings.get(query, {}), _CUT)
        scores[JUDGED] = sum(passage in qrels[query] for passage, _ in best) / _CUT
    return found
