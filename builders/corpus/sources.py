"""Reads passages as they are, in batches: JSON lines, Parquet, a Hub data set, Python's own documentation."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Meta, Struct

from builders.corpus import python_docs
from foils.beir import jsonl, text_of
from foils.errors import UserError
from foils.hub import licence_of, load_parquet, pin

MAY_BE_MISSING = "title"  # the recipe's default; another title column was asked for by name
BATCH_ROWS = 4000
BATCH_BYTES = 16_000_000  # of JSON lines; Parquet comes by rows alone


class CorpusConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where passages come from and which of them are kept.

    Attributes:
        source: a BEIR folder, a `.jsonl` or `.parquet` file, a Hub data set id, or `python-docs`.
        revision: the Hub commit or tag; required for a Hub id.
        config: the configuration of a Hub data set that holds the passages.
        split: its split.
        id_column: the column with the passage ids.
        title_column: the column with their titles; the default may be absent.
        text_column: the column with their texts.
        sample: passages that get a query; 0 = all. With `queries.source`, `queries.sample` says how many queries.
        min_chars: passages with a shorter text, or a shorter title and no text, are dropped; so are those with more
            than `max_chars`.
        license: the corpus's licence for the card, as the Hub spells it.
        language: the corpus's, an ISO 639 code with or without a region; chooses stemmer, stop words, prompts and
            checks. Without it, it is detected.
    """

    source: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    id_column: str = "_id"
    title_column: str = "title"
    text_column: str = "text"
    sample: Annotated[int, Meta(ge=0)] = 300
    min_chars: Annotated[int, Meta(ge=1)] = 1
    max_chars: Annotated[int, Meta(ge=1)] = 20_000
    license: str | None = None
    language: str | None = None


class Rows(NamedTuple):
    """Some passages, by column; a title or text that is missing is empty."""

    ids: list[str]
    titles: list[str]
    texts: list[str]


class Source(NamedTuple):
    """An opened source.

    Attributes:
        batches: its passages in their order; read as they are taken.
        revision: the Hub commit or the interpreter's version; None of local files.
        license: what the recipe or the source itself says; None where neither says anything.
    """

    batches: Iterator[Rows]
    revision: str | None
    license: str | None


def open_source(config: CorpusConfig) -> Source:
    """Opens the source that a recipe names.

    Raises:
        UserError: there is no such thing. While it is read: it is malformed, a column is missing, or a row
            has no id.
    """
    if config.source == "python-docs":
        records = ((record, 0) for record in python_docs.passages())
        return Source(_of_records(records, config), python_docs.revision(), config.license or "psf-2.0")
    path = Path(config.source)
    if path.is_dir():
        path = path / "corpus.jsonl"
        if not path.exists():
            raise UserError(f"corpus {config.source}: no corpus.jsonl in it; wanted a folder in BEIR's layout")
    if path.suffix == ".jsonl" and path.exists():
        records = ((line.record, line.size) for line in jsonl(path, "corpus"))
        return Source(_of_records(records, config), None, config.license)
    if path.suffix == ".parquet" and path.exists():
        return Source(_parquet(path, config), None, config.license)
    if path.exists():
        raise UserError(f"corpus {config.source}: not a form that is read; convert the file to .jsonl or .parquet")
    if path.suffix in {".jsonl", ".parquet"} or config.source.count("/") != 1 or config.source.startswith((".", "/")):
        raise UserError(
            f"corpus {config.source}: no such file or folder; wanted a BEIR folder, a .jsonl or .parquet file, "
            "a Hub data set id (owner/name) with its revision, or python-docs"
        )
    return _hub(config)


def _hub(config: CorpusConfig) -> Source:
    if config.revision is None:
        raise UserError(
            f"corpus {config.source}: a Hub data set needs corpus.revision (a commit or tag), so that the build can "
            "be repeated"
        )
    commit = pin(config.source, config.revision, "dataset")
    loaded = load_parquet(config.source, config.config, config.split, commit).with_format("arrow")
    wanted = loaded.select_columns([name for name in loaded.column_names if name in _columns(config)])
    batches = (batch for table in wanted.iter(batch_size=BATCH_ROWS) for batch in table.to_batches())
    licence = config.license or licence_of(config.source, commit)
    return Source(_of_arrow(batches, loaded.column_names, config), commit, licence)


def _parquet(path: Path, config: CorpusConfig) -> Iterator[Rows]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            batches = file.iter_batches(BATCH_ROWS, columns=[name for name in names if name in _columns(config)])
            yield from _of_arrow(batches, names, config)
    except pa.ArrowInvalid as error:
        raise UserError(f"corpus {path}: not a Parquet file: {error}") from None
    except OSError as error:
        raise UserError(f"corpus {path}: cannot be read: {error}; fetch or copy the file again") from None


def _of_arrow(batches: Iterable[pa.RecordBatch], names: Sequence[str], config: CorpusConfig) -> Iterator[Rows]:
    """Batches of rows that come in Arrow; `names` are all columns that the source has."""
    _check_columns(names, config)
    start = 1
    for batch in batches:
        missing = [None] * batch.num_rows
        yield _rows([batch[name].to_pylist() if name in names else missing for name in _columns(config)], start, config)
        start += batch.num_rows


def _of_records(records: Iterable[tuple[dict[str, Any], int]], config: CorpusConfig) -> Iterator[Rows]:
    """Batches of rows that come one by one, each with its size in bytes."""
    names: dict[str, None] = {}
    values: list[list[Any]] = []
    start, filled = 1, 0
    for record, size in records:
        names.update(dict.fromkeys(record))
        values.append([record.get(name) for name in _columns(config)])
        filled += size
        if len(values) == BATCH_ROWS or filled > BATCH_BYTES:
            yield _rows([*zip(*values, strict=True)], start, config)
            start, filled, values = start + len(values), 0, []
    _check_columns([*names], config)
    if values:
        yield _rows([*zip(*values, strict=True)], start, config)


def _columns(config: CorpusConfig) -> tuple[str, str, str]:
    return config.id_column, config.title_column, config.text_column


def _rows(values: Sequence[Sequence[Any]], start: int, config: CorpusConfig) -> Rows:
    """Ids, titles and texts, whatever their types, as text; errors count rows from `start`."""
    ids, titles, texts = (
        [
            value if type(value) is str else text_of(value, f"corpus {config.source}: row {number}: {name!r}") or ""
            for number, value in enumerate(column, start)
        ]
        for name, column in zip(_columns(config), values, strict=True)
    )
    if "" in ids:
        raise UserError(
            f"corpus {config.source}: row {start + ids.index('')} has no column {config.id_column!r}, or nothing in "
            "it; wanted an id for each passage; name the column with corpus.id_column"
        )
    return Rows(ids, titles, texts)


def _check_columns(found: Sequence[str], config: CorpusConfig) -> None:
    """Refuses a source none of whose rows has a column that the recipe names, or which has it twice."""
    for column in _columns(config):
        if found.count(column) > 1:
            raise UserError(f"corpus {config.source}: it has two columns {column!r}; leave one of them out")
        if column not in found and column != MAY_BE_MISSING:
            raise UserError(
                f"corpus {config.source}: no row has a column {column!r} (there are {', '.join(map(repr, found))}); "
                "name yours with corpus.id_column, corpus.title_column and corpus.text_column"
            )
