"""Links of a lineage: what each was found to be, and the table that says so."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import httpx2
import pyarrow as pa
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from msgspec import Struct

from foils import words
from foils.errors import UserError, scrub

_NOT_THERE = (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError)
_OUT_OF_REACH = (OfflineModeIsEnabled, HfHubHTTPError, httpx2.TransportError, ConnectionError)

Status = Literal["verified", "unverifiable", "broken"]


class Link(Struct, frozen=True):
    """One step from a figure to its source.

    Attributes:
        status: `verified`: computed or looked up again and found the same; `unverifiable`: nothing here can tell;
            `broken`: not there, or other than it says.
        name: what was looked at.
        detail: what was found.
    """

    status: Status
    name: str
    detail: str


class UnverifiableError(Exception):
    """Nothing within reach can confirm or refute the link; the text says why."""


class BrokenError(Exception):
    """The link leads nowhere, or to something else than it says."""


_FOUND_OTHERWISE = (UnverifiableError, BrokenError, UserError, HFValidationError, OSError, pa.ArrowException)


def require(holds: object, otherwise: str) -> None:
    """Confirms what a link states.

    Raises:
        BrokenError: it does not hold; the text is `otherwise`.
    """
    if not holds:
        raise BrokenError(otherwise)


def examine(name: str, look: Callable[[], str]) -> Link:
    """Looks at one link.

    Args:
        name: of the link.
        look: returns what it confirmed, or raises. Records are files that anyone may have written: one that does not
            decode, or a file that cannot be read, makes the link broken. Any other exception is a mistake of this code
            and passes through.
    """
    try:
        return Link("verified", name, look())
    except (*_OUT_OF_REACH, *_FOUND_OTHERWISE) as error:
        said = error.__context__ if isinstance(error, UserError) and error.__context__ else error  # by the Hub's client
        if isinstance(said, GatedRepoError):
            return Link("unverifiable", name, "gated: your token may not read it")
        if isinstance(error, _NOT_THERE):
            return Link("broken", name, "not on the Hub, or hidden from your token")
        if isinstance(said, _NOT_THERE):
            return Link("broken", name, _line(error))
        if isinstance(said, _OUT_OF_REACH):
            return Link("unverifiable", name, f"the Hub did not answer: {_line(said)}")
        return Link("unverifiable" if isinstance(error, UnverifiableError) else "broken", name, _line(error))


def table(links: Sequence[Link]) -> str:
    """The links as aligned text, with their count by status."""
    lines = words.table([(link.status, link.name, link.detail) for link in links], left=(0, 1, 2))
    counts = Counter(link.status for link in links)
    counted = ", ".join(f"{counts[status]} {status}" for status in ("verified", "unverifiable", "broken"))
    return "\n".join([*lines, "", counted])


def _line(error: Exception) -> str:
    return scrub((str(error).strip() or type(error).__name__).splitlines()[0])
