"""Low-rank adapters (arXiv 2106.09685) in place of training all weights."""

from msgspec import Struct


class LoraConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which weights get an adapter, and of which size."""
