"""Whether judgements, fates and training rows name the same texts, and whether a negative is never a positive.

Whole tables stay in Arrow; what is held in Python is a number for each passage and query.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cards.verify.artefact import Artefact, read_config
from cards.verify.links import BrokenError
from foils.kinds import NO_NEGATIVES
from foils.texts import normalised, passage_text

Numbers = npt.NDArray[np.int64]
_BATCH = 1000


class _Passages(NamedTuple):
    """Passages of the corpus and generated ones: ids, texts as models read them, and texts without titles."""

    ids: pa.Array
    texts: pa.Array
    bare: pa.Array

    @classmethod
    def of(cls, artefact: Artefact) -> "_Passages":
        """Reads them; a generated passage has no title, so that without titles it may be its positive's text."""
        tables = [read_config(artefact, "corpus").select(["_id", "title", "text"])]
        if "generated" in artefact.manifest().configs:
            tables.append(read_config(artefact, "generated").select(["_id", "text"]))
        rows = pa.concat_tables(tables, promote_options="default")
        ids, titles, bare = (
            pc.cast(rows[name], pa.large_string()).combine_chunks() for name in ("_id", "title", "text")
        )
        joined = (passage_text(title.as_py(), text.as_py()) for title, text in zip(titles, bare, strict=True))
        return cls(ids, pa.array(joined, pa.large_string()), bare)

    def places(self, ids: pa.ChunkedArray) -> Numbers:
        """Where passages stand; -1 for one that is not there."""
        return _places(ids, self.ids)

    def forms(self, place: int) -> tuple[str, str]:
        """A passage's text and its text without title, both normalised."""
        return normalised(self.texts[place].as_py()), normalised(self.bare[place].as_py())


class _Kind(NamedTuple):
    """What fates say of a kind: its queries, and column -> the passage of each query."""

    queries: Numbers
    columns: dict[str, Numbers]


def check_references(artefact: Artefact) -> str:
    """Judgements and fates name queries and passages that are there; training rows hold their texts and no others.

    Raises:
        BrokenError: names the first thing that does not fit.
    """
    passages, queries = _Passages.of(artefact), read_config(artefact, "queries")
    judged = read_config(artefact, "default")
    asked, answers = _places(judged["query-id"], queries["_id"]), passages.places(judged["corpus-id"])
    lost = np.flatnonzero((asked < 0) | (answers < 0))
    if len(lost):
        row = judged.slice(int(lost[0]), 1).to_pylist()[0]
        raise BrokenError(f"judgement of {row['query-id']!r} and {row['corpus-id']!r}: not both are there")
    positives: dict[int, list[int]] = {}
    for query, passage in zip(asked.tolist(), answers.tolist(), strict=True):
        positives.setdefault(query, []).append(passage)
    kinds = artefact.manifest().training_configs()
    kept: Numbers = np.array(sorted(positives), np.int64)
    for kind in sorted(kinds, key=lambda kind: kind == NO_NEGATIVES):  # it has the queries of the others
        found = _chosen(artefact, kind, passages, queries["_id"])
        kept = found.queries if found.columns else kept
        if not set(kept.tolist()) <= positives.keys():
            raise BrokenError(f"{kind}: a query that it has a row of has no judgement")
        first = np.array([positives[query][0] for query in kept.tolist()], np.int64)
        _check_rows(artefact, kind, queries["text"].take(kept), passages.texts.take(first), passages, found)
        _check_negatives(kind, found, positives, passages, queries)
    return f"{len(judged)} judgements; {len(kinds)} kinds share queries and positives; no negative is a positive"


def _check_rows(
    artefact: Artefact, kind: str, queries: pa.Array, positives: pa.Array, passages: _Passages, found: _Kind
) -> None:
    """Training rows are what judgements and fates name."""
    rows = read_config(artefact, kind)
    for row in _rows(rows):
        if any(normalised(row[column]) == normalised(row["positive"]) for column in row if column[:3] == "neg"):
            raise BrokenError(f"{kind}: a negative of {row['query']!r} is its positive")
    expected = {"query": queries, "positive": positives}
    whole = all((places >= 0).all() for places in found.columns.values())
    if whole:
        expected |= {column: passages.texts.take(places) for column, places in found.columns.items()}
    same = set(rows.column_names) == set(expected) and all(
        pc.cast(rows[name], pa.large_string()).combine_chunks().equals(_joined(texts))
        for name, texts in expected.items()
    )
    if not (whole and same):
        raise BrokenError(f"{kind}: its rows are not those that judgements and fates name, row by row")


def _check_negatives(
    kind: str, found: _Kind, positives: dict[int, list[int]], passages: _Passages, queries: pa.Table
) -> None:
    """A negative has the text of none of its query's positives, with titles or without."""
    for row, query in enumerate(found.queries.tolist()):
        known = [passages.forms(place) for place in positives[query]]
        chosen = [passages.forms(int(places[row])) for places in found.columns.values()]
        texts, bare = {text for text, _ in known}, {text for _, text in known}
        if any(text in texts or without in texts or text in bare for text, without in chosen):
            asked = queries["text"][query].as_py()
            raise BrokenError(f"{kind}: a negative of {asked!r} has the text of one of its positives")


def _chosen(artefact: Artefact, kind: str, passages: _Passages, queries: pa.ChunkedArray) -> _Kind:
    """The negatives of a kind by its fates, in the order of queries."""
    fates = read_config(artefact, "fates")
    fates = fates.filter(pc.and_(pc.equal(fates["kind"], kind), pc.starts_with(fates["fate"], "negative_")))
    asked, chosen = _places(fates["query-id"], queries), passages.places(fates["corpus-id"])
    if (asked < 0).any() or (chosen < 0).any():
        raise BrokenError(f"{kind}: fates name a query or a passage that is not there")
    kept = np.unique(asked)
    columns: dict[str, Numbers] = {}
    for column, query, passage in zip(fates["fate"].to_pylist(), asked.tolist(), chosen.tolist(), strict=True):
        columns.setdefault(column, np.full(len(kept), -1))[np.searchsorted(kept, query)] = passage
    return _Kind(kept, columns)


def _places(values: pa.ChunkedArray, among: pa.ChunkedArray | pa.Array) -> Numbers:
    found = pc.index_in(pc.cast(values, pa.large_string()), pc.cast(among, pa.large_string()))
    places: Numbers = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    return places


def _joined(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    return pc.cast(whole, pa.large_string())


def _rows(table: pa.Table) -> Iterator[dict[str, str]]:
    for batch in table.to_batches(_BATCH):
        yield from batch.to_pylist()
