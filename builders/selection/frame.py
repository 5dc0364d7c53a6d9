"""Candidates, positives and scores as numbers: ids are looked up once, and then no rule touches a string."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders.hashing import hashed
from builders.passages import Passages, Positions, take
from builders.texts import letters
from foils.errors import UserError
from foils.texts import normalised

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
BLOCK = 20_000  # texts and ids that are in memory at once
Flags = npt.NDArray[np.bool_]
Lookup = Callable[[pa.ChunkedArray], Numbers]
_NO_IDS = pa.nulls(0, pa.string())  # `pa.array` imports pandas


class Inputs(NamedTuple):
    """What selection reads: all of it is stored in the data set.

    Attributes:
        queries: `queries.TABLE`; `corpus-id` names the row's positive.
        qrels: `schema.QRELS`, all known positives.
        candidates: kind -> `schema.CANDIDATES`, in any order.
        scores: scorer -> `schema.SCORES`, in any order.
        passages: corpus and generated passages.
        corpus_size: passages behind this many are generated ones.
        kept_out: ids of passages that may be no negative, for they stand in evaluation sets.
    """

    queries: pa.Table
    qrels: pa.Table
    candidates: Mapping[str, pa.Table]
    scores: Mapping[str, pa.Table]
    passages: Passages
    corpus_size: int
    kept_out: pa.Array = _NO_IDS


class Pool(NamedTuple):
    """The candidates of one kind, ordered by query, rank and id; arrays of shape `(n_candidates,)`.

    Attributes:
        query: position among the queries.
        passage: code of the passage, see `Frame`.
        rank: the miner's, from 1.
        row: where the candidate stood in its table.
    """

    query: Numbers
    passage: Numbers
    rank: Numbers
    row: Numbers


class Frame(NamedTuple):
    """What all kinds share. A passage's code is its place among all passages that occur here, in the order of ids.

    Attributes:
        query_keys: `(n_queries,)` hashes of query ids, for random keys.
        passage_keys: `(n_codes,)` hashes of passage ids.
        positions: `(n_codes,)` positions in the passages.
        in_corpus: `(n_codes,)` whether a passage is one of the corpus.
        text: `(n_codes,)` equal numbers for passages that are the same as models read them.
        body: `(n_codes,)` the number that a passage of this text and no title has.
        positive: `(n_queries,)` code of each row's positive.
        positives: sorted `query * n_codes + code` of all known positives.
        kept_out: `(n_codes,)` whether a passage stands in an evaluation set.
    """

    query_keys: npt.NDArray[np.uint64]
    passage_keys: npt.NDArray[np.uint64]
    positions: Positions
    in_corpus: Flags
    text: Numbers
    body: Numbers
    positive: Numbers
    positives: Numbers
    kept_out: Flags

    def pair(self, query: Numbers, passage: Numbers) -> Numbers:
        """Returns one number for each query and passage."""
        return query * len(self.positions) + passage

    def text_pair(self, query: Numbers, text: Numbers) -> Numbers:
        """Returns one number for each query and one of `text` or `body`."""
        return query * (2 * len(self.positions)) + text

    def with_positives(self, pairs: Numbers) -> "Frame":
        """Returns the same with further positives."""
        return self._replace(positives=np.union1d(self.positives, pairs))


def read(inputs: Inputs) -> tuple[Frame, dict[str, Pool], dict[str, "Scored"]]:
    """Turns ids into numbers.

    Args:
        inputs: what was stored.

    Raises:
        UserError: a candidate or a judgement names a passage that is not there.
    """
    queries, passages = inputs.queries, inputs.passages
    named = [queries["corpus-id"], inputs.qrels["corpus-id"], *(t["corpus-id"] for t in inputs.candidates.values())]
    ids = pc.unique(pa.chunked_array([chunk for column in named for chunk in column.chunks], pa.string()))
    ids = ids.take(pc.sort_indices(ids))
    positions = passages.positions(ids)
    if (positions < 0).any():
        lost = ids[int(np.flatnonzero(positions < 0)[0])].as_py()
        raise UserError(
            f"selection: {int((positions < 0).sum())} passages among candidates or judgements are neither in `corpus` "
            f"nor in `generated`, the first is {lost!r}; build the data set again"
        )
    code_of, query_of = partial(_places, ids), partial(_places, queries["_id"])
    positive = code_of(queries["corpus-id"])
    judged = query_of(inputs.qrels["query-id"]), code_of(inputs.qrels["corpus-id"])
    known = (judged[0] >= 0) & (inputs.qrels["score"].to_numpy() > 0)
    text, body = _same_texts(passages, positions)
    frame = Frame(
        query_keys=_keys(queries["_id"]),
        passage_keys=_keys(ids),
        positions=positions,
        in_corpus=positions < inputs.corpus_size,
        text=text,
        body=body,
        positive=positive,
        positives=np.empty(0, np.int64),
        kept_out=np.asarray(pc.is_in(ids, value_set=inputs.kept_out).to_numpy(zero_copy_only=False)),
    )
    own = frame.pair(np.arange(queries.num_rows), positive)
    frame = frame.with_positives(np.concatenate([own, frame.pair(judged[0][known], judged[1][known])]))
    pools = {kind: _pool(table, query_of, code_of) for kind, table in inputs.candidates.items()}
    scored = {scorer: Scored.read(table, frame, query_of, code_of) for scorer, table in inputs.scores.items()}
    return frame, pools, scored


class Scored(NamedTuple):
    """What a scorer said: pairs, sorted, and their scores."""

    pairs: Numbers
    scores: Floats

    @classmethod
    def read(cls, table: pa.Table, frame: Frame, query_of: Lookup, code_of: Lookup) -> "Scored":
        """Reads `schema.SCORES`; pairs of other queries or passages are left out."""
        query, passage = query_of(table["query-id"]), code_of(table["corpus-id"])
        known = (query >= 0) & (passage >= 0) & table["score"].is_valid().to_numpy()
        pairs, first = np.unique(frame.pair(query[known], passage[known]), return_index=True)
        return cls(pairs, table["score"].to_numpy()[known][first].astype(np.float64))

    def of(self, pairs: Numbers) -> Floats:
        """Returns scores of pairs; NaN where one is missing."""
        scores = np.full(len(pairs), np.nan)
        if len(self.pairs):
            places = np.minimum(np.searchsorted(self.pairs, pairs), len(self.pairs) - 1)
            hit = self.pairs[places] == pairs
            scores[hit] = self.scores[places[hit]]
        return scores


def _places(among: pa.Array | pa.ChunkedArray, ids: pa.ChunkedArray) -> Numbers:
    """Returns the positions of ids among others; -1 for those that are not there."""
    return np.asarray(pc.fill_null(pc.index_in(ids, value_set=among), -1).to_numpy(), np.int64)


def _pool(table: pa.Table, query_of: Lookup, code_of: Lookup) -> Pool:
    query, passage = query_of(table["query-id"]), code_of(table["corpus-id"])
    rank = table["rank"].to_numpy().astype(np.int64)
    order = np.lexsort((passage, rank, query))
    order = order[query[order] >= 0]
    return Pool(query[order], passage[order], rank[order], order)


def _keys(ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Returns 64 bits for each id."""
    return _joined(hashed(ids.slice(start, BLOCK).to_pylist()) for start in range(0, len(ids), BLOCK))


def _same_texts(passages: Passages, positions: Positions) -> tuple[Numbers, Numbers]:
    """Returns `Frame.text` and `Frame.body`. Only texts that have the same letters are normalised and compared."""
    size = len(positions)
    title, text = passages.table["title"], passages.table["text"]
    bodies = _joined(letters(take(text, block)) for block in _blocks(positions))
    reads = bodies + _joined(letters(take(title, block)) for block in _blocks(positions))
    titled = np.flatnonzero(pc.not_equal(take(title, positions), "").to_numpy(zero_copy_only=False))
    keys = np.concatenate([reads, bodies[titled]])
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    unclear = np.flatnonzero(sizes[group] > 1)
    read, bare = positions[unclear[unclear < size]], positions[titled[unclear[unclear >= size] - size]]
    exact = chain(map(passages.texts, _blocks(read)), map(passages.bodies, _blocks(bare)))
    keys[unclear] = _joined(hashed(map(normalised, texts.to_pylist())) for texts in exact)
    same = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    alone = same[:size].copy()
    alone[titled] = same[size:]
    return same[:size], alone


def _blocks(positions: Positions) -> Iterator[Positions]:
    return (positions[start : start + BLOCK] for start in range(0, len(positions), BLOCK))


def _joined(parts: Iterable[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    return np.concatenate([np.empty(0, np.uint64), *parts])
