"""Rows of the files that people have: JSON lines, JSON, CSV, TSV, Parquet, Arrow, plain or compressed.

`datasets` reads all other forms. Its JSON and CSV readers change values ("2020-01-01" gets a time, ids of mixed types
get quotes, a row with a field too many is shifted) and say nothing of lines.
"""

import codecs
import csv
import io
import json
import lzma
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from foils.errors import UserError

BATCH_ROWS = 1000
FORMS = {
    ".jsonl": "json", ".ndjson": "json", ".jsonlines": "json", ".jl": "json", ".json": "json", ".parquet": "parquet",
    ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
COMPRESSED = {"": None, ".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz", ".lz4": "lz4"}
WANTED = "JSON lines, JSON, CSV, TSV, Parquet or Arrow, plain or compressed (.gz, .bz2, .zst, .xz, .lz4)"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SEPARATORS = ",;\t|"
_STATED = re.compile(r"sep=(.)\r?")  # Excel's first line
_WHOLE = re.compile(rb"\s*(?:\[|\{\s*\n)")
_SHOWN = 200

_Row = tuple[str, int, Sequence[Any]]
"""What is numbered, its number, and the values."""


class Piece(NamedTuple):
    """A part of a file that is read alone.

    Attributes:
        file: of any form.
        start: its first byte in JSON lines, or row group in Parquet; `end` is behind its last, None for the whole file.
        first: the number of its first line or row.
    """

    file: Path
    start: int = 0
    end: int | None = None
    first: int = 1


class Rows(NamedTuple):
    """Some rows of a file, by column.

    Attributes:
        names: the columns that the file has, as far as it is read.
        values: those of each wanted column; None where a row has none.
        numbers: where each row stands in the file.
        where: the file and what is numbered, for errors, such as `corpus c.jsonl: line`.
    """

    names: Sequence[str]
    values: Sequence[Sequence[Any]]
    numbers: Sequence[int]
    where: str

    def place(self, at: int) -> str:
        """Where a row stands, for errors."""
        return f"{self.where} {self.numbers[at]}"


def form_of(file: Path) -> str | None:
    """How a file is read, by its ending; None where `datasets` has to know it."""
    plain = file.with_suffix("") if file.suffix.lower() in COMPRESSED else file
    return FORMS.get(plain.suffix.lower())


def may_be_cut(file: Path) -> bool:
    """Whether a file is of plain JSON lines, which may be cut at line feeds."""
    with file.open("rb") as stream:
        start = stream.read(1 << 10)
    odd = start.startswith((*_UTF_16, codecs.BOM_UTF8)) or _WHOLE.match(start)
    return not odd and FORMS.get(file.suffix.lower()) == "json"


def read(files: Iterable[Path | Piece], columns: Sequence[str], what: str) -> Iterator[Rows]:
    """The rows of files, one after the other, a batch in memory at once.

    Args:
        files: of any form, or pieces of such files.
        columns: those that are wanted; a file need not have them.
        what: what errors call the files, such as `corpus`.

    Raises:
        UserError: a file cannot be read, or is not what its ending says.
    """
    readers = {"json": _json, "csv": _csv, "parquet": _parquet}
    for piece in (each if isinstance(each, Piece) else Piece(each) for each in files):
        with explained(f"{what} {piece.file}"), piece.file.open("rb") as start:
            if start.read(23) == b"version https://git-lfs":
                raise UserError(f"{what} {piece.file}: Git LFS left a pointer in its place; run git lfs pull there")
            for rows in readers.get(form_of(piece.file) or "", _other)(piece, columns, what):
                twice = next((name for name in columns if rows.names.count(name) > 1), None)
                if twice is not None:
                    raise UserError(f"{what} {piece.file}: it has two columns {twice!r}; leave one of them out")
                yield rows


def one_line(what: object) -> str:
    """What an error or a value says, in one line of bounded length."""
    text = " ".join(str(what).split()) or type(what).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@contextmanager
def opened(path: Path, what: str) -> Iterator[io.BufferedReader]:
    """A file's bytes: decompressed, in UTF-8, without a mark of the byte order.

    Raises:
        UserError: the file cannot be read, is cut short, or is not compressed as its ending says.
    """
    packed = COMPRESSED.get(path.suffix.lower())
    unpacked = lzma.open if packed == "xz" else partial(pa.input_stream, compression=packed)
    with explained(f"{what} {path}"), unpacked(path) as raw:
        stream = io.BufferedReader(raw, 1 << 20)
        start = stream.peek(4)
        if start.startswith(_UTF_16):
            utf_8 = pa.lib.transcoding_input_stream(pa.PythonFile(stream, "r"), "utf-16", "utf-8")
            stream = io.BufferedReader(utf_8, 1 << 20)
        elif start.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        yield stream


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns errors of reading into `UserError`; `where` names the file."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file;" if missing else f"cannot be read ({one_line(error)}); repair the file, or"
        raise UserError(f"{where}: {reason} name another") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {one_line(error)}; convert the file to UTF-8") from None


def _json(piece: Piece, columns: Sequence[str], what: str) -> Iterator[Rows]:
    """Of an object a line, of one array of objects, or of objects on several lines, as `jq` prints them."""
    path, names = piece.file, dict[str, None]()

    def rows() -> Iterator[_Row]:
        with opened(path, what) as stream:
            is_whole = piece.end is None and _WHOLE.match(stream.peek(1 << 10))
            unit, lines = ("item", _items(stream, f"{what} {path}")) if is_whole else ("line", _lines(stream, piece))
            for number, line in enumerate(lines, start=piece.first):
                if line.isspace():
                    continue
                try:
                    record = decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    record = None
                if record is None or len(keys(line)) > len(record):  # a key twice, of which decoders keep the last
                    record = _second_look(line, f"{what} {path}: {unit} {number}")
                names.update(dict.fromkeys(record))
                yield unit, number, [record.get(name) for name in columns]

    decode, keys = msgspec.json.Decoder(dict[str, Any]).decode, re.compile(rb'"\s*:').findall
    return _batched(rows(), names, f"{what} {path}")


def _lines(stream: io.BufferedReader, piece: Piece) -> Iterator[bytes]:
    left = math.inf if piece.end is None else piece.end - stream.seek(piece.start)
    while left > 0 and (line := stream.readline()):
        left -= len(line)
        yield line


def _items(stream: io.BufferedReader, where: str) -> list[bytes]:
    whole = stream.read().strip()
    if whole.startswith(b"{"):  # a text has no line feed in it, so such lines are ends and beginnings of objects
        whole = b"[" + re.sub(rb"(?m)^\}\s*^\{", b"},{", whole) + b"]"
    try:
        return [bytes(item) for item in msgspec.json.decode(whole, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, RecursionError) as error:
        raise UserError(
            f"{where}: not JSON ({one_line(error)}); wanted an array, or one object after another"
        ) from None


def _second_look(line: bytes, where: str) -> dict[str, Any]:
    """An object that the fast decoder refuses or might misread; NaN passes."""
    try:
        line = line.strip().removesuffix(b",")  # lines taken out of an array
        record = json.loads(line.decode("utf-8"))
        json.dumps(record, ensure_ascii=False).encode()
        pairs = json.loads(line, object_pairs_hook=list)
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 at byte {error.start}; convert the file to UTF-8") from None
    except UnicodeEncodeError:
        raise UserError(
            f"{where} holds half of a surrogate pair, which is not a character; remove it, or escape both halves"
        ) from None
    except RecursionError:
        raise UserError(f"{where} has lists or objects nested too deeply to be read; leave that field out") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error}; wanted a JSON object a line, or one JSON array") from None
    if not isinstance(record, dict):
        raise UserError(f"{where} is not a JSON object such as {{'_id': ..., 'text': ...}}")
    keys = Counter(key for key, _ in pairs)
    if len(keys) < keys.total():
        raise UserError(f"{where} has the key {keys.most_common(1)[0][0]!r} twice; leave one of them out")
    return record


def _csv(piece: Piece, columns: Sequence[str], what: str) -> Iterator[Rows]:
    """All values are texts as they stand there; the separator is what the header has most of.

    Blanks behind separators belong to the values, unless the header has one behind each.
    """
    where = f"{what} {piece.file}"
    csv.field_size_limit(2**31 - 1)
    with opened(piece.file, what) as stream:
        header = stream.peek(1 << 16).lstrip(b"\r\n").partition(b"\n")[0].decode("utf-8", "replace")
        said = _STATED.fullmatch(header)
        separator = said[1] if said else max(_SEPARATORS, key=header.count)
        spaced = separator != "\t" and 0 < header.count(separator) == header.count(f"{separator} ")
        lines = io.TextIOWrapper(stream, "utf-8", newline="")
        reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=spaced)

        def rows(names: Sequence[str]) -> Iterator[_Row]:
            places = [names.index(name) if name in names else None for name in columns]
            for row in filter(None, reader):
                if len(row) != len(names):
                    raise csv.Error(f"{len(row)} fields where the header has {len(names)}: {one_line(row)}")
                yield "line", reader.line_num, [None if place is None else row[place] for place in places]

        try:
            names = [name.strip() for name in [[], *islice(filter(None, reader), 1 + bool(said))][-1]]
            yield Rows(names, [[] for _ in columns], (), "")  # says which columns there are where there is no row
            yield from _batched(rows(names), names, where)
        except (csv.Error, UnicodeDecodeError) as error:
            if isinstance(error, UnicodeDecodeError):  # it is read ahead of the lines
                raise
            raise UserError(f"{where}: line {reader.line_num or 1}: {error}; repair that line's quotes") from None


def _batched(rows: Iterator[_Row], names: Iterable[str], where: str) -> Iterator[Rows]:
    """Rows that come one by one; `names` may grow with them."""
    while some := list(islice(rows, BATCH_ROWS)):
        units, numbers, values = zip(*some, strict=True)
        yield Rows([*names], [*zip(*values, strict=True)], numbers, f"{where}: {units[0]}")


def _parquet(piece: Piece, columns: Sequence[str], what: str) -> Iterator[Rows]:
    with pq.ParquetFile(piece.file) as file:
        names, groups = file.schema_arrow.names, range(piece.start, piece.end or file.num_row_groups)
        batches = file.iter_batches(BATCH_ROWS, [*groups], [name for name in names if name in columns])
        yield from _of_arrow(batches, names, columns, f"{what} {piece.file}: row", piece.first)


def _other(piece: Piece, columns: Sequence[str], what: str) -> Iterator[Rows]:
    """What `datasets` reads: Arrow, and forms of which it alone knows."""
    path = piece.file
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    if {".zip", ".tar", ".tgz", ".7z"}.intersection(map(str.lower, path.suffixes)):
        raise UserError(f"{what} {path}: an archive; unpack it and name the folder or file")
    try:
        reader = form_of(path) or str(path.absolute().parent)
        loaded = load_dataset(reader, data_files=str(path.absolute()), split="train", streaming=True)
        start = 1
        for table in loaded.with_format("arrow").iter(BATCH_ROWS):
            batches = table.combine_chunks().to_batches()
            yield from _of_arrow(batches, table.column_names, columns, f"{what} {path}: row", start)
            start += table.num_rows
    except (FileNotFoundError, ValueError, ImportError, KeyError, DatasetsError) as error:  # KeyError: a column twice
        reason = "" if isinstance(error, FileNotFoundError) else f" ({one_line(error)})"
        raise UserError(f"{what} {path}: not a form that is read{reason}; wanted {WANTED}") from None


def _of_arrow(
    batches: Iterable[pa.RecordBatch], names: Sequence[str], columns: Sequence[str], where: str, start: int = 1
) -> Iterator[Rows]:
    yield Rows(names, [[] for _ in columns], (), where)  # says which columns there are where there is no row
    for batch in batches:
        size = batch.num_rows
        there = set(batch.schema.names)
        values = [batch[name].to_pylist() if name in there else [None] * size for name in columns]
        yield Rows(names, values, range(start, start + size), where)
        start += size
