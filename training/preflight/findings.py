"""What pre-flight objects to: problems, which stop a training, and warnings, which do not."""

from typing import Literal

from msgspec import Struct

Judgement = Literal[
    "batch-size",
    "memory",
    "positive-as-negative",
    "reused-negatives",
    "slow-sampler",
    "unused-rows",
]
"""Problems that a recipe may let through with `allow`; all others cannot be trained with, or never pay."""


class Problem(Struct, frozen=True):
    """Something that would waste the time of a training.

    Attributes:
        key: stable, such as `no-batches`; `allow` in a recipe takes those of `Judgement`.
        found: the value.
        allowed: what would be in its place.
        remedy: what to do.
    """

    key: str
    found: str
    allowed: str
    remedy: str

    @property
    def line(self) -> str:
        """All of it on one line."""
        return " ".join(f"{self.found}; allowed: {self.allowed}; {self.remedy}".split())


class Notice(Struct, frozen=True):
    """Something to know before a night is spent.

    Attributes:
        key: stable, such as `missing-prompts`.
        line: what it is and what to do.
    """

    key: str
    line: str
