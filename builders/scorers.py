"""Scorers: they say how relevant a passage is to a query, whichever kind of negatives it belongs to.

`SCORERS` is the whole registry.
"""

from collections.abc import Callable, Mapping

import pyarrow as pa

from builders.audit import llm_judge
from builders.negatives import dense
from builders.scoring import cross_encoder

SCORERS: Mapping[str, Callable[..., pa.Table]] = {
    "cross-encoder": cross_encoder.score_pairs,
    "dense": dense.score,
    "llm-judge": llm_judge.score,
}
"""Scorer -> `score(pairs, queries, passages, material, config)`, which gives `schema.SCORES` in the pairs' order."""
