"""A sample to a person and back: a CSV for any spreadsheet, and the filled file read again.

The person sees query, positive and passage, and not which kind of negative it is. Spreadsheets reorder rows, drop some,
and rewrite values; what cannot be mistaken is accepted, and the rest is refused with its line.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from builders.audit.judges import Judge
from builders.audit.pairs import distinct, ids, own_positives, shuffled
from builders.dataset.read import DataSet
from foils.errors import UserError
from foils.provenance import sha256_file

COLUMNS = ("pair", "query", "positive", "passage", "relevant")
CELL_CHARS = 32_000
"""Spreadsheets cut a cell at 32,767 characters."""
ANSWERS = {"yes": 1.0, "y": 1.0, "true": 1.0, "1": 1.0, "no": 0.0, "n": 0.0, "false": 0.0, "0": 0.0, "": np.nan}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def pair_id(query_id: str, passage_id: str) -> str:
    """What a pair is called in an export: stable, silent about its kind, and not a number for any spreadsheet.

    >>> pair_id("q1", "d7")
    'pf07e5cf3c8935147'
    """
    return "p" + hashlib.blake2b(json.dumps([query_id, passage_id]).encode(), digest_size=8).hexdigest()


def export(dataset: DataSet, pairs: pa.Table, file: Path, seed: int) -> None:
    """Writes pairs for a person, in a random order that does not show their kinds.

    Args:
        dataset: for the texts; a query without a known positive gets an empty one.
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
    own = own_positives(dataset.positives(pairs["query-id"]))
    asked, passages = dataset.queries(pairs["query-id"]), dataset.passages(distinct([pairs, own])["corpus-id"])
    queries = dict(zip(asked["_id"].to_pylist(), asked["text"].to_pylist(), strict=True))
    shown = (text for batch in passages.batches() for text in batch.to_pylist())
    texts = dict(zip(passages.ids.to_pylist(), shown, strict=True))
    positives = {query: texts[passage] for query, passage in ids(own)}
    try:
        with file.open("w", encoding="utf-8-sig", newline="") as lines:  # without the mark, Excel takes it for Latin-1
            writer = csv.writer(lines)
            writer.writerow(COLUMNS)
            for query, passage in ids(shuffled(pairs, "export", seed)):
                cells = map(_cell, (queries[query], positives.get(query, ""), texts[passage]))
                writer.writerow([pair_id(query, passage), *cells, ""])
    except OSError as error:
        raise UserError(f"--export {file}: cannot be written ({error.strerror}); name another file") from None


def person(file: Path, pairs: pa.Table) -> Judge:
    """The person who filled in an export, as a judge.

    Args:
        file: the export, filled in; its rows and columns may be reordered, and left out where they hold no answer.
        pairs: `PAIRS` that were exported.

    Raises:
        UserError: the file cannot be read, lacks a column, or has a row of an unknown pair, two of the same pair, or
            one with an answer that is neither yes nor no; the line is named.
    """
    known = {pair_id(*pair): pair for pair in ids(pairs)}
    lines: dict[str, int] = {}
    verdicts: dict[tuple[str, str], float] = {}
    for line, pair, answer in _filled(file):
        where = f"--import {file}: line {line}"
        if pair not in known:
            raise UserError(
                f"{where}: pair {pair!r} is not in this sample; wanted a file that was exported from this data set "
                "with the same --sample and --seed"
            )
        if pair in lines:
            raise UserError(f"{where}: pair {pair!r} stands on line {lines[pair]} already; keep one of the two")
        if answer.casefold() not in ANSWERS:
            allowed = "yes, no, 1, 0, TRUE or FALSE, or nothing for no verdict"
            raise UserError(f"{where}: relevant is {answer!r}; wanted {allowed}")
        lines[pair] = line
        verdicts[known[pair]] = ANSWERS[answer.casefold()]

    source = {file.name: f"sha256:{sha256_file(file)}"}
    return Judge(
        "person",
        source,
        "the person says so",
        lambda asked: np.array([verdicts.get(pair, np.nan) for pair in ids(asked)], np.float64),
    )


def _cell(text: str) -> str:
    """A text as a spreadsheet shows it: not cut by it, and never run as a formula.

    >>> _cell("=1+1"), _cell("1+1")
    ("'=1+1", '1+1')
    """
    return ("'" + text if text.startswith(_FORMULA) else text)[:CELL_CHARS]


def _filled(file: Path) -> Iterator[tuple[int, str, str]]:
    """Line, pair and answer of a CSV's rows; ids and answers are ASCII, so another encoding of texts does no harm."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"--import {file}: cannot be read ({error.strerror}); wanted a filled export") from None
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # as a spreadsheet saves "Unicode text"
    text = content.decode("utf-16" if is_wide else "utf-8-sig", "replace")
    delimiter = max(",;\t", key=text.lstrip().partition("\n")[0].count)  # some countries' spreadsheets write semicolons
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [name.strip().casefold() for name in next(filter(any, reader), [])]
        for column in ("pair", "relevant"):
            if header.count(column) != 1:
                found = ", ".join(filter(None, header)) or "nothing"
                raise UserError(
                    f"--import {file}: line {max(reader.line_num, 1)} has no column {column!r}, or two; it has "
                    f"{found}; save the filled export as CSV in UTF-8"
                )
        begins = reader.line_num + 1
        for row in reader:
            cells = dict(zip(header, row, strict=False))  # a row may be short, or empty
            pair, answer = cells.get("pair", "").strip(), cells.get("relevant", "").strip()
            if pair or answer:
                yield begins, pair, answer
            begins = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"--import {file}: line {reader.line_num} is not CSV: {error}") from None
