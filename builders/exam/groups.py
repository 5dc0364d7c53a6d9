"""Groups of passages that belong together: documents, equal titles, near duplicates.

A group belongs wholly to the exam or wholly to training: whoever was trained on one of its passages knows the others.
Nothing here depends on the order of the passages.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders.passages import Passages, Positions
from builders.texts import Hashes, jaccard, shingle_hashes
from foils.texts import normalised
from foils.words import shortened

logger = logging.getLogger(__name__)

NEAR = 0.6
"""Similarity (`builders.texts`) from which two passages are near duplicates, as in `negatives.written_checks`."""
SKETCH, SHARED = 8, 2
"""Smallest hashes of shingles that stand for a passage, and how many of them near duplicates share. Each of the
eight smallest of both together is in both with probability .6 or more (Broder 1997), so fewer than two are in one of
120 pairs, and with similarity .8 in one of 12,000."""
COMMON_TITLE, FEWEST_COMMON = 0.1, 10
"""A title of more than a tenth of the passages, and of more than ten, names a section or a site, and no document."""
_BITS = np.uint64(50)
"""Of a hash; those before them are the row in its batch."""
_PAIRS = 100_000


class Groups(NamedTuple):
    """The group of each passage.

    Attributes:
        of: number of a passage's group, `(n_passages,)`.
        names: of each group, the smallest id among its passages.
        sizes: passages of each group, `(n_groups,)`.
    """

    of: Positions
    names: pa.Array
    sizes: Positions

    def name_of(self, positions: Positions) -> pa.Array:
        """The names of the groups of passages at positions."""
        return self.names.take(pa.array(self.of[positions]))


def grouped(passages: Passages, keys: pa.ChunkedArray | None) -> Groups:
    """Joins the passages of one document and near duplicates, and all that hang together through them.

    Args:
        passages: the corpus.
        keys: the document of each passage, null where it has none (`corpus.group_column`); without them, passages with
            one title are taken for a document.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(passages)
    by_id = pc.array_sort_indices(passages.ids.combine_chunks()).to_numpy().astype(np.int64)
    rank = np.empty(n, np.int64)
    rank[by_id] = np.arange(n)
    known = _titles(passages) if keys is None else keys.combine_chunks()
    pairs = np.concatenate([_equal(known), *_near(passages, rank)])
    graph = coo_array((np.ones(len(pairs), np.bool_), pairs.T), shape=(n, n))
    of = connected_components(graph, directed=False)[1].astype(np.int64)
    first = np.full(of.max() + 1, n)
    np.minimum.at(first, of, rank)
    return Groups(of, passages.ids_at(by_id[first]), np.bincount(of))


def _titles(passages: Passages) -> pa.Array:
    """The normalised title of each passage; null where it has none, or one that is too common to say anything."""
    found = passages.table["title"].combine_chunks().dictionary_encode()
    titles = pa.array([normalised(title) or None for title in found.dictionary.to_pylist()], pa.string())
    titles = titles.take(found.indices)
    counts = titles.drop_null().value_counts()
    most = max(FEWEST_COMMON, COMMON_TITLE * len(titles))
    common = counts.filter(pc.greater(counts.field("counts"), most))
    for title, count in zip(common.field("values").to_pylist(), common.field("counts").to_pylist(), strict=True):
        words = "exam: %d of %d passages have the title %r, so it names no document; corpus.group_column would"
        logger.warning(words, count, len(titles), shortened(title))
    return pc.if_else(pc.is_in(titles, value_set=common.field("values")), None, titles)


def _equal(values: pa.Array) -> npt.NDArray[np.int64]:
    """Pairs of rows that join all rows with one value, `(n_pairs, 2)`; null is equal to nothing."""
    rows = np.flatnonzero(values.is_valid())
    codes = values.drop_null().dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    same = np.diff(codes[order]) == 0
    return np.column_stack([rows[order][:-1][same], rows[order][1:][same]])


def _near(passages: Passages, rank: Positions) -> Iterator[npt.NDArray[np.int64]]:
    """Pairs of near duplicates, enough of them to join all that hang together."""
    sketches = np.concatenate([_sketches(texts) for texts in passages.batches()])
    pairs = _candidates(sketches, rank)
    for start in range(0, len(pairs), _PAIRS):
        part = pairs[start : start + _PAIRS]
        left, right = sketches[part[:, 0]], sketches[part[:, 1]]
        shared = ((left[:, :, None] == right[:, None, :]) & (left != 0)[:, :, None]).sum(axis=(1, 2))
        fewest = np.minimum((left != 0).sum(axis=1), (right != 0).sum(axis=1))
        part = part[shared >= np.minimum(fewest, SHARED)]  # a comparison of whole texts takes far longer
        yield part[jaccard(passages.texts(part[:, 0]), passages.texts(part[:, 1])) >= NEAR]


def _sketches(texts: pa.Array) -> Hashes:
    """The smallest hashes of each text's shingles, `(n_texts, SKETCH)`, with zeros behind those of a short text."""
    hashes, rows = shingle_hashes(texts)
    keys = np.sort(rows.astype(np.uint64) << _BITS | hashes >> (np.uint64(64) - _BITS))  # far faster than lexsort
    keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
    rows, hashes = (keys >> _BITS).astype(np.int64), keys & ((np.uint64(1) << _BITS) - np.uint64(1))
    place = np.arange(len(rows)) - np.searchsorted(rows, np.arange(len(texts)))[rows]
    made = np.zeros((len(texts), SKETCH), np.uint64)
    made[rows[place < SKETCH], place[place < SKETCH]] = hashes[place < SKETCH]
    return made


def _candidates(sketches: Hashes, rank: Positions) -> npt.NDArray[np.int64]:
    """Pairs of passages that share a hash, `(n_pairs, 2)`: each with the next by id, and with the first.

    All pairs of a common shingle would be too many.
    """
    rows, places = np.nonzero(sketches)
    hashes = sketches[rows, places]
    order = np.lexsort((rank[rows], hashes))
    hashes, rows = hashes[order], rows[order]
    same = np.flatnonzero(np.diff(hashes) == 0)
    begins = np.flatnonzero(np.append(True, np.diff(hashes) != 0)[: len(rows)])
    first = rows[begins[np.searchsorted(begins, same, side="right") - 1]]
    left, right = np.concatenate([rows[same], first]), np.tile(rows[same + 1], 2)
    keys = np.unique(np.minimum(left, right) * len(rank) + np.maximum(left, right))
    return np.column_stack(np.divmod(keys, len(rank)))
