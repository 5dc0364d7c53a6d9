"""Semantic versions of published data sets and models, and the rule for the next one.

patch: the same rows or weights (card, records, code); minor: other rows, another LLM, new configurations, other
weights; major: what a reader's code would trip over (other columns, a configuration gone, another base or task).
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from msgspec import Struct

from foils.errors import UserError

Level = Literal["patch", "minor", "major"]
LEVELS: tuple[Level, ...] = ("patch", "minor", "major")
AUTO = "auto"


class Version(NamedTuple):
    """A version as tags spell it, `v1.2.3`; compares by its numbers."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"

    def next(self, level: Level) -> "Version":
        """The version one step up.

        >>> str(Version(1, 2, 3).next("minor"))
        'v1.3.0'
        """
        if level == "major":
            return Version(self.major + 1, 0, 0)
        if level == "minor":
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)


FIRST = Version(1, 0, 0)


class Change(Struct, frozen=True):
    """What differs from an earlier version, and how far that moves the number."""

    level: Level
    reasons: tuple[str, ...]


def as_version(name: str) -> Version | None:
    """A tag's name as a version; None for other tags.

    >>> as_version("v1.10.0") > as_version("v1.9.3"), as_version("release")
    (True, None)
    """
    found = re.fullmatch(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", name)
    return Version(*map(int, found.groups())) if found else None


def parse_version(name: str) -> Version:
    """A version that a user wrote.

    Raises:
        UserError: the name is not a version.
    """
    version = as_version(name)
    if version is None:
        raise UserError(f"version {name!r}: wanted vMAJOR.MINOR.PATCH, such as v1.0.0, or {AUTO}")
    return version


def largest(changes: Iterable[Change]) -> Change | None:
    """All reasons under the highest level; None where nothing changed.

    >>> largest([Change("patch", ("a",)), Change("minor", ("b",))])
    Change(level='minor', reasons=('b', 'a'))
    """
    ranked = sorted(changes, key=lambda change: -LEVELS.index(change.level))
    if not ranked:
        return None
    return Change(ranked[0].level, tuple(reason for change in ranked for reason in change.reasons))


def check_step(wanted: Version, latest: Version, change: Change) -> None:
    """Refuses a version that is not above the latest, or that promises less change than there is.

    Raises:
        UserError: names the lowest version that would do.
    """
    lowest = latest.next(change.level)
    if wanted < lowest:
        raise UserError(
            f"version {wanted}: the latest is {latest} and the change is {change.level} ({'; '.join(change.reasons)}); "
            f"wanted {lowest} or above, or {AUTO}"
        )
