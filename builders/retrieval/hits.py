"""What a search returns: each query's best passages, in flat arrays."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Hits(NamedTuple):
    """The passages found for queries, best first within each query.

    Attributes:
        offsets: `(n_queries + 1,)`; query i's hits are `offsets[i]` to `offsets[i + 1]` of the other two.
        positions: `(n_hits,)`, of passages in the corpus.
        scores: `(n_hits,)`; higher is nearer.
        given: `(n_queries,)`, the score of the passage that each query asked about; empty if they asked about none.
    """

    offsets: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    given: npt.NDArray[np.float32] = np.empty(0, np.float32)

    @property
    def query_numbers(self) -> npt.NDArray[np.int64]:
        """The query that each hit belongs to, `(n_hits,)`."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
