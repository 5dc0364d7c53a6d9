"""A sample to a person and back: a CSV for any spreadsheet, and the filled file read again.

The person sees query, positive and passage, and not which kind of negative it is. Spreadsheets reorder rows, drop some,
and rewrite values; what cannot be mistaken is accepted, and the rest is refused with its line.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from builders import schema
from builders.audit.judges import own_positives
from builders.audit.pairs import shuffled
from builders.dataset.read import PAIRS, DataSet
from builders.passages import Passages
from foils.errors import UserError

COLUMNS = ("pair", "query", "positive", "passage", "relevant")
CELL_CHARS = 32_000
"""Spreadsheets cut a cell at 32,767 characters."""
YES, NO = frozenset({"yes", "y", "true", "1"}), frozenset({"no", "n", "false", "0"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Filled(NamedTuple):
    """A row that a person has filled in: where it stands, its pair's id, and what stands in `relevant`."""

    line: int
    pair: str
    answer: str


def pair_id(query_id: str, passage_id: str) -> str:
    """What a pair is called in an export: stable, silent about its kind, and no number for any spreadsheet.

    >>> pair_id("q1", "d7")
    'pf07e5cf3c8935147'
    """
    return "p" + hashlib.blake2b(json.dumps([query_id, passage_id]).encode(), digest_size=8).hexdigest()


def export(dataset: DataSet, pairs: pa.Table, file: Path, seed: int) -> None:
    """Writes pairs for a person, in a random order that does not show their kinds.

    Args:
        dataset: for the texts.
        pairs: `PAIRS`, each once.
        file: the `.csv` to write.
        seed: of the order.

    Raises:
        UserError: another ending, a file that is there already, or one that cannot be written.
    """
    if file.suffix != ".csv":
        raise UserError(f"--export {file}: wanted a name that ends in .csv")
    if file.exists():
        raise UserError(f"--export {file}: is there already, maybe with answers in it; name another file")
    rows = _rows(dataset, shuffled(pairs, "export", seed))
    try:
        with file.open("w", encoding="utf-8-sig", newline="") as lines:  # without the mark, Excel takes it for Latin-1
            writer = csv.writer(lines)
            writer.writerow(COLUMNS)
            writer.writerows([pair, *map(_cell, texts), ""] for pair, *texts in rows)
    except OSError as error:
        raise UserError(f"--export {file}: cannot be written ({error.strerror}); name another file") from None


def import_verdicts(file: Path, pairs: pa.Table) -> pa.Table:
    """Reads a filled export: `schema.SCORES` with 1 (relevant) or 0 (not), for those of `pairs` that have an answer.

    Args:
        file: the export, filled in; its rows and columns may be reordered, and left out where they hold no answer.
        pairs: `PAIRS` that were exported.

    Raises:
        UserError: the file cannot be read, lacks a column, or has a row of an unknown pair, two of the same pair, or
            one with an answer that is neither yes nor no; the line is named.
    """
    ids = pairs["query-id"].to_pylist(), pairs["corpus-id"].to_pylist()
    known = {pair_id(query_id, passage_id): (query_id, passage_id) for query_id, passage_id in zip(*ids, strict=True)}
    lines: dict[str, int] = {}
    verdicts: dict[str, bool] = {}
    for line, pair, answer in _filled(file):
        where = f"--import {file}: line {line}"
        if pair not in known:
            raise UserError(
                f"{where}: pair {pair!r} is not in this sample; wanted a file that was exported from this data set "
                "with the same --sample and --seed"
            )
        if pair in lines:
            raise UserError(f"{where}: pair {pair!r} stands on line {lines[pair]} already; keep one of the two")
        lines[pair] = line
        if answer:
            verdicts[pair] = _verdict(answer, where)
    return verdict_scores({known[pair]: relevant for pair, relevant in verdicts.items()})


def verdict_scores(verdicts: Mapping[tuple[str, str], bool]) -> pa.Table:
    """Verdicts by query and passage id as `schema.SCORES`: 1 for relevant, 0 for not, in the order of ids.

    As configuration `scores-person` they let selection drop or relabel what a person found relevant.

    >>> verdict_scores({("q", "b"): False, ("q", "a"): True})["score"].to_pylist()
    [1.0, 0.0]
    """
    rows = sorted(verdicts)
    columns = [query for query, _ in rows], [passage for _, passage in rows], [float(verdicts[row]) for row in rows]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema.SCORES, strict=True)]
    return pa.table(arrays, schema=schema.SCORES)


def _rows(dataset: DataSet, pairs: pa.Table) -> Iterator[tuple[str, str, str, str]]:
    """Pair id, query, positive, passage; a query without a known positive has an empty one."""
    own = own_positives(dataset.positives(pairs["query-id"]))
    positive_of = dict(zip(own["query-id"].to_pylist(), own["corpus-id"].to_pylist(), strict=True))
    passages = dataset.passages(pa.chunked_array([*pairs["corpus-id"].chunks, *own["corpus-id"].chunks], pa.string()))
    texts = dict(zip(passages.ids.to_pylist(), _every(passages), strict=True))
    asked = dataset.queries(pairs["query-id"])
    queries = dict(zip(asked["_id"].to_pylist(), asked["text"].to_pylist(), strict=True))
    for row in pairs.to_pylist():
        query_id, passage_id = (row[name] for name in PAIRS.names)
        positive = texts.get(positive_of.get(query_id, ""), "")
        yield pair_id(query_id, passage_id), queries[query_id], positive, texts[passage_id]


def _every(passages: Passages) -> list[str]:
    return [text for batch in passages.batches() for text in batch.to_pylist()]


def _cell(text: str) -> str:
    """A text as a spreadsheet shows it: not cut by it, and never run as a formula.

    >>> _cell("=1+1"), _cell("1+1")
    ("'=1+1", '1+1')
    """
    return ("'" + text if text.startswith(_FORMULA) else text)[:CELL_CHARS]


def _verdict(answer: str, where: str) -> bool:
    folded = answer.casefold()
    if folded in YES | NO:
        return folded in YES
    raise UserError(f"{where}: relevant is {answer!r}; wanted yes, no, 1, 0, TRUE or FALSE, or nothing for no verdict")


def _filled(file: Path) -> Iterator[Filled]:
    """A CSV's rows, with commas or semicolons; ids and answers are ASCII, so another encoding of texts does no harm."""
    try:
        text = file.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        raise UserError(f"--import {file}: cannot be read ({error.strerror}); wanted a filled export") from None
    delimiter = max(",;", key=text.partition("\n")[0].count)  # some countries' spreadsheets write semicolons
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [name.strip().casefold() for name in next(reader, [])]
    for column in ("pair", "relevant"):
        if header.count(column) != 1:
            found = ", ".join(filter(None, header)) or "nothing"
            raise UserError(
                f"--import {file}: line 1 has no column {column!r}, or two; it has {found}; save the filled export as "
                "CSV in UTF-8"
            )
    pair, relevant = header.index("pair"), header.index("relevant")
    begins = reader.line_num + 1
    try:
        for row in reader:
            cells = [*(cell.strip() for cell in row), *[""] * len(header)]  # empty cells at the end may be left out
            if any(cells):
                yield Filled(begins, cells[pair], cells[relevant])
            begins = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"--import {file}: line {begins} is not CSV: {error}") from None
