"""A table of rows, pinned to its content: one configuration of a data set, read at once or piece by piece."""

import logging
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, load_dataset
from msgspec import Struct
from msgspec.structs import replace

from foils.errors import UserError
from foils.hub import explained, load_parquet, parquet_builder
from foils.texts import INVISIBLE
from training.recipe import Columns

logger = logging.getLogger(__name__)

Form = Literal["parquet", "json"]
Row = dict[str, str]
CHECKED_ROWS, READ_ROWS, OPEN_FILES = 10_000, 1000, 16
READABLE = rf"[^\s\p{{Z}}\p{{Cc}}\p{{Cf}}\x{{2800}}{''.join(INVISIBLE)}]"
"""A character that a reader sees, in the syntax of RE2."""
NEGATIVE_NAME = re.compile(r"negative(?:_(\d+))?")
# Names in the training sets that sentence-transformers publishes.
QUERY_NAMES = ("query", "anchor", "question")
POSITIVE_NAMES = ("positive", "answer", "passage")
LABEL_NAMES = ("label", "labels", "score", "scores")


class Table(Struct, frozen=True):
    """Files of one form, and what is trained on of them.

    Attributes:
        name: the Hub id, or the folder's or file's name; of a data set of ours with the configuration.
        revision: the Hub commit, or `sha256:...` of the files.
        tag: the revision that was asked for on the Hub; None for local files.
        location: the Hub id, folder or file.
        config: its configuration; None for local files without one.
        split: its split.
        form: what its files are.
        paths: of the files; on the Hub `hf://` addresses at the commit, once it is opened as a stream.
        wanted: the columns to train on; found by their names by default.
        pairs: takes queries and positives alone.
        names: of a stream, columns in its files -> `query`, `positive` ...
    """

    name: str
    revision: str
    tag: str | None
    location: str
    config: str | None
    split: str = "train"
    form: Form = "parquet"
    paths: tuple[str, ...] = ()
    wanted: Columns | None = None
    pairs: bool = False
    names: Row = {}

    def load(self) -> Dataset:
        """Loads all rows and columns.

        Raises:
            UserError: the files cannot be read.
        """
        if self.tag is not None:
            return load_parquet(self.location, self.config, self.split, self.revision)
        with explained(f"dataset {self.location}"):  # plain files need no card
            return load_dataset(self.form, data_files=list(self.paths), split="train")

    def rows(self) -> Dataset:
        """Loads all rows to train on: `query`, `positive`, `negative_1` ...; other columns are left out.

        Raises:
            UserError: a column is missing, a text is missing or shows nothing, or the files cannot be read.
        """
        rows = self.load()
        columns = self._trained(rows.column_names)
        rows = rows.select_columns(list(columns))
        if len(rows) == 0:
            raise UserError(f"dataset {self.name}: holds no row")
        for number, batch in enumerate(rows.with_format("arrow").iter(CHECKED_ROWS)):
            self._check_texts(batch, columns, number * CHECKED_ROWS)
        return rows.rename_columns({old: new for old, new in columns.items() if old != new})

    def opened(self) -> "Table":
        """The table ready to be read as a stream, with its files' addresses and the columns of the first."""
        paths = self.paths
        if self.tag is not None:
            paths = tuple(parquet_builder(self.location, self.config, self.revision).config.data_files[self.split])
        with explained(f"dataset {self.name}, {Path(paths[0]).name}"):
            first = next(_batches(paths[0], self.form), None)
        if first is None:
            raise UserError(f"dataset {self.name}: {Path(paths[0]).name} holds no row")
        return replace(self, paths=paths, names=self._trained(first.column_names))

    def read(self, order: random.Random | None = None) -> Iterator[Row]:
        """Yields all rows of a stream, piece by piece; `order` shuffles the files.

        Raises:
            UserError: a file cannot be read, or a text is missing or shows nothing.
        """
        files = list(self.paths)
        if order is not None:
            order.shuffle(files)
        for file in files:
            with explained(f"dataset {self.name}, {Path(file).name}"):
                for number, batch in enumerate(_batches(file, self.form, list(self.names))):
                    self._check_texts(batch, self.names, number * READ_ROWS, f"{Path(file).name}, ")
                    yield from batch.select(list(self.names)).rename_columns(list(self.names.values())).to_pylist()

    def count_rows(self) -> int:
        """Counts the rows of all files, from the Parquet files' footers."""
        with explained(f"dataset {self.name}"), ThreadPoolExecutor(OPEN_FILES) as pool:
            return sum(pool.map(partial(_rows_of, self.form), self.paths))

    def _trained(self, present: Sequence[str]) -> Row:
        names = trained_columns(present, self.wanted, self.name)
        return dict(list(names.items())[:2]) if self.pairs else names

    def _check_texts(self, rows: pa.Table, columns: Iterable[str], start: int, file: str = "") -> None:
        for column in columns:
            texts = rows[column] if column in rows.column_names else pa.nulls(len(rows))
            if pa.types.is_null(texts.type):  # of JSON lines, none of which has it
                texts = texts.cast(pa.string())
            if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
                raise UserError(
                    f"dataset {self.name}: {file}column {column!r} holds {texts.type} and not text; name another "
                    "column, or convert it"
                )
            readable = pc.fill_null(pc.match_substring_regex(texts, READABLE), False)
            place = pc.index(readable, pa.scalar(False)).as_py()
            if place >= 0:
                raise UserError(
                    f"dataset {self.name}: {file}row {start + place + 1}: {column} is empty; leave such rows out of "
                    "the data, nothing is learnt from them"
                )


def trained_columns(present: Sequence[str], columns: Columns | None, name: str) -> Row:
    """The columns that are trained on, in the trainer's order: their names in the data -> `query`, `positive` ...

    >>> trained_columns(["negative_10", "anchor", "positive", "negative", "id"], None, "x")
    {'anchor': 'query', 'positive': 'positive', 'negative': 'negative_1', 'negative_10': 'negative_2'}

    Raises:
        UserError: a column is missing, or names leave a doubt.
    """
    if columns is None:
        columns = _recognised(present, name)
    old = [columns.query, columns.positive, *columns.negatives]
    missing = [column for column in old if column not in present]
    if missing:
        raise UserError(f"dataset {name}: has no column {', '.join(missing)!r}; allowed: {', '.join(present)}")
    if len(set(old)) < len(old):
        raise UserError(f"dataset {name}: columns names one twice: {', '.join(old)}; each holds one text of a row")
    left_out = [column for column in present if column not in old]
    if left_out:
        logger.info("%s: columns %s are not trained on", name, ", ".join(left_out))
    new = ["query", "positive", *(f"negative_{number}" for number in range(1, len(old) - 1))]
    return dict(zip(old, new, strict=True))


def _recognised(present: Sequence[str], name: str) -> Columns:
    """The columns by their names, if these leave no doubt; negatives by their numbers."""
    queries = [column for column in present if column in QUERY_NAMES]
    positives = [column for column in present if column in POSITIVE_NAMES]
    labels = [column for column in present if column.lower() in LABEL_NAMES]
    if len(queries) != 1 or len(positives) != 1:
        what = f"{', '.join(present)} leave a doubt which column is the query and which the positive"
    elif labels:  # those with label 0 would be trained on as if they were right
        what = f"column {labels[0]!r} may say that not every row's {positives[0]} is a right one"
    else:
        negatives = [column for column in present if NEGATIVE_NAME.fullmatch(column)]
        negatives.sort(key=lambda column: int(column.partition("_")[2] or 0))
        return Columns(queries[0], positives[0], tuple(negatives))
    raise UserError(
        f'dataset {name}: {what}; for further data, name them: columns = {{ query = "...", positive = "...", '
        'negatives = ["..."] }; in a data set of yours, keep query, positive and negative_1 ... alone'
    )


def _batches(file: str, form: Form, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yields the rows of a file in batches; of a Parquet file, the wanted columns alone are read."""
    options = {"columns": columns, "batch_size": READ_ROWS} if form == "parquet" else {}
    rows = load_dataset(form, data_files=[file], split="train", streaming=True, **options)
    yield from rows.with_format("arrow").iter(READ_ROWS)


def _rows_of(form: Form, file: str) -> int:
    with fsspec.open(file, "rb") as opened:
        if form == "parquet":
            return int(pq.ParquetFile(opened).metadata.num_rows)
        return sum(not line.isspace() for line in opened)
