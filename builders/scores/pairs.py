"""Pairs of a query and a passage, by where their texts are: what scorers score."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders.passages import Passages, Positions, take
from builders.retrieval.row_store import Keys, keys_of
from foils.errors import UserError


@dataclass(frozen=True)
class Pairs:
    """The pairs, by the positions of their texts.

    Attributes:
        queries: the queries' texts.
        passages: where passages are looked up.
        query_positions: `(n_pairs,)`, in `queries`.
        passage_positions: `(n_pairs,)`, in `passages`.
    """

    queries: pa.ChunkedArray
    passages: Passages
    query_positions: Positions
    passage_positions: Positions

    def __len__(self) -> int:
        return len(self.query_positions)

    def at(self, rows: Positions | slice) -> "Pairs":
        """Returns some of them."""
        return replace(self, query_positions=self.query_positions[rows], passage_positions=self.passage_positions[rows])

    def blocks(self, size: int) -> Iterator["Pairs"]:
        """Yields all of them, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.at(slice(start, start + size))

    def texts(self) -> list[tuple[str, str]]:
        """Returns query and passage text of each; a text that several pairs share is one object."""
        queries, query_numbers = np.unique(self.query_positions, return_inverse=True)
        passages, passage_numbers = np.unique(self.passage_positions, return_inverse=True)
        asked = take(self.queries, queries).to_pylist()
        answering = self.passages.texts(passages).to_pylist()
        return [(asked[i], answering[j]) for i, j in zip(query_numbers, passage_numbers, strict=True)]


def locate(pairs: pa.Table, queries: pa.Table, passages: Passages) -> Pairs:
    """Looks up pairs that are given by id.

    Args:
        pairs: `query-id`, `corpus-id`.
        queries: `_id`, `text`; at least those of the pairs.
        passages: at least those of the pairs, generated ones too.

    Raises:
        UserError: a pair names a query or a passage that is not there.
    """
    asked = np.asarray(pc.fill_null(pc.index_in(pairs["query-id"], queries["_id"]), -1).to_numpy(), np.int64)
    answering = passages.positions(pairs["corpus-id"])
    for name, positions in (("query-id", asked), ("corpus-id", answering)):
        if len(positions) and positions.min() < 0:
            unknown = pairs[name][int(positions.argmin())].as_py()
            raise UserError(
                f"pairs to score: {name} {unknown!r} is not among the {'queries' if name == 'query-id' else 'passages'}"
                "; give the rows that the pairs were made from"
            )
    return Pairs(queries["text"], passages, asked, answering)


def pair_keys(texts: list[tuple[str, str]]) -> Keys:
    """Keys `(n_pairs, 2)` of query and passage texts; the query's length keeps the two apart.

    >>> keys = pair_keys([("a b", "c"), ("a", "b c"), ("a b", "c")])
    >>> bool((keys[0] == keys[1]).any()), bool((keys[0] == keys[2]).all())
    (False, True)
    """
    return keys_of(f"{len(query)} {query} {passage}" for query, passage in texts)
