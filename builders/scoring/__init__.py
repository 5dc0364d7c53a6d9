"""Scorers of (query, passage) pairs. One module each; `SCORERS` is the whole registry."""

from collections.abc import Callable, Mapping

import pyarrow as pa

from builders.scoring import cross_encoder

SCORERS: Mapping[str, Callable[..., pa.Table]] = {"cross-encoder": cross_encoder.score_pairs}
"""Scorer -> `score(pairs, queries, passages, material, config)`, which returns `schema.SCORES` in the pairs' order."""
