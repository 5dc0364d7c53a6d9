"""Whether judgements, fates and training rows name the same texts, and whether a negative is never a positive.

Whole tables stay in Arrow; what is held in Python is a number for each passage and query.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cards.verify.artefact import Artefact
from cards.verify.links import BrokenError, require
from foils.kinds import NO_NEGATIVES
from foils.texts import normalised, passage_text

Numbers = npt.NDArray[np.int64]


class _Passages(NamedTuple):
    """Passages of the corpus and generated ones: ids, texts as models read them, and texts without titles."""

    ids: pa.Array
    texts: pa.Array
    bare: pa.Array

    def forms(self, place: int) -> tuple[str, str]:
        """A passage's text and its text without title, both normalised."""
        return normalised(self.texts[place].as_py()), normalised(self.bare[place].as_py())


def check_references(artefact: Artefact) -> str:
    """Judgements and fates name queries and passages that are there; training rows hold their texts and no others.

    Raises:
        BrokenError: names the first thing that does not fit.
    """
    passages, queries = _passages(artefact), artefact.rows("train-queries")
    judged = artefact.rows("train-qrels")
    asked, answers = _places(judged["query-id"], queries["_id"]), _places(judged["corpus-id"], passages.ids)
    lost = np.flatnonzero((asked < 0) | (answers < 0))
    if len(lost):
        row = judged.slice(int(lost[0]), 1).to_pylist()[0]
        raise BrokenError(f"judgement of {row['query-id']!r} and {row['corpus-id']!r}: not both are there")
    positives: dict[int, list[int]] = {}
    for query, passage in zip(asked.tolist(), answers.tolist(), strict=True):
        positives.setdefault(query, []).append(passage)
    kinds = artefact.manifest().kinds()
    kept: Numbers = np.array(sorted(positives), np.int64)
    for kind in sorted(kinds, key=lambda kind: kind == NO_NEGATIVES):  # it has the queries of the others
        chosen, columns = _chosen(artefact, kind, passages, queries)
        kept = chosen if columns else kept
        require(positives.keys() >= set(kept.tolist()), f"{kind}: a query that it has a row of has no judgement")
        places = {"positive": np.array([positives[query][0] for query in kept.tolist()], np.int64), **columns}
        expected = {"query": _whole(queries["text"].take(kept))}
        expected |= {name: passages.texts.take(found) for name, found in places.items() if (found >= 0).all()}
        rows = artefact.rows(kind)
        same = set(rows.column_names) == {"query", *places} == expected.keys()
        same = same and all(_whole(rows[name]).equals(texts) for name, texts in expected.items())
        require(same, f"{kind}: its rows are not those that judgements and fates name, row by row")
        for row, query in enumerate(kept.tolist()):
            if _shares_text([int(found[row]) for found in columns.values()], positives[query], passages):
                asked_for = queries["text"][query].as_py()
                raise BrokenError(f"{kind}: a negative of {asked_for!r} has the text of one of its positives")
    return f"{len(judged)} judgements; {len(kinds)} kinds share queries and positives; no negative is a positive"


def _shares_text(negatives: list[int], positives: list[int], passages: _Passages) -> bool:
    """Whether a negative has the text of a positive, with titles or without."""
    known = [passages.forms(place) for place in positives]
    texts, bare = {text for text, _ in known}, {without for _, without in known}
    forms = [passages.forms(place) for place in negatives]
    return any(text in texts or without in texts or text in bare for text, without in forms)


def _passages(artefact: Artefact) -> _Passages:
    """Reads a data set's passages. A generated one has no title: without titles it may be its positive's text."""
    tables = [artefact.rows("corpus").select(["_id", "title", "text"])]
    if "generated" in artefact.manifest().configs:
        tables.append(artefact.rows("generated").select(["_id", "text"]))
    rows = pa.concat_tables(tables, promote_options="default")
    ids, titles, bare = (_whole(rows[name]) for name in ("_id", "title", "text"))
    joined = (passage_text(title.as_py(), text.as_py()) for title, text in zip(titles, bare, strict=True))
    return _Passages(ids, pa.array(joined, pa.large_string()), bare)


def _chosen(
    artefact: Artefact, kind: str, passages: _Passages, queries: pa.Table
) -> tuple[Numbers, Mapping[str, Numbers]]:
    """The queries of a kind in their order, and column -> the negative of each, by its fates; -1 for none."""
    fates = artefact.rows("fates")
    fates = fates.filter(pc.and_(pc.equal(fates["kind"], kind), pc.starts_with(fates["fate"], "negative_")))
    asked, chosen = _places(fates["query-id"], queries["_id"]), _places(fates["corpus-id"], passages.ids)
    there = (asked >= 0).all() and (chosen >= 0).all()
    require(there, f"{kind}: fates name a query or a passage that is not there")
    kept = np.unique(asked)
    columns: dict[str, Numbers] = {}
    for column, query, passage in zip(fates["fate"].to_pylist(), asked.tolist(), chosen.tolist(), strict=True):
        columns.setdefault(column, np.full(len(kept), -1))[np.searchsorted(kept, query)] = passage
    return kept, columns


def _places(values: pa.ChunkedArray, among: pa.ChunkedArray | pa.Array) -> Numbers:
    """Where each value stands among others; -1 for one that does not."""
    found: Numbers = pc.fill_null(pc.index_in(_whole(values), _whole(among)), -1).to_numpy().astype(np.int64)
    return found


def _whole(texts: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Texts in one piece, of a type that holds any number of them."""
    cast = pc.cast(texts, pa.large_string())
    return cast.combine_chunks() if isinstance(cast, pa.ChunkedArray) else cast
