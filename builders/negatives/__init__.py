"""Kinds of negatives, one module each; `builders.mining.MINERS` is the whole registry."""

from typing import Any


def config_of(negatives: Any, kind: str) -> Any:
    """Returns a kind's own settings in the recipe's `[negatives]`."""
    return getattr(negatives, kind.replace("-", "_"))
