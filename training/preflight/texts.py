"""The texts of a data set's rows: missing ones, repeated ones, and those on both sides of a row."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from msgspec import Struct
from sentence_transformers.base.data_collator import DEFAULT_LABEL_COLUMNS

from foils.texts import normalised
from foils.words import shortened
from training.rows.hold_out import Keys, key_of, text_keys

_FIRST = 5
_LEFT_OUT = bytes(range(0x21)) + b"\x7f.,;:!?"
"""What `normalised` may take out of a text in ASCII."""
_MOST = 2**64 - 1


class Texts(Struct, frozen=True):
    """The texts of one data set. Two texts are the same once they are normalised, see `foils.texts`.

    Attributes:
        rows: number of rows.
        blank: column -> the first rows whose text is missing or blank.
        blanks: number of missing or blank texts.
        positive_as_negative: the first rows with a negative that is their positive.
        positives_as_negatives: number of such rows.
        repeated_queries: rows whose query an earlier row has.
        negatives: number of distinct negatives.
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


def examined(rows: Dataset) -> Texts:
    """Compares the texts of all rows by 64-bit hashes; among a million texts one errs with a probability of 1e-7."""
    keys = _keys(rows)
    negatives = [name for name in keys if name.startswith("negative")]
    missing = key_of("")
    blank = {name: np.flatnonzero(column == missing) for name, column in keys.items() if (column == missing).any()}
    positives = keys.get("positive", np.empty(0, np.uint64))
    same = np.zeros(len(rows), np.bool_)
    for name in negatives if len(positives) else []:
        same |= (keys[name] == positives) & (positives != missing)
    used, most, shared = _uses([keys[name] for name in negatives])
    queries = keys.get("query", np.empty(0, np.uint64))
    queries = queries[queries != missing]
    return Texts(
        rows=len(rows),
        blank={name: [int(row) for row in places[:_FIRST]] for name, places in blank.items()},
        blanks=sum(map(len, blank.values())),
        positive_as_negative=[int(row) for row in np.flatnonzero(same)[:_FIRST]],
        positives_as_negatives=int(same.sum()),
        repeated_queries=len(queries) - len(np.unique(queries)),
        negatives=used,
        most_used=len(most),
        most_used_text=_text_of(rows, keys, negatives, int(most[0])) if len(most) else "",
        shared=shared,
    )


def text_columns(rows: Dataset) -> list[str]:
    """The columns that go into the model."""
    return [name for name in rows.column_names if name not in DEFAULT_LABEL_COLUMNS]


def _keys(rows: Dataset) -> dict[str, Keys]:
    """Column -> numbers that are equal for texts that are the same, and only for them.

    Normalising each text of a million rows would take minutes. Texts are first compared in a rough form, which is equal
    wherever the normalised one is. Those that are equal there but not letter by letter are normalised.
    """
    rough = {name: text_keys(rows, name, _rough_key) for name in text_columns(rows)}
    if not rough:
        return {}
    exact = np.concatenate([text_keys(rows, name, _exact_key) for name in rough])
    together = np.concatenate([*rough.values()])
    order = np.lexsort((exact, together))
    together, exact = together[order], exact[order]
    unclear = together[1:][(together[1:] == together[:-1]) & (exact[1:] != exact[:-1])]
    unclear = np.append(unclear, np.uint64(_rough_key("")))
    for name, column in rough.items():
        places = np.flatnonzero(np.isin(column, unclear))
        column[places] = text_keys(rows.select(places), name)
    return rough


def _exact_key(text: str | None) -> int:
    return hash(text or "") & _MOST


def _rough_key(text: str | None) -> int:
    text = text or ""
    letters = (text if text.isascii() else normalised(text)).encode().lower().translate(None, _LEFT_OUT)
    return hash(letters) & _MOST


def _uses(negatives: Sequence[Keys]) -> tuple[int, npt.NDArray[np.int64], int]:
    """The number of distinct negatives, the rows that have the most used one, and how many rows share one."""
    if not negatives or not len(negatives[0]):
        return 0, np.empty(0, np.int64), 0
    # A row counts once for a negative, even if it has it twice.
    table = np.sort(np.stack(negatives, axis=1), axis=1)
    first = np.ones(table.shape, np.bool_)
    first[:, 1:] = table[:, 1:] != table[:, :-1]
    texts, row_counts = np.unique(table[first], return_counts=True)
    shared = np.isin(table, texts[row_counts > 1]).any(axis=1)
    most = np.flatnonzero((table == texts[np.argmax(row_counts)]).any(axis=1))
    return len(texts), most, int(shared.sum())


def _text_of(rows: Dataset, keys: dict[str, Keys], negatives: Sequence[str], row: int) -> str:
    """The negative of a row with the most uses."""
    name = max(negatives, key=lambda each: sum(int((keys[n] == keys[each][row]).sum()) for n in negatives))
    return shortened(rows[row][name] or "")
