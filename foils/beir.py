"""Corpora, queries and judgements: read by one rule, whatever wrote them and whoever reads them.

A folder may be BEIR's (`corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`, or the same in any form that `foils.tables`
reads), or a data set of `builders.build`.
"""

import logging
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from foils.errors import UserError
from foils.shards import by_split, files_of
from foils.tables import COMPRESSED, FORMS, Rows, form_of, one_line, opened, read
from foils.words import listed

logger = logging.getLogger(__name__)

COLUMNS = ("_id", "title", "text")
Judgement = tuple[str, str, int]
"""Query, passage and score."""
Qrels = dict[str, dict[str, int]]
_HEADER = (
    ("query-id", "query_id", "queryid", "qid", "topic", "topic_id"),
    ("corpus-id", "corpus_id", "corpusid", "doc-id", "doc_id", "docid", "docno", "document_id", "pid", "passage_id"),
    ("score", "relevance", "rel", "label", "grade"),
)
"""Names that columns of judgements have, BEIR's first."""
_TREC_COLUMNS = 4
_QRELS_ENDINGS = (".tsv", ".txt", ".csv", ".qrels", ".trec", ".jsonl", ".json", ".parquet")
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_MOST_SCORE = 2**31 - 1
_INEXACT = 2**53
"""From here on floats have lost the last digits of whole numbers."""
_SHOWN, _MOST_NAMED = 60, 12


def text_of(value: Any, where: str) -> str | None:
    """A value of a row as text; None where it is missing (null, NaN).

    Bytes are UTF-8, and whole numbers their digits: pandas makes floats of ids where one is missing.

    Args:
        value: of any type.
        where: opens the error, such as `corpus c.jsonl: line 3: 'title'`.

    Raises:
        UserError: the value is of a type that has no text.

    >>> text_of("Bären".encode(), ""), text_of(7.0, ""), text_of(float("nan"), "")
    ('Bären', '7', None)
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{where} is not UTF-8 at byte {error.start}; convert it to UTF-8") from None
    if isinstance(value, float | Decimal):
        if math.isnan(value):
            return None
        value = int(value) if -_INEXACT < value < _INEXACT and value == int(value) else value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    raise UserError(f"{where} is of type {type(value).__name__} ({shown}); wanted text; convert it")


def texts(
    rows: Iterable[Rows], columns: Sequence[str], needed: Collection[str], where: str, remedy: str, ids: bool = True
) -> Iterator[Rows]:
    """Rows whose values are texts, None where one is missing.

    Args:
        rows: of one source.
        columns: what was read of them.
        needed: columns that at least one row must have.
        where: opens errors of columns.
        remedy: ends them.
        ids: whether the first column is the id, which no row may lack.

    Raises:
        UserError: a value has no text, or an id or a column is missing.
    """
    seen: dict[str, None] = {}
    for each in rows:
        seen.update(dict.fromkeys(each.names))
        values = [
            [
                value if type(value) is str else text_of(value, f"{each.place(at)}: {name!r}")
                for at, value in enumerate(column)
            ]
            for name, column in zip(columns, each.values, strict=True)
        ]
        lacking = next((at for at, row_id in enumerate(values[0]) if ids and not row_id), None)
        if lacking is not None:
            raise UserError(
                f"{each.place(lacking)} has no {columns[0]!r}, or nothing in it {_there(each.names)}; {remedy}"
            )
        if values[0]:
            yield each._replace(values=values)
    missing = next((name for name in columns if name in needed and name not in seen), None)
    if missing is not None:
        raise UserError(f"{where}: no row has a column {missing!r} {_there(seen)}; {remedy}")


def _there(names: Iterable[str]) -> str:
    return f"(there are {listed([*map(repr, names)], _MOST_NAMED) or 'none'})"


class Record(NamedTuple):
    """A passage or a query: where it stands, for errors, and its texts, None where one is missing."""

    where: str
    id: str
    title: str | None
    text: str | None

    def stated(self) -> str:
        """The text of a record that may not be without one.

        Raises:
            UserError: it is missing.
        """
        if self.text is None:
            raise UserError(f"{self.where} has no 'text', or null in it; add it, or leave the record out")
        return self.text


def records(files: Sequence[Path], what: str, wanted: Collection[str] | None = None) -> Iterator[Record]:
    """Passages or queries, one by one; those of queries need no titles.

    Args:
        files: of one part.
        what: opens errors.
        wanted: ids; the other records are read past. None = all.

    Raises:
        UserError: as `texts`; also if an id occurs twice.
    """
    ids: set[str] = set()
    found = read(files, COLUMNS, what)
    for rows in texts(found, COLUMNS, {"_id", "text"}, f"{what} {files[0]}", "wanted _id and text"):
        for at, values in enumerate(zip(*rows.values, strict=True)):
            if wanted is not None and values[0] not in wanted:
                continue
            if values[0] in ids:
                raise UserError(f"{rows.place(at)}: id {values[0]!r} occurs twice; ids must be unique")
            ids.add(values[0])
            yield Record(rows.place(at), *values)


def part(folder: Path, name: str, what: str) -> list[Path]:
    """The files of a folder's `corpus` or `queries`.

    Raises:
        UserError: it has none.
    """
    found = find_part(folder, name)
    if not found:
        missing = f"no {name}.jsonl in it" if folder.is_dir() else "no such folder"
        raise UserError(
            f"{what} {folder}: {missing}; wanted a folder in BEIR's layout: corpus.jsonl, queries.jsonl, "
            "qrels/SPLIT.tsv, or other forms of these"
        )
    return found


def find_part(folder: Path, name: str, endings: Iterable[str] = FORMS) -> list[Path]:
    """The files of a part, `NAME.jsonl` or those in a folder `NAME`; none where the folder does not have it."""
    if next((folder / name).rglob("state.json"), None):  # saved by `datasets`
        return files_of(folder / name, None, name, name)
    plain = (folder / f"{name}{ending}{compressed}" for ending in endings for compressed in COMPRESSED)
    first = next((file for file in plain if file.is_file()), None)
    return [first] if first else sorted(file for file in (folder / name).glob("[!.]*") if form_of(file))


def splits(folder: Path) -> list[str]:
    """The splits that a folder's judgements have."""
    return sorted(by_split((folder / "qrels").glob("[!.]*")) or by_split(find_part(folder, "default")))


def qrels_files(folder: Path, split: str, what: str) -> list[Path]:
    """The files with a split's judgements; those in `default` may all be of one split of another name.

    Raises:
        UserError: the folder has none.
    """
    saved = next((name for name in ("qrels", "default") if next((folder / name).rglob("state.json"), None)), None)
    if saved:
        return files_of(folder / saved, None, split, what)
    qrels, default = (by_split(find_part(folder, name)) for name in ("qrels", "default"))
    found = find_part(folder / "qrels", split, _QRELS_ENDINGS) or qrels.get(split) or default.get(split)
    if not found and len(default) == 1 and not (folder / "qrels").exists():
        (other,), (found,) = default, default.values()
        logger.info("%s %s: it has no split %r; its only judgements, %r, are read", what, folder, split, other)
    if not found:
        there = ", ".join(splits(folder)) or "none"
        raise UserError(f"{what} {folder}: no qrels/{split}.tsv in it; splits there: {there}")
    return found


def judgements(path: Path, what: str = "qrels") -> Iterator[Judgement]:
    """Query, passage and score of each judgement in a file.

    The file is BEIR's (separated by tabs, commas or spaces, with or without its header), TREC's (query, iteration,
    passage, score), or of a form with named columns that `foils.tables` reads.

    Raises:
        UserError: the file is missing, or a line is of another form.
    """
    named = form_of(path) not in {None, "csv"}
    for where, values, shown in _named(path, what) if named else _lines(path, what):
        if None in values or not _WHOLE.fullmatch(values[2]):
            raise UserError(
                f"{where}: wanted query-id, corpus-id and a whole score, separated by tabs, under a header with these "
                f"names, or TREC's four columns; found {shown}"
            )
        query_id, passage_id, score = values
        grade = int(score.partition(".")[0])
        if abs(grade) > _MOST_SCORE:
            raise UserError(f"{where}: score {score} is not within 32 bits; wanted a grade such as 0, 1 or 2")
        yield query_id, passage_id, grade


def _named(path: Path, what: str) -> Iterator[tuple[str, list[Any], str]]:
    spelled = [name for names in _HEADER for name in names]
    for rows in read([path], spelled, what):
        for at, row in enumerate(zip(*rows.values, strict=True)):
            there = {name: value for name, value in zip(spelled, row, strict=True) if value is not None}
            *ids, score = [next((there[name] for name in each if name in there), None) for each in _HEADER]
            values = [*(text_of(each, rows.place(at)) for each in ids), None if score is None else str(score)]
            yield rows.place(at), values, f"{values} under {', '.join(rows.names)}"


def _lines(path: Path, what: str) -> Iterator[tuple[str, list[Any], str]]:
    places: list[int] = []
    separator = None
    with opened(path, what) as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{what} {path}: line {number}"
            try:
                text = line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(f"{where} is not UTF-8 at byte {error.start}; convert the file to UTF-8") from None
            if not text.strip():
                continue
            if not places:
                separator = "\t" if "\t" in text else next((mark for mark in ",;" if text.count(mark) > 1), None)
            quote = '"' if separator in {",", ";"} else None
            fields = [field.strip().strip(quote) for field in text.split(separator)]
            if not places:
                places, is_header = _form(fields)
                if is_header:
                    continue
            values = [fields[place] if place < len(fields) else None for place in places]
            yield where, values, one_line(repr(text))


def _form(fields: list[str]) -> tuple[list[int], bool]:
    """Where query, passage and score stand, by a file's first line, and whether that line is a header."""
    names = [field.lower().lstrip("#") for field in fields]
    places = [next((names.index(name) for name in each if name in names), -1) for each in _HEADER]
    if -1 not in places:
        return places, True
    return [0, 2, 3] if len(fields) == _TREC_COLUMNS else [0, 1, 2], False


def by_query(judgements: Iterable[Judgement]) -> Qrels:
    """Judgements by query, those of 0 too."""
    qrels: Qrels = {}
    for query_id, passage_id, score in judgements:
        qrels.setdefault(query_id, {})[passage_id] = max(score, 0)  # BEIR counts those above 0 as relevant
    return qrels


def of_queries(qrels: Qrels, queries: Collection[str], where: str) -> Qrels:
    """Judgements of queries that are there; how many others are judged is reported.

    Raises:
        UserError: no judged query is there.
    """
    stray = [query_id for query_id in qrels if query_id not in queries]
    if stray:
        found = f"{where}: query {stray[0]!r} is judged but is not among the queries"
        if len(stray) == len(qrels):
            raise UserError(f"{found}, nor is any other; wanted queries and judgements of the same collection")
        logger.warning("%s; %d judged queries of this sort are left out", found, len(stray))
    return {query_id: judged for query_id, judged in qrels.items() if query_id in queries}
