"""What the texts of a data set's rows say before training: missing, repeated, or on both sides of a row."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from msgspec import Struct

from foils.texts import normalised
from training.preflight.hashes import Column, Hashes

QUERY, POSITIVE, NEGATIVE = "query", "positive", "negative"
_EXAMPLE = 60
_FIRST = 5
_COMPARED = 20_000
"""Pairs of texts with equal hashes that are compared letter by letter; where there are more, all is wrong anyway."""


class Texts(Struct, frozen=True):
    """Of one data set.

    Attributes:
        rows: how many were looked at.
        blank: column -> the first rows whose text is missing or only white space.
        blanks: all texts of that sort.
        positive_as_negative: the first rows with a negative that is their positive, case and white space folded.
        positives_as_negatives: all rows of that sort, up to 20,000 a column.
        repeated_queries: rows whose query an earlier row has, case and white space folded.
        negatives: distinct ones.
        most_used: rows that have the negative that most rows have.
        most_used_text: its beginning.
        shared: rows with a negative that another row has too.
    """

    rows: int
    blank: dict[str, list[int]] = {}
    blanks: int = 0
    positive_as_negative: list[int] = []
    positives_as_negatives: int = 0
    repeated_queries: int = 0
    negatives: int = 0
    most_used: int = 0
    most_used_text: str = ""
    shared: int = 0


def examined(rows: Dataset, columns: dict[str, Column]) -> Texts:
    """Looks through the texts.

    Args:
        rows: the data set, to look at the few texts whose hashes are equal.
        columns: the hashes of its columns, see `hashes.hashed`.
    """
    negatives = [name for name in columns if name.startswith(NEGATIVE)]
    blank = {name: np.flatnonzero(column.blank) for name, column in columns.items() if column.blank.any()}
    same = _same_as_positive(rows, columns, negatives)
    used, most, shared = _uses([columns[name].exact for name in negatives])
    return Texts(
        rows=len(rows),
        blank={name: [int(row) for row in places[:_FIRST]] for name, places in blank.items()},
        blanks=sum(map(len, blank.values())),
        positive_as_negative=same[:_FIRST],
        positives_as_negatives=len(same),
        repeated_queries=_repeated(rows, QUERY, columns[QUERY]) if QUERY in columns else 0,
        negatives=used,
        most_used=len(most),
        most_used_text=_text_of(rows, columns, negatives, int(most[0])) if len(most) else "",
        shared=shared,
    )


def shortened(text: str, length: int = _EXAMPLE) -> str:
    """The beginning of a text, on one line.

    >>> shortened("one two  three", 8)
    'one two…'
    """
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def taken(rows: Dataset, name: str, places: npt.NDArray[np.int64]) -> list[str]:
    """Some texts of a column; what is missing is empty."""
    if not len(places):
        return []
    column = rows.select_columns([name]).with_format("arrow").select(places)[:][name]
    return [text or "" for text in column.to_pylist()]


def _same_as_positive(rows: Dataset, columns: dict[str, Column], negatives: Sequence[str]) -> list[int]:
    """Rows with a negative that is their positive; blank texts are another problem."""
    found: set[int] = set()
    for name in negatives if POSITIVE in columns else []:
        alike = columns[name].folded == columns[POSITIVE].folded
        places = np.flatnonzero(alike & ~columns[POSITIVE].blank & ~columns[name].blank)[:_COMPARED]
        pairs = zip(places, taken(rows, POSITIVE, places), taken(rows, name, places), strict=True)
        found.update(int(place) for place, one, other in pairs if normalised(one) == normalised(other))
    return sorted(found)


def _repeated(rows: Dataset, name: str, column: Column) -> int:
    """Rows whose text an earlier row has."""
    _, group, sizes = np.unique(column.folded, return_inverse=True, return_counts=True)
    places = np.flatnonzero((sizes[group] > 1) & ~column.blank)
    if not len(places):
        return 0
    return len(places) - len({normalised(text) for text in taken(rows, name, places)})


def _uses(negatives: Sequence[Hashes]) -> tuple[int, npt.NDArray[np.int64], int]:
    """Distinct negatives, the rows that have the one with most rows, and how many rows have one that others have."""
    if not negatives or not len(negatives[0]):
        return 0, np.empty(0, np.int64), 0
    # A row counts once for a negative, even if it has it twice.
    table = np.sort(np.stack(negatives, axis=1), axis=1)
    first = np.ones(table.shape, np.bool_)
    first[:, 1:] = table[:, 1:] != table[:, :-1]
    texts, row_counts = np.unique(table[first], return_counts=True)
    often = texts[row_counts > 1]
    shared = np.zeros(len(table), np.bool_)
    if len(often):
        places = np.minimum(np.searchsorted(often, table), len(often) - 1)
        shared = (often[places] == table).any(axis=1)
    most = np.flatnonzero((table == texts[np.argmax(row_counts)]).any(axis=1))
    return len(texts), most, int(shared.sum())


def _text_of(rows: Dataset, columns: dict[str, Column], negatives: Sequence[str], row: int) -> str:
    """The negative of a row that most rows have: the one of its negatives with the most uses."""
    name = max(
        negatives, key=lambda each: sum(int((columns[n].exact == columns[each].exact[row]).sum()) for n in negatives)
    )
    return shortened(rows[row][name] or "")
