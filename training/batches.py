"""Batches of rows of similar length, so that little of a batch is padding.

sentence-transformers' trainers ignore transformers' `group_by_length`. Rows are shuffled, sorted by length within
windows of `WINDOW` batches, cut into batches, and the batches shuffled: in expectation each row meets others of its
length, and each epoch other ones.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler

WINDOW = 50
# A character more or less is no token more or less; longer texts are cut anyway.
CHARACTERS_PER_TOKEN = 5


class LengthBatches(DefaultBatchSampler):
    """The batch sampler for `length_buckets`; its order depends on seed and epoch only, so that a run can go on."""

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
        # Only the last window can end in an incomplete batch. It goes last, where it does without being dropped.
        incomplete = batches.pop() if batches and len(batches[-1]) < self.batch_size else None
        chance.shuffle(batches)
        yield from batches
        if incomplete and not self.drop_last:
            yield incomplete

    def __len__(self) -> int:
        """The number of batches of an epoch."""
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
