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

from builders.context import Context
from builders.exam.sketches import sketched
from builders.passages import Passages, Positions
from builders.texts import Hashes, jaccard
from foils.texts import normalised
from foils.words import shortened

logger = logging.getLogger(__name__)

NEAR = 0.6
"""Similarity (`builders.texts`) from which two passages are near duplicates, as in `negatives.written_checks`."""
SHARED = 2
"""Hashes of their sketches that near duplicates share. Each of the eight smallest of both together is in both with
probability .6 or more (Broder 1997), so fewer than two are in one of 120 pairs, and with similarity .8 in one of
12,000."""
COMMON_TITLE, FEWEST_COMMON = 0.1, 10
"""A title of more than a tenth of the passages, and of more than ten, names a section or a site, and no document."""
BUCKETS = 16
"""Parts of the hashes that are paired one after the other, so that one is in memory."""
_PAIRS, _ROWS = 10_000, 100_000
_Pairs = npt.NDArray[np.int64]


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


def grouped(passages: Passages, keys: pa.ChunkedArray | None, context: Context | None = None) -> Groups:
    """Joins the passages of one document and near duplicates, and all that hang together through them.

    Args:
        passages: the corpus.
        keys: the document of each passage, null where it has none (`corpus.group_column`); without them, passages with
            one title are taken for a document.
        context: see `sketched`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(passages)
    by_id = pc.array_sort_indices(passages.ids.combine_chunks()).to_numpy().astype(np.int64)
    rank = np.empty(n, np.int64)
    rank[by_id] = np.arange(n)
    known = _titles(passages) if keys is None else keys.combine_chunks()
    pairs = np.concatenate([_equal(known), *_near(passages, sketched(passages, context), rank)])
    graph = coo_array((np.ones(len(pairs), np.bool_), pairs.T), shape=(n, n))
    of = connected_components(graph, directed=False)[1].astype(np.int64)
    first = np.full(of.max() + 1, n)
    np.minimum.at(first, of, rank)
    return Groups(of, passages.ids_at(by_id[first]), np.bincount(of))


def _titles(passages: Passages) -> pa.Array:
    """The normalised title of each passage; null where it has none, or one that is too common to say anything."""
    chunks = [_normalised(batch["title"]) for batch in passages.table.select(["title"]).to_batches(_ROWS)]
    titles = pa.chunked_array(chunks, pa.string()).combine_chunks()
    counts = titles.drop_null().value_counts()
    most = max(FEWEST_COMMON, COMMON_TITLE * len(titles))
    common = counts.filter(pc.greater(counts.field("counts"), most))
    for title, count in zip(common.field("values").to_pylist(), common.field("counts").to_pylist(), strict=True):
        words = "exam: %d of %d passages have the title %r, so it names no document; corpus.group_column would"
        logger.warning(words, count, len(titles), shortened(title))
    return pc.if_else(pc.is_in(titles, value_set=common.field("values")), None, titles)


def _normalised(titles: pa.Array) -> pa.Array:
    found = titles.dictionary_encode()
    each = [normalised(title) or None for title in found.dictionary.to_pylist()]
    return pa.array(each, pa.string()).take(found.indices)


def _equal(values: pa.Array) -> npt.NDArray[np.int64]:
    """Pairs of rows that join all rows with one value, `(n_pairs, 2)`; null is equal to nothing."""
    rows = np.flatnonzero(values.is_valid())
    codes = values.drop_null().dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    same = np.diff(codes[order]) == 0
    return np.column_stack([rows[order][:-1][same], rows[order][1:][same]])


def _near(passages: Passages, sketches: Hashes, rank: Positions) -> Iterator[_Pairs]:
    """Pairs of near duplicates, enough of them to join all that hang together."""
    alike = [_alike(sketches, _candidates(sketches, bucket, rank)) for bucket in range(BUCKETS)]
    found = _columns(np.unique(np.concatenate(alike)), len(rank))
    for start in range(0, len(found), _PAIRS):
        part = found[start : start + _PAIRS]
        yield part[jaccard(passages.texts(part[:, 0]), passages.texts(part[:, 1])) >= NEAR]


def _alike(sketches: Hashes, keys: _Pairs) -> _Pairs:
    """Those of paired passages whose sketches share enough: a comparison of whole texts takes far longer."""
    is_alike = np.zeros(len(keys), np.bool_)
    for start in range(0, len(keys), _ROWS):
        part = _columns(keys[start : start + _ROWS], len(sketches))
        left, right = sketches[part[:, 0]], sketches[part[:, 1]]
        shared = ((left[:, :, None] == right[:, None, :]) & (left != 0)[:, :, None]).sum(axis=(1, 2))
        fewest = np.minimum((left != 0).sum(axis=1), (right != 0).sum(axis=1))
        is_alike[start : start + _ROWS] = shared >= np.minimum(fewest, SHARED)
    return keys[is_alike]


def _candidates(sketches: Hashes, bucket: int, rank: Positions) -> _Pairs:
    """Pairs of passages that share a hash of a bucket, as numbers: each with the next by id, and with the first.

    All pairs of a common shingle would be too many.
    """
    hashes, rows = _bucket(sketches, bucket)
    order = np.lexsort((rank[rows], hashes))
    hashes, rows = hashes[order], rows[order]
    same = np.flatnonzero(np.diff(hashes) == 0)
    begins = np.flatnonzero(np.append(True, np.diff(hashes) != 0)[: len(rows)])
    first = rows[begins[np.searchsorted(begins, same, side="right") - 1]]
    left, right = np.concatenate([rows[same], first]), np.tile(rows[same + 1], 2)
    return np.unique(np.minimum(left, right) * len(rank) + np.maximum(left, right))


def _bucket(sketches: Hashes, bucket: int) -> tuple[Hashes, Positions]:
    """The hashes of a bucket, and whose they are. Their last bits decide: the first of the smallest are all zero."""
    hashes, rows = [], []
    for start in range(0, len(sketches), _ROWS):
        part = sketches[start : start + _ROWS]
        found = np.nonzero((part % np.uint64(BUCKETS) == bucket) & (part != 0))
        hashes.append(part[found])
        rows.append(found[0] + start)
    return np.concatenate(hashes), np.concatenate(rows)


def _columns(keys: _Pairs, n: int) -> _Pairs:
    """Pairs of numbers below `n`, `(n_pairs, 2)`."""
    return np.column_stack(np.divmod(keys, n))
