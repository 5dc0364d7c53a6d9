"""Kinds of negatives. One module each; `MINERS` is the whole registry."""

from collections.abc import Callable, Mapping
from typing import Any

from builders.negatives import bm25, cross_encoder, dense, llm, llm_with_positive, random
from builders.negatives.material import Mined

MINERS: Mapping[str, Callable[..., Mined]] = {
    "llm": llm.mine,
    "llm-with-positive": llm_with_positive.mine,
    "bm25": bm25.mine,
    "cross-encoder": cross_encoder.mine,
    "dense": dense.mine,
    "random": random.mine,
}
"""Kind -> `mine(queries, material, config)`; its config is the field of that name in the recipe's `[negatives]`."""


def config_of(negatives: Any, kind: str) -> Any:
    """A kind's own settings in the recipe's `[negatives]`."""
    return getattr(negatives, kind.replace("-", "_"))
