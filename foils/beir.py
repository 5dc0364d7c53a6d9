"""How records of passages, queries and judgements are read: by one rule, whatever wrote them and whoever reads them."""

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from foils.errors import UserError

_HEADER = ["query-id", "corpus-id", "score"]
_TREC_COLUMNS = 4
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_MOST_SCORE = 2**31 - 1
_INEXACT = 2**53
"""From here on floats have lost the last digits of whole numbers."""
_SHOWN = 60


class Line(NamedTuple):
    """A JSON object of a `.jsonl` file: its line's number, from 1, what it says, and its length in bytes."""

    number: int
    record: dict[str, Any]
    size: int


def text_of(value: Any, where: str) -> str | None:
    """A value of a record as text; None where it is missing (null, NaN).

    Bytes are UTF-8, and whole numbers their digits: pandas makes floats of ids where one is missing.

    Args:
        value: of any type.
        where: opens the error, such as `corpus c.jsonl: row 3: 'title'`.

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
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() and abs(value) < _INEXACT else value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    raise UserError(f"{where} is of type {type(value).__name__} ({shown}); wanted text; convert it")


def stated(record: Mapping[str, Any], column: str, where: str) -> str:
    """A value of a record that may not be missing.

    Raises:
        UserError: it is missing, or not text.
    """
    text = text_of(record.get(column), f"{where}: {column!r}")
    if text is None:
        found = ", ".join(map(repr, record))
        raise UserError(f"{where} has no {column!r}, or null in it (it has {found}); add it, or leave the record out")
    return text


def judgement(record: Mapping[str, Any], where: str) -> tuple[str, str, int]:
    """Query, passage and score of a judgement that is a record.

    Raises:
        UserError: one of them is missing or of another kind.
    """
    query_id, passage_id, score = (stated(record, column, where) for column in _HEADER)
    if not _WHOLE.fullmatch(score):
        raise UserError(f"{where}: 'score' is {score!r}; wanted a whole number")
    return query_id, passage_id, _score(score, where)


def by_query(judgements: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    """Judgements by query, those of 0 too."""
    qrels: dict[str, dict[str, int]] = {}
    for query_id, passage_id, score in judgements:
        qrels.setdefault(query_id, {})[passage_id] = max(score, 0)  # BEIR counts those above 0 as relevant
    return qrels


def jsonl(path: Path, what: str) -> Iterator[Line]:
    """The objects of a `.jsonl` file; blank lines are passed over.

    Args:
        path: the file.
        what: what errors call it, such as `corpus`.

    Raises:
        UserError: the file is missing, or a line is not UTF-8 or not a JSON object.
    """
    decode = msgspec.json.Decoder().decode
    for number, line in _lines(path, what):
        try:
            record = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if not line.strip():
                continue
            record = _second_look(line, f"{what} {path}: line {number}")
        if not isinstance(record, dict):
            raise UserError(f"{what} {path}: line {number} is not a JSON object such as {{'_id': ..., 'text': ...}}")
        if line.count(b'":') > len(record):  # nested objects, or a key twice, of which decoders keep the last value
            keys = Counter(key for key, _ in json.loads(line, object_pairs_hook=list))
            if len(keys) < keys.total():
                twice = keys.most_common(1)[0][0]
                raise UserError(f"{what} {path}: line {number} has the key {twice!r} twice; leave one of them out")
        yield Line(number, record, len(line))


def _lines(path: Path, what: str) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except OSError as error:
        raise UserError(f"{what} {path}: cannot be read ({error.strerror}); name another file") from None


def _second_look(line: bytes, where: str) -> Any:
    """A line that the fast decoder refuses: NaN passes, and what is wrong is said in the usual words."""
    try:
        record = json.loads(line.decode("utf-8"))
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 at byte {error.start}; convert the file to UTF-8") from None
    except UnicodeEncodeError:
        raise UserError(
            f"{where} holds half of a surrogate pair, which is no character; remove it, or escape both halves"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error}") from None
    return record


def judgements(path: Path, what: str = "qrels") -> Iterator[tuple[str, str, int]]:
    """Query, passage and score of each judgement in a file.

    The file is BEIR's (tab-separated, with or without its header) or TREC's (query, iteration, passage, score).

    Args:
        path: the file.
        what: what errors call it.

    Raises:
        UserError: the file is missing, or a line is of another form.
    """
    places: list[int] | None = None
    separator = None
    for number, line in _lines(path, what):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{what} {path}: line {number} is not UTF-8 at byte {error.start}; convert the file to UTF-8"
            ) from None
        if not text.strip():
            continue
        if places is None:
            separator = "\t" if "\t" in text else None
            places, is_header = _form(text.split(separator))
            if is_header:
                continue
        fields = text.split(separator)
        if len(fields) <= max(places) or not _WHOLE.fullmatch(fields[places[2]].strip()):
            raise UserError(
                f"{what} {path}: line {number}: wanted query-id, corpus-id and a whole score, separated by tabs, under "
                f"a header with these names, or TREC's four columns; found {text[:_SHOWN]!r}"
            )
        query_id, passage_id, score = (fields[place].strip() for place in places)
        yield query_id, passage_id, _score(score, f"{what} {path}: line {number}")


def _form(fields: list[str]) -> tuple[list[int], bool]:
    """Where query, passage and score stand, by a file's first line, and whether that line is a header."""
    names = [field.strip().lower().replace("_", "-") for field in fields]
    if set(_HEADER) <= {*names}:
        return [names.index(name) for name in _HEADER], True
    return [0, 2, 3] if len(fields) == _TREC_COLUMNS else [0, 1, 2], False


def _score(text: str, where: str) -> int:
    score = int(text.partition(".")[0])
    if abs(score) > _MOST_SCORE:
        raise UserError(f"{where}: score {text} is not within 32 bits; wanted a grade such as 0, 1 or 2")
    return score
