"""A small set of held-out queries that chooses the best checkpoint."""

from msgspec import Struct


class DevConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Queries held out of training."""
