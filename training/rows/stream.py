"""Rows that are read while training goes on, for data that is larger than memory: from the Hub, or from local files.

`datasets` reads the files piece by piece, so what is held is the shuffle buffer, `shuffle_buffer` rows of each source,
and one piece of a file: a Parquet file that is a single row group may need more. A stream has no end: after its last
row a source begins again in another order.

Every process reads all rows and trains on its own: the stream comes in blocks of one batch for each process, all of
one source, and `accelerate` gives each process its batch of every block. Resuming reads again what was trained on and
leaves it out. What is lost against rows in memory: a shuffle over all of them, and batch samplers.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, islice

from datasets import DatasetInfo, Features, IterableDataset, Value
from datasets.iterable_dataset import ExamplesIterable
from torch.utils.data import get_worker_info

from foils.errors import UserError
from training.rows.ingredients import Ingredient
from training.rows.samplers import in_turn
from training.rows.table import Row


class Stream(IterableDataset):
    """All sources' rows without end, in blocks of `block` rows of one source, shuffled among `buffer` rows of each.

    A row has the columns of its source and no others.
    """

    def __init__(self, sources: Sequence[Ingredient], block: int, buffer: int, seed: int) -> None:
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


def _blocks(sources: Sequence[Ingredient], block: int, buffer: int, seed: int) -> Iterator[Row]:
    rows = [_endless(source, buffer, seed) for source in sources]
    for source in in_turn([source.share or 0 for source in sources]):
        yield from islice(rows[source], block)


def _endless(source: Ingredient, buffer: int, seed: int) -> Iterator[Row]:
    for number in count():
        order, empty = random.Random(f"{seed} {number} {source.name}"), True
        for row in shuffled(source.read(seed, order), buffer, order):
            empty = False
            yield row
        if empty:
            raise UserError(f"dataset {source.name}: holds no row")


def _keyed(make: Callable[[], Iterator[Row]]) -> Iterator[tuple[int, Row]]:
    return enumerate(make())
