"""Losses for an embedding model."""

from typing import Literal

from msgspec import Struct

LossName = Literal["multiple-negatives-ranking"]


class LossOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What a loss can be told beside its name; each loss takes some of it."""
