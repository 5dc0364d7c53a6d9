"""The texts of a data set's rows: repeated ones, and those on both sides of a row."""

from collections.abc import Mapping

import numpy as np
from datasets import Dataset
from msgspec import Struct
from msgspec.structs import replace
from sentence_transformers.base.data_collator import DEFAULT_LABEL_COLUMNS

from foils.words import shortened
from training.preflight.report import Problem, Report
from training.rows.hold_out import key_of, text_keys

REUSED, REUSED_WARNED, FEWEST = 0.05, 0.01, 20
"""Shares of rows with the same negative: refused above, warned of above, from `FEWEST` rows on."""
FEWER_USES = "build with fewer uses of a negative (the selection rule max_uses)"
_FIRST = 5


class Texts(Struct, frozen=True):
    """The texts of one data set. Two texts are the same once they are normalised, see `foils.texts`.

    Attributes:
        rows: number of rows.
        positive_as_negative: the first rows with a negative that is their positive.
        positives_as_negatives: number of such rows.
        repeated_queries: rows whose query an earlier row has.
        negatives: number of distinct negatives.
        most_used: rows that have the negative that most rows have.
        most_used_text: its beginning.
        shared: rows with a negative that another row has too.
    """

    rows: int
    positive_as_negative: list[int]
    positives_as_negatives: int
    repeated_queries: int
    negatives: int = 0
    most_used: int = 0
    most_used_text: str = ""
    shared: int = 0


def examined(rows: Dataset) -> Texts:
    """Compares the texts of all rows by 64-bit hashes; among a million texts one errs with a probability of 1e-7."""
    keys, blank = {name: text_keys(rows, name) for name in text_columns(rows)}, key_of("")
    negatives = [name for name in keys if name.startswith("negative")]
    same = np.zeros(len(rows), np.bool_)
    for name in negatives:
        same |= (keys[name] == keys["positive"]) & (keys[name] != blank)
    queries = keys.get("query", np.empty(0, np.uint64))
    queries = queries[queries != blank]
    repeated = len(queries) - len(np.unique(queries))
    found = Texts(len(rows), np.flatnonzero(same)[:_FIRST].tolist(), int(same.sum()), repeated)
    if not negatives or not len(rows):
        return found
    # A row counts once for a negative, even if it has it twice.
    table = np.stack([keys[name] for name in negatives], axis=1)
    table.sort(axis=1)
    first = np.ones(table.shape, np.bool_)
    first[:, 1:] = table[:, 1:] != table[:, :-1]
    texts, row_counts = np.unique(table[first], return_counts=True)
    most = texts[np.argmax(row_counts)]
    column = next(name for name in negatives if (keys[name] == most).any())
    return replace(
        found,
        negatives=len(texts),
        most_used=int(row_counts.max()),
        most_used_text=shortened(rows[int(np.argmax(keys[column] == most))][column]),
        shared=int(np.isin(table, texts[row_counts > 1]).any(axis=1).sum()),
    )


def text_columns(rows: Dataset) -> list[str]:
    """The columns that go into the model."""
    return [name for name in rows.column_names if name not in DEFAULT_LABEL_COLUMNS]


def check(report: Report, tables: Mapping[str, Texts]) -> None:
    """Checks positives among the negatives, and negatives that many rows have; `tables` are by data set."""
    report.figures["texts"] = tables
    for name, found in tables.items():
        where, share = f"data set {name}: " if len(tables) > 1 else "", found.most_used / max(found.rows, 1)
        line = f"{where}{found.repeated_queries:,} repeated queries"
        if found.negatives:
            line += f"; {found.negatives:,} distinct negatives, the most used in {found.most_used:,} rows"
            line += f"; {found.shared / found.rows:.1%} of rows share one"
        report.lines.append(("texts", line))
        if found.positives_as_negatives:
            places = ", ".join(map(str, found.positive_as_negative))
            places += ", ..." if found.positives_as_negatives > len(found.positive_as_negative) else ""
            count = f"{where}{found.positives_as_negatives:,} rows have their positive as a negative"
            what = f"{count}, case and white space aside (rows {places})"
            remedy = "drop these rows (counted from 0), or build the data set again"
            report.problems.append(Problem("positive-as-negative", what, "none", remedy))
        if found.most_used >= FEWEST and share > REUSED_WARNED:
            reused = f"{where}one negative stands in {found.most_used:,} of {found.rows:,} rows ({share:.1%}): "
            reused += repr(found.most_used_text)
            if share > REUSED:
                report.problems.append(Problem("reused-negatives", reused, f"up to {REUSED:.0%}", FEWER_USES))
            else:
                report.warnings.append(reused)
