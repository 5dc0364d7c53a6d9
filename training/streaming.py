"""Rows that are read while training goes on, for data that is larger than memory: from the Hub, or from local files.

Files are read by small batches, so what is held is the shuffle buffer, `shuffle_buffer` rows of each source, however
many rows there are. A stream has no end: after its last row a source begins again in another order.

Every process reads all rows and trains on its own: the stream comes in blocks of one batch for each process, all of
one source, and `accelerate` gives each process its batch of every block. Resuming reads again what was trained on and
leaves it out. What is lost against rows in memory: a shuffle over all of them, and batch samplers.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, islice, zip_longest
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetInfo, Features, IterableDataset, Value
from datasets.iterable_dataset import ExamplesIterable
from huggingface_hub import HfFileSystem
from msgspec import Struct
from torch.utils.data import get_worker_info

from foils.errors import UserError
from foils.hub import explained
from foils.kinds import Draw
from training.data import empty_text, not_text
from training.interleaving import in_turn
from training.kinds import drawn
from training.sources import Form

Row = dict[str, str]

READ_ROWS = 1000
READ_BYTES = 2**22
OPEN_FILES = 16
ON_THE_HUB = "hf://"


class Part(Struct, frozen=True):
    """Files that hold rows of one form.

    Attributes:
        name: of the data, for errors.
        files: paths or `hf://` addresses.
        form: of the files.
        columns: names in the files -> `query`, `positive`, `negative_1` ...
    """

    name: str
    files: tuple[str, ...]
    form: Form
    columns: dict[str, str]

    def read(self, order: random.Random | None = None) -> Iterator[Row]:
        """All rows.

        Args:
            order: shuffles the files.

        Raises:
            UserError: a file cannot be read, or a text is missing or empty.
        """
        files = list(self.files)
        if order is not None:
            order.shuffle(files)
        for file in files:
            name = Path(file).name
            with explained(f"dataset {self.name}, {name}"):
                for number, row in enumerate(_read(file, self.form, list(self.columns)), start=1):
                    yield self._texts(row, name, number)

    def _texts(self, row: Mapping[str, Any], file: str, number: int) -> Row:
        texts = {}
        for old, new in self.columns.items():
            text = row.get(old)
            if text is not None and not isinstance(text, str):
                raise UserError(not_text(self.name, old, type(text).__name__))
            if not text or text.isspace():
                raise UserError(empty_text(self.name, f"{file}, row {number}", old))
            texts[new] = text
        return texts


class Streamed(Struct, frozen=True):
    """A source of a stream.

    Attributes:
        name: of the source.
        share: of the rows.
        parts: read side by side; all have the same queries and positives, row by row.
        draws: which parts' negatives a row gets, as places in `parts`; empty for the parts' rows as they are.
    """

    name: str
    share: float
    parts: tuple[Part, ...]
    draws: tuple[tuple[Draw, tuple[int, ...]], ...] = ()

    @property
    def columns(self) -> list[str]:
        """In the trainer's order."""
        if not self.draws:
            return list(self.parts[0].columns.values())
        negatives = sum(len(self.parts[place].columns) - 2 for place in self.draws[0][1])
        return ["query", "positive", *(f"negative_{number}" for number in range(1, negatives + 1))]

    def rows(self, seed: int, order: random.Random) -> Iterator[Row]:
        """All rows once.

        Raises:
            UserError: a file cannot be read, a text is empty, or parts do not share their queries.
        """
        if not self.draws:
            yield from self.parts[0].read(order)
            return
        # Side by side, files must keep their order.
        for rows in zip_longest(*(part.read() for part in self.parts)):
            if None in rows or len({row["query"] for row in rows}) > 1:
                raise UserError(
                    f"dataset {self.name}: its parts do not share their queries row by row; build them together"
                )
            places = self.draws[drawn(rows[0]["query"], [draw for draw, _ in self.draws], seed)][1]
            negatives = [rows[place][column] for place in places for column in rows[place] if "negative" in column]
            texts = {f"negative_{number}": text for number, text in enumerate(negatives, start=1)}
            yield {"query": rows[0]["query"], "positive": rows[0]["positive"], **texts}


class Stream(IterableDataset):
    """All sources' rows without end, in blocks of one source; a row has the columns of its source and no others."""

    def __init__(self, sources: Sequence[Streamed], block: int, buffer: int, seed: int) -> None:
        self._make = partial(_blocks, tuple(sources), block, buffer, seed)
        columns = max((source.columns for source in sources), key=len)
        # One shard: accelerate would deal out several, and processes and sources would no longer keep step.
        super().__init__(
            ExamplesIterable(_keyed, {"make": self._make}),
            DatasetInfo(features=Features(dict.fromkeys(columns, Value("string")))),
        )

    def __iter__(self) -> Iterator[Row]:
        """Yields rows as they are, where `datasets` would fill up columns and check each text again."""
        worker = get_worker_info()
        if worker is None or worker.id == 0:  # others would read the same rows
            yield from self._make()


def shuffled(rows: Iterator[Row], size: int, order: random.Random) -> Iterator[Row]:
    """Rows in an order that is random within a buffer of `size` rows.

    >>> sorted(shuffled(iter("abcdef"), 3, random.Random(1)))
    ['a', 'b', 'c', 'd', 'e', 'f']
    """
    buffer = list(islice(rows, size))
    for row in rows:
        place = order.randrange(size)
        yield buffer[place]
        buffer[place] = row
    order.shuffle(buffer)
    yield from buffer


def count_rows(part: Part) -> int:
    """Rows of all files, from the Parquet files' footers.

    Raises:
        UserError: a file cannot be read.
    """
    with explained(f"dataset {part.name}"), ThreadPoolExecutor(OPEN_FILES) as pool:
        return sum(pool.map(_rows_of_parquet if part.form == "parquet" else _rows_of_lines, part.files))


def columns_of(name: str, files: Sequence[str], form: Form) -> list[str]:
    """The columns of the first file.

    Raises:
        UserError: it cannot be read, or holds no row.
    """
    with explained(f"dataset {name}, {Path(files[0]).name}"), _open(files[0]) as file:
        if form == "parquet":
            return list(pq.read_schema(file).names)
        first = next(_lines(file), None)
    if first is None:
        raise UserError(f"dataset {name}: {Path(files[0]).name} holds no row")
    return list(first)


def _blocks(sources: Sequence[Streamed], block: int, buffer: int, seed: int) -> Iterator[Row]:
    rows = [_endless(source, buffer, seed) for source in sources]
    for source in in_turn([source.share for source in sources]):
        yield from islice(rows[source], block)


def _endless(source: Streamed, buffer: int, seed: int) -> Iterator[Row]:
    for number in count():
        order, empty = random.Random(f"{seed} {number} {source.name}"), True
        for row in shuffled(source.rows(seed, order), buffer, order):
            empty = False
            yield row
        if empty:
            raise UserError(f"dataset {source.name}: holds no row")


def _keyed(make: Callable[[], Iterator[Row]]) -> Iterator[tuple[int, Row]]:
    return enumerate(make())


def _open(file: str) -> IO[bytes]:
    if file.startswith(ON_THE_HUB):
        # No cache: of columns that are read in turn it would throw away most of what it fetched.
        opened: IO[bytes] = HfFileSystem().open(file, "rb", cache_type="none")
        return opened
    return Path(file).open("rb")


def _read(file: str, form: Form, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    with _open(file) as opened:
        if form == "json":
            yield from _lines(opened)
            return
        # `datasets` reads by row groups, and a file may be a single one; this reads by pages.
        try:
            parquet = pq.ParquetFile(opened, pre_buffer=False, buffer_size=READ_BYTES)
            missing = set(columns) - set(parquet.schema_arrow.names)
            if missing:
                raise UserError(
                    f"{Path(file).name}: has no column {', '.join(sorted(missing))!r}, which other files have; mend it"
                )
            for batch in parquet.iter_batches(READ_ROWS, columns=columns):
                yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise UserError(f"{Path(file).name}: is no readable Parquet ({str(error).splitlines()[0]})") from None


def _lines(opened: IO[bytes]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(opened, start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{Path(opened.name).name}: line {number} is no JSON object; each line must hold one row")
        yield row


def _rows_of_parquet(file: str) -> int:
    with _open(file) as opened:
        return int(pq.ParquetFile(opened).metadata.num_rows)


def _rows_of_lines(file: str) -> int:
    with _open(file) as opened:
        return sum(not line.isspace() for line in opened)
