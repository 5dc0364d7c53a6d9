"""Where passages lie: JSON lines, Parquet, a Hub data set, Python's own documentation. Read in batches, as they are."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from builders import python_docs
from cards.errors import UserError
from cards.hub import load_parquet, pin

if TYPE_CHECKING:
    from builders.recipe import CorpusConfig

BATCH_ROWS = 4000
BATCH_BYTES = 16_000_000
"""As far as lines tell; Parquet comes by rows alone."""


class Rows(NamedTuple):
    """Some passages as they were read, by column.

    Attributes:
        ids: never missing; likewise `texts`.
        titles: empty where there is none.
        size: how far reading has come by them, in the source's unit.
    """

    ids: list[str]
    titles: list[str]
    texts: list[str]
    size: int


class Source(NamedTuple):
    """An opened source.

    Attributes:
        batches: its passages in their order; read as they are taken.
        revision: the Hub commit or the interpreter's version; None of local files.
        total: the sum of all batches' sizes, where it is known before; for progress bars.
        unit: what sizes count.
    """

    batches: Iterator[Rows]
    revision: str | None = None
    total: int | None = None
    unit: str = "passages"


class Line(NamedTuple):
    """A JSON object of a `.jsonl` file: its line's number, from 1, what it says, and its length in bytes."""

    number: int
    record: dict[str, Any]
    size: int


def open_source(config: "CorpusConfig") -> Source:
    """Opens the source that a recipe names.

    Raises:
        UserError: there is no such thing. While it is read: it is malformed, or a row lacks an id or a text.
    """
    if config.source == "python-docs":
        rows = ((row, 1) for row in python_docs.passages())
        return Source(_of_records(rows, config), python_docs.revision())
    path = Path(config.source)
    if path.is_dir():
        path = path / "corpus.jsonl"
        if not path.exists():
            raise UserError(f"corpus {config.source}: no corpus.jsonl in it; wanted a folder in BEIR's layout")
    if path.suffix == ".jsonl" and path.exists():
        records = ((line.record, line.size) for line in jsonl(path, "corpus"))
        return Source(_of_records(records, config), total=path.stat().st_size, unit="B")
    if path.suffix == ".parquet" and path.exists():
        return Source(_parquet(path, config))
    if path.suffix in {".jsonl", ".parquet"} or config.source.count("/") != 1 or config.source.startswith((".", "/")):
        raise UserError(
            f"corpus {config.source}: no such file or folder; wanted a BEIR folder, a .jsonl or .parquet file, "
            "a Hub data set id (owner/name) with its revision, or python-docs"
        )
    return _hub(config)


def jsonl(path: Path, what: str) -> Iterator[Line]:
    """The objects of a `.jsonl` file; blank lines are passed over.

    Args:
        path: the file.
        what: what errors call it, such as `corpus`.

    Raises:
        UserError: a line is not UTF-8 or no JSON object.
    """
    decode = msgspec.json.Decoder().decode
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                if not line.strip():
                    continue
                record = _second_look(line, f"{what} {path}: line {number}")
            if not isinstance(record, dict):
                raise UserError(
                    f"{what} {path}: line {number} is not a JSON object such as {{'_id': ..., 'text': ...}}"
                )
            yield Line(number, record, len(line))


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


def _of_records(records: Iterable[tuple[dict[str, Any], int]], config: "CorpusConfig") -> Iterator[Rows]:
    """Batches of rows that come one by one, each with its size."""
    id_column, title_column, text_column = config.id_column, config.title_column, config.text_column
    rows, filled = Rows([], [], [], 0), 0
    for number, (record, size) in enumerate(records, start=1):
        passage_id, text = record.get(id_column), record.get(text_column)
        if passage_id is None or text is None:
            raise _missing(number, id_column if passage_id is None else text_column, list(record), config)
        rows.ids.append(str(passage_id))
        rows.titles.append(str(record.get(title_column) or ""))
        rows.texts.append(str(text))
        filled += size
        if len(rows.ids) == BATCH_ROWS or filled > BATCH_BYTES:
            yield rows._replace(size=filled)
            rows, filled = Rows([], [], [], 0), 0
    if rows.ids:
        yield rows._replace(size=filled)


def _missing(number: int, column: str, found: Sequence[str], config: "CorpusConfig") -> UserError:
    return UserError(
        f"corpus {config.source}: row {number} has no column {column!r} (it has "
        f"{', '.join(map(repr, found))}); name yours with corpus.id_column and corpus.text_column"
    )


def _parquet(path: Path, config: "CorpusConfig") -> Iterator[Rows]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            batches = file.iter_batches(BATCH_ROWS, columns=[name for name in names if name in _columns(config)])
            yield from _of_batches(batches, names, config)
    except pa.ArrowInvalid as error:
        raise UserError(f"corpus {path}: not a Parquet file: {error}") from None
    except OSError as error:
        raise UserError(f"corpus {path}: cannot be read: {error}; fetch or copy the file again") from None


def _hub(config: "CorpusConfig") -> Source:
    if config.revision is None:
        raise UserError(
            f"corpus {config.source}: a Hub data set needs corpus.revision (a commit or tag), so that the build can "
            "be repeated"
        )
    commit = pin(config.source, config.revision, "dataset")
    loaded = load_parquet(config.source, config.config, config.split, commit)
    names = loaded.column_names
    wanted = loaded.select_columns([name for name in names if name in _columns(config)]).with_format("arrow")
    batches = chain.from_iterable(table.to_batches() for table in wanted.iter(batch_size=BATCH_ROWS))
    return Source(_of_batches(batches, names, config), commit, total=len(loaded))


def _columns(config: "CorpusConfig") -> set[str]:
    return {config.id_column, config.title_column, config.text_column}


def _of_batches(batches: Iterable[pa.RecordBatch], names: Sequence[str], config: "CorpusConfig") -> Iterator[Rows]:
    """Batches of rows that come in Arrow; `names` are all columns that the source has."""
    start = 1
    for batch in batches:
        for column in (config.id_column, config.text_column):
            if column not in names:
                raise _missing(start, column, names, config)
            if batch[column].null_count:
                empty = next(islice((at for at, gone in enumerate(batch[column].is_null().to_pylist()) if gone), 1))
                raise _missing(start + empty, column, names, config)
        titles = batch[config.title_column].to_pylist() if config.title_column in names else [""] * batch.num_rows
        yield Rows(
            _strings(batch[config.id_column]),
            [str(title) if title else "" for title in titles],
            _strings(batch[config.text_column]),
            batch.num_rows,
        )
        start += batch.num_rows


def _strings(column: pa.Array) -> list[str]:
    return [value if isinstance(value, str) else str(value) for value in column.to_pylist()]
