"""One source of rows as a recipe asks for it: the kind or columns that are trained on, loaded at once or streamed."""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from datasets import Dataset, concatenate_datasets
from msgspec import Struct
from msgspec.structs import replace

from foils.errors import UserError
from foils.kinds import NO_NEGATIVES, Draw
from training.rows.source import Source
from training.rows.table import Row, Table

_KEYS = 2**64
_NOT_ALIGNED = "its parts do not share their queries row by row; build them together"


class Ingredient(Struct, frozen=True):
    """A source with what the recipe says of it.

    Attributes:
        name: of the source and its kind, unique in a training.
        source: the data set.
        kind: of negatives; None for data that `builders.build` did not make.
        parts: configuration -> what is read of it; several have the same queries and positives, row by row.
        draws: for several parts, those whose negatives a row gets.
        share: of the rows that are trained on; None for what the others leave, or for all rows.
    """

    name: str
    source: Source | Table
    kind: str | None
    parts: dict[str, Table]
    draws: tuple[Draw, ...] = ()
    share: float | None = None

    def load(self, seed: int) -> Dataset:
        """Loads the rows, `query`, `positive`, `negative_1` ..., where kinds have shares drawn by the seed.

        Raises:
            UserError: they cannot be read, a text is empty, or parts do not share their queries.
        """
        tables = {name: part.rows() for name, part in self.parts.items()}
        first, *others = tables.values()
        if not others:
            return first
        if any(not table.data.column("query").equals(first.data.column("query")) for table in others):
            raise UserError(f"kind {self.kind!r}: {_NOT_ALIGNED}")
        self._check_counts({name: table.column_names for name, table in tables.items()})
        choices = [_side_by_side([tables[name] for name in draw.parts]) for draw in self.draws]
        if len(choices) == 1:
            return choices[0]
        rows = len(first)
        places = [drawn(query, self.draws, seed) * rows + row for row, query in enumerate(first["query"])]
        return concatenate_datasets(choices).select(places)

    def stream(self, share: float) -> "Ingredient":
        """Makes it ready to be read while training goes on, in a share of the rows."""
        parts = {name: part.opened() for name, part in self.parts.items()}
        self._check_counts({name: part.names for name, part in parts.items()})
        return replace(self, share=share, parts=parts)

    @property
    def columns(self) -> list[str]:
        """The columns of a stream in the trainer's order."""
        parts = self.draws[0].parts if self.draws else list(self.parts)
        negatives = sum(len(self.parts[name].names) - 2 for name in parts)
        return ["query", "positive", *(f"negative_{number}" for number in range(1, negatives + 1))]

    def read(self, seed: int, order: random.Random) -> Iterator[Row]:
        """Yields all rows of a stream once.

        Raises:
            UserError: a file cannot be read, a text is empty, or parts do not share their queries.
        """
        if len(self.parts) == 1:
            for part in self.parts.values():
                yield from part.read(order)
            return
        # Side by side, files must keep their order.
        for together in zip_longest(*(part.read() for part in self.parts.values())):
            if None in together or len({row["query"] for row in together}) > 1:
                raise UserError(f"dataset {self.name}: {_NOT_ALIGNED}")
            rows = dict(zip(self.parts, together, strict=True))
            query, positive = together[0]["query"], together[0]["positive"]
            chosen = [rows[name] for name in self.draws[drawn(query, self.draws, seed)].parts]
            negatives = [text for row in chosen for column, text in row.items() if column.startswith("negative")]
            texts = {f"negative_{number}": text for number, text in enumerate(negatives, start=1)}
            yield {"query": query, "positive": positive, **texts}

    def about(self, rows: int, used: int, share: float) -> dict[str, Any]:
        """The source in the run record."""
        what = {"kind": self.kind}
        if isinstance(self.source, Table):
            what = {"config": self.source.config, "split": self.source.split}
        pinned = {"name": self.source.name, "revision": self.source.revision, "tag": self.source.tag}
        return {**pinned, **what, "rows": rows, "used": used, "share": round(share, 6)}

    def _check_counts(self, columns: Mapping[str, Sequence[str] | Row]) -> None:
        counts = [sum(len(columns[name]) - 2 for name in draw.parts) for draw in self.draws]
        if len(set(counts)) > 1:
            raise UserError(
                f"kind {self.kind!r}: its parts have {', '.join(map(str, counts))} negatives a row, and a row gets "
                "those of one; name parts that have as many"
            )


def ingredient(source: Source | Table, kind: str | None, share: float | None = None) -> Ingredient:
    """A source as the recipe asks for it."""
    if isinstance(source, Table):
        beside = [each for each in (source.config, source.split) if each not in (None, "default", "train")]
        name = "/".join([source.name, *map(str, beside)])
        return Ingredient(name, source, None, {name: source}, share=share)
    draws = source.draws(str(kind))
    names = dict.fromkeys(name for draw in draws for name in draw.parts)
    parts = {name: replace(source.table(name), pairs=kind == NO_NEGATIVES) for name in names}
    return Ingredient(f"{source.name}/{kind}", source, kind, parts, draws, share)


def load_rows(source: Source, kind: str, seed: int = 1) -> Dataset:
    """Loads the rows of a kind (see `foils.kinds`), where kinds have shares drawn by the seed.

    Raises:
        UserError: the data set has no such kind, its rows cannot be read, or kinds do not share their queries.
    """
    return ingredient(source, kind).load(seed)


def random_key(texts: Sequence[str], seed: int) -> int:
    """A random number from 0 to 2^64 - 1 that depends on texts and seed alone."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8)
    for text in texts:
        digest.update(b"\0")
        digest.update(text.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big")


def drawn(query: str, draws: Sequence[Draw], seed: int) -> int:
    """The number of the draw that a query's row gets, in proportion to the draws' shares.

    >>> from foils.kinds import parse
    >>> draws = parse("llm:0.7,bm25:0.3", ["llm", "bm25"], "x")
    >>> found = [drawn(f"query {number}", draws, seed=1) for number in range(1000)]
    >>> found.count(0), found.count(1)
    (678, 322)
    """
    if len(draws) == 1:
        return 0
    point, reached = random_key((query,), seed) / _KEYS, 0.0
    for number, draw in enumerate(draws):
        reached += draw.share
        if point < reached:
            return number
    return len(draws) - 1  # rounding


def _side_by_side(tables: Sequence[Dataset]) -> Dataset:
    """Queries and positives with the negatives of all tables, numbered through."""
    columns = [tables[0].select_columns(["query", "positive"])]
    for table in tables:
        for column in table.column_names[2:]:
            alone, new = table.select_columns([column]), f"negative_{len(columns)}"
            columns.append(alone if new == column else alone.rename_column(column, new))
    return concatenate_datasets(columns, axis=1)
