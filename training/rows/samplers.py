"""Batches of one source each, in its share.

In-batch negatives must be of one source: nothing is learnt from a passage about another subject in another style.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

from accelerate import PartialState
from sentence_transformers.base.sampler import MultiDatasetDefaultBatchSampler


def in_turn(shares: Sequence[float]) -> Iterator[int]:
    """Yields numbers of sources without end: the next is the one furthest behind its share, ties broken by number.

    Shares sum to 1. No source is ever a whole turn ahead: with shares n_i / n, n turns hold source i n_i times.

    >>> list(islice(in_turn([0.75, 0.25]), 8))
    [0, 0, 1, 0, 0, 0, 1, 0]
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
