"""Scorers: they say how relevant a passage is to a query, whichever kind of negatives it belongs to."""

from collections.abc import Callable, Mapping

import pyarrow as pa

SCORERS: Mapping[str, Callable[..., pa.Table]] = {}
"""Scorer -> `score(pairs, queries, passages, material, config)`, which gives `schema.SCORES` in the pairs' order."""
