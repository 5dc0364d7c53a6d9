"""Rows that are read while training goes on, for data that is larger than memory: from the Hub, or from local files.

`datasets` reads the files piece by piece, so what is held is the shuffle buffer, `shuffle_buffer` rows of each source,
and one piece of a file: a Parquet file that is a single row group may need more. A stream has no end: after its last
row a source begins again in another order.

Every process reads all rows and trains on its own: the stream comes in blocks of one batch for each process, all of
one source, and `accelerate` gives each process its batch of every block. Resuming reads again what was trained on and
leaves it out. What is lost against rows in memory: a shuffle over all of them, and batch samplers.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, islice, zip_longest
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
from datasets import DatasetInfo, Features, IterableDataset, Value, load_dataset
from datasets.iterable_dataset import ExamplesIterable
from msgspec import Struct
from torch.utils.data import get_worker_info

from foils.errors import UserError
from foils.hub import explained
from foils.kinds import Draw
from training.rows.further import Form
from training.rows.kinds import drawn
from training.rows.samplers import in_turn
from training.rows.source import NOT_ALIGNED, empty_text, not_text

Row = dict[str, str]

READ_ROWS = 1000
OPEN_FILES = 16


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
        """Yields all rows.

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
                raise not_text(self.name, old, type(text).__name__)
            if not text or text.isspace():
                raise empty_text(self.name, f"{file}, row {number}", old)
            texts[new] = text
        return texts


class Streamed(Struct, frozen=True):
    """A source of a stream.

    Attributes:
        name: of the source.
        share: of the rows.
        parts: read side by side; all have the same queries and positives, row by row.
        draws: the parts whose negatives a row gets, as places in `parts`; empty for the parts' rows as they are.
    """

    name: str
    share: float
    parts: tuple[Part, ...]
    draws: tuple[tuple[Draw, tuple[int, ...]], ...] = ()

    @property
    def columns(self) -> list[str]:
        """The columns in the trainer's order."""
        if not self.draws:
            return list(self.parts[0].columns.values())
        negatives = sum(len(self.parts[place].columns) - 2 for place in self.draws[0][1])
        return ["query", "positive", *(f"negative_{number}" for number in range(1, negatives + 1))]

    def rows(self, seed: int, order: random.Random) -> Iterator[Row]:
        """Yields all rows once.

        Raises:
            UserError: a file cannot be read, a text is empty, or parts do not share their queries.
        """
        if not self.draws:
            yield from self.parts[0].read(order)
            return
        # Side by side, files must keep their order.
        for rows in zip_longest(*(part.read() for part in self.parts)):
            if None in rows or len({row["query"] for row in rows}) > 1:
                raise UserError(f"dataset {self.name}: {NOT_ALIGNED}")
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
    """Yields rows in an order that is random within a buffer of `size` rows.

    `IterableDataset.shuffle` cannot go on in another order after the last row, and needs rows of the same columns.

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
    """Counts the rows of all files, from the Parquet files' footers.

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
    with explained(f"dataset {name}, {Path(files[0]).name}"):
        first = next(_read(files[0], form), None)
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


def _read(file: str, form: Form, columns: list[str] | None = None) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of a file; of a Parquet file, the wanted columns alone are read."""
    options = {"columns": columns, "batch_size": READ_ROWS} if form == "parquet" else {}
    rows = load_dataset(form, data_files=[file], split="train", streaming=True, **options)
    for batch in rows.with_format("arrow").iter(READ_ROWS):
        yield from batch.to_pylist()


def _rows_of_parquet(file: str) -> int:
    with fsspec.open(file, "rb") as opened:
        return int(pq.ParquetFile(opened).metadata.num_rows)


def _rows_of_lines(file: str) -> int:
    with fsspec.open(file, "rb") as opened:
        return sum(not line.isspace() for line in opened)
