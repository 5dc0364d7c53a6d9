"""Batches of one source each, in its share; and batches of rows of similar length.

In-batch negatives must be of one source: nothing is learnt from a passage about another subject in another style.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from accelerate import PartialState
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler, MultiDatasetDefaultBatchSampler

WINDOW = 50
CHARACTERS_PER_TOKEN = 5
"""Enough to compare lengths; longer texts are cut anyway."""


def in_turn(shares: Sequence[float]) -> Iterator[int]:
    """Yields numbers of sources without end: the next is the one furthest behind its share, ties broken by number.

    No source is ever a whole turn ahead. For shares n_i / n, the first n turns hold source i n_i times.

    >>> list(islice(in_turn([0.75, 0.25]), 8))
    [0, 0, 1, 0, 0, 0, 1, 0]

    Args:
        shares: they sum to 1.
    """
    had, turn = [0] * len(shares), 0
    while True:
        turn += 1
        behind = [share * turn - count for share, count in zip(shares, had, strict=True)]
        chosen = behind.index(max(behind))
        had[chosen] += 1
        yield chosen


class InTurn(MultiDatasetDefaultBatchSampler):
    """Batches of several sources for `multi_dataset_batch_sampler`, each source in proportion to its batches.

    All processes of a step get batches of the same source: with negatives gathered across devices each must bring as
    many columns as the others, or they wait for each other for ever. So a source's last batches are left out where
    there are fewer than processes.
    """

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the places of rows, those of a source above all rows of the sources before it."""
        if self.generator is not None and self.seed is not None:
            self.generator.manual_seed(self.seed + self.epoch)
        starts = [0, *accumulate(map(len, self.dataset.datasets))]
        batches, together = [iter(sampler) for sampler in self.batch_samplers], PartialState().num_processes
        steps = self._steps()
        for source in islice(in_turn([count / sum(steps) for count in steps]), sum(steps)):
            step = list(islice(batches[source], together))
            if len(step) == together:  # a sampler without duplicates may have promised more
                yield from ([row + starts[source] for row in batch] for batch in step)

    def __len__(self) -> int:
        """Returns the number of batches over all processes."""
        return sum(self._steps()) * int(PartialState().num_processes)

    def _steps(self) -> list[int]:
        """The steps of each source that all processes can take."""
        return [len(sampler) // PartialState().num_processes for sampler in self.batch_samplers]


class LengthBatches(DefaultBatchSampler):
    """Batches of rows of similar length, so that little of a batch is padding; the sampler for `length_buckets`.

    sentence-transformers' trainers ignore transformers' `group_by_length`. Here rows are shuffled, sorted by length
    within windows of `WINDOW` batches, cut into batches, and the batches shuffled. The order depends on seed and epoch
    alone, so that a run can be resumed.
    """

    def __init__(self, dataset: Dataset, batch_size: int, drop_last: bool, seed: int = 0, **more: Any) -> None:
        """Takes what sentence-transformers gives to batch samplers."""
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, seed=seed, **more)
        self.lengths = lengths(dataset)

    def __iter__(self) -> Iterator[list[int]]:
        """Yields row numbers of one batch after the other."""
        chance = np.random.default_rng([self.seed, self.epoch])
        order = chance.permutation(len(self.lengths))
        window = WINDOW * self.batch_size
        batches = [
            part[start : start + self.batch_size].tolist()
            for first in range(0, len(order), window)
            for part in [_by_length(order[first : first + window], self.lengths)]
            for start in range(0, len(part), self.batch_size)
        ]
        # Only the last window can end in an incomplete batch, which comes last or not at all.
        incomplete = batches.pop() if batches and len(batches[-1]) < self.batch_size else None
        chance.shuffle(batches)
        yield from batches
        if incomplete and not self.drop_last:
            yield incomplete

    def __len__(self) -> int:
        """Returns the number of batches of an epoch."""
        size: int = self.batch_size
        whole, rest = divmod(len(self.lengths), size)
        return whole + int(rest > 0 and not self.drop_last)


def lengths(dataset: Dataset, max_characters: int = 512 * CHARACTERS_PER_TOKEN) -> npt.NDArray[np.int64]:
    """Characters of all texts of each row, `(n_rows,)`; a text counts `max_characters` at most."""
    total = np.zeros(len(dataset), np.int64)
    table = dataset.with_format("arrow")[:]
    for column in table.columns:
        if str(column.type) in {"string", "large_string"}:
            total += np.minimum(pc.utf8_length(column).to_numpy(), max_characters)
    return total


def _by_length(rows: npt.NDArray[np.int64], by: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return rows[np.argsort(by[rows], kind="stable")]
