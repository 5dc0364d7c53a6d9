"""Labelled queries: the user's own, with judgements, in place of the LLM's.

labelled = read(config, corpus, seed)

A row's positive is the passage with the highest score. All others that were judged relevant are known too, so that none
becomes a negative. A passage that was dropped as a repeat is known by the id of the one that stays.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.corpus import DUPLICATE, SAME_TEXT, Corpus, drops_table, sample
from builders.hashing import hashed
from builders.passages import Passages
from builders.queries import STAGE, TABLE
from builders.queries.config import QueriesConfig
from foils.beir import judgements, part, qrels_files, records
from foils.errors import UserError
from foils.provenance import sha256_file
from foils.texts import normalised

Drop = tuple[str, str, str]
"""Id, reason and detail of what is left out."""
_PAIR = ["query-id", "corpus-id"]


class Labelled(NamedTuple):
    """Queries and what is known of them.

    Attributes:
        queries: `queries.TABLE`, in the file's order; `corpus-id` is the passage with the highest score,
            ties broken by id.
        qrels: `schema.QRELS`: all positives of these queries, or the rows' own alone where the others are held out.
        drops: `schema.DROPS`: queries that have no positive, and judgements of the others that make no known positive.
        judged: how many queries the split judges.
        with_positive: how many of them have a positive, before `queries.sample`.
        files: file -> SHA-256 (hex) of what was read.
    """

    queries: pa.Table
    qrels: pa.Table
    drops: pa.Table
    judged: int
    with_positive: int
    files: Mapping[str, str]

    def about(self, config: QueriesConfig) -> dict[str, object]:
        """Where they come from, as manifests keep it."""
        # As with the corpus, a path means nothing to a reader of the card elsewhere; the hashes do.
        name = Path(config.source or "").resolve().name
        return {"source": name, "split": config.split, "files": dict(self.files)}

    def qrels_of(self, queries: pa.Table) -> pa.Table:
        """The positives of some of the queries."""
        return self.qrels.filter(_among(self.qrels["query-id"], queries["_id"]))


def read(config: QueriesConfig, corpus: Corpus, seed: int) -> Labelled:
    """Reads the queries and judgements that a recipe names, and fits them to the corpus.

    Raises:
        UserError: the folder or a file of it is missing or malformed, a query's id occurs twice, or no judgement
            above 0 is of a query and a passage that are there.
    """
    folder = Path(config.source or "")
    asked_in, judged_in = part(folder, "queries", "queries"), qrels_files(folder, config.split, "queries")
    found = _of_originals(_judgements(judged_in), corpus.drops)
    judged = _once(found)
    asked = _judged_queries(asked_in, judged["query-id"])
    here = np.asarray(Passages(corpus.passages).positions(judged["corpus-id"]) >= 0)
    positives = judged.filter(pa.array(here & (judged["score"].to_numpy() > 0)))
    table, drops = _with_positive(asked, _best(positives), judged)
    if not table.num_rows:
        raise UserError(
            f"queries {config.source}: no judgement above 0 in {judged_in[0].name} is of a query in {asked_in[0].name} "
            f"and a passage of corpus {corpus.source} (the first is of query {judged['query-id'][0].as_py()!r} and "
            f"passage {judged['corpus-id'][0].as_py()!r}); wanted queries and corpus of the same collection"
        )
    chosen = sample(table, config.sample, seed)
    if config.hold_out_positives:
        own = chosen["corpus-id"].take(pc.index_in(positives["query-id"], value_set=chosen["_id"]))
        positives = positives.filter(pc.equal(positives["corpus-id"], own))
    qrels = _with_twins(positives, asked)
    qrels = qrels.filter(_among(qrels["query-id"], chosen["_id"]))
    lost = judged.filter(_among(judged["query-id"], chosen["_id"]))
    lost = lost.filter(pc.invert(_among(_pairs(lost), _pairs(qrels))))
    drops += _judgement_drops(lost, corpus)
    outdone = _outdone(found, judged).to_pylist()
    drops += [(_pair_id(row), "judged-higher-too", f"score {row['score']}") for row in outdone]
    return Labelled(
        chosen,
        qrels,
        drops_table(STAGE, drops),
        pc.count_distinct(judged["query-id"]).as_py(),
        table.num_rows,
        {file.relative_to(folder).as_posix(): sha256_file(file) for file in [*asked_in, *judged_in]},
    )


def _judgements(files: Sequence[Path]) -> pa.Table:
    """`schema.QRELS` as the files have them."""
    rows = [*zip(*(row for file in files for row in judgements(file)), strict=True)]
    if not rows:
        raise UserError(f"qrels {files[0]}: holds no judgements; set queries.split to another, or fill the file")
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(rows, schema.QRELS, strict=True)], schema.QRELS
    )


def _of_originals(judged: pa.Table, drops: pa.Table) -> pa.Table:
    """Judgements; those of a repeated passage are of the one that stays."""
    repeats = drops.filter(pc.equal(drops["reason"], DUPLICATE))
    if repeats.num_rows:
        at = pc.index_in(judged["corpus-id"], value_set=repeats["id"])
        originals = pc.utf8_slice_codeunits(repeats["detail"], start=len(SAME_TEXT)).take(at)
        judged = judged.set_column(1, "corpus-id", pc.coalesce(originals, judged["corpus-id"]))
    return judged


def _once(judged: pa.Table) -> pa.Table:
    """Judgements, each pair once with its highest score."""
    once = judged.group_by(_PAIR, use_threads=False).aggregate([("score", "max")])
    return pa.table([once[name].combine_chunks() for name in (*_PAIR, "score_max")], schema=schema.QRELS)


def _outdone(stated: pa.Table, judged: pa.Table) -> pa.Table:
    """Judgements of pairs that are judged again, with a higher score."""
    highest = judged["score"].take(pc.index_in(_pairs(stated), value_set=_pairs(judged)))
    return stated.filter(pc.less(stated["score"], highest))


def _with_twins(positives: pa.Table, asked: pa.Table) -> pa.Table:
    """Positives, and for queries of one text those of all of them: what answers one of them answers the others.

    Args:
        positives: `schema.QRELS`, each pair once.
        asked: `schema.QUERIES`.
    """
    texts = pa.array(hashed(text for chunk in asked["text"].chunks for text in map(normalised, chunk.to_pylist())))
    counts = pc.value_counts(texts)
    shared = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    twins = pa.table({"query-id": asked["_id"], "same": texts}).filter(_among(texts, shared))
    if not twins.num_rows:
        return positives
    answers = positives.join(twins, "query-id", join_type="inner", use_threads=False).drop_columns("query-id")
    more = answers.join(twins, "same", join_type="inner", use_threads=False).select(schema.QRELS.names)
    return _once(pa.concat_tables([positives, more]))


def _judged_queries(files: Sequence[Path], judged: pa.ChunkedArray) -> pa.Table:
    """The queries that were judged (`schema.QUERIES`), in the files' order."""
    wanted = set(judged.to_pylist())
    asked = [(row.id, (row.text or "").strip()) for row in records(files, "queries") if row.id in wanted]
    rows = [{"_id": query_id, "text": text if normalised(text) else ""} for query_id, text in asked]
    return pa.Table.from_pylist(rows, schema.QUERIES)


def _best(positives: pa.Table) -> pa.Table:
    """Each query's positive with the highest score; ties broken by id."""
    keys = [("query-id", "ascending"), ("score", "descending"), ("corpus-id", "ascending")]
    ordered = positives.take(pc.sort_indices(positives, sort_keys=keys))
    codes = pc.index_in(ordered["query-id"], value_set=pc.unique(ordered["query-id"])).to_numpy()
    return ordered.filter(pa.array(np.diff(codes, prepend=-1) != 0))


def _with_positive(asked: pa.Table, best: pa.Table, judged: pa.Table) -> tuple[pa.Table, list[Drop]]:
    """Queries as rows of `queries.TABLE`, and the drops of those that cannot be."""
    positives = best["corpus-id"].take(pc.index_in(asked["_id"], value_set=best["query-id"]))
    empty = pc.equal(asked["text"], "")
    drops = [(query_id, "empty", "") for query_id in asked["_id"].filter(empty).to_pylist()]
    why = "no passage in the corpus is judged relevant to it: "
    unanswered = asked.filter(pc.and_(pc.invert(empty), pc.is_null(positives))).to_pylist()
    drops += [(row["_id"], "no-positive", why + row["text"]) for row in unanswered]
    all_judged = pc.unique(judged["query-id"])
    missing = all_judged.filter(pc.invert(_among(all_judged, asked["_id"]))).to_pylist()
    drops += [(query_id, "query-not-found", "judged, but not among the queries") for query_id in missing]
    rows = pa.table([*asked.columns, positives], schema=TABLE)
    return rows.filter(pc.and_(pc.invert(empty), pc.is_valid(positives))), drops


def _judgement_drops(lost: pa.Table, corpus: Corpus) -> Iterator[Drop]:
    """Why each judgement did not become a known positive."""
    here, dropped = (_among(lost["corpus-id"], ids) for ids in (corpus.passages["_id"], corpus.drops["id"]))
    for row, is_here, was_dropped in zip(lost.to_pylist(), here.to_pylist(), dropped.to_pylist(), strict=True):
        if is_here:
            reason = "held-out" if row["score"] > 0 else "judged-not-relevant"
        else:
            reason = "judged-passage-was-dropped" if was_dropped else "judged-passage-not-in-corpus"
        yield _pair_id(row), reason, f"score {row['score']}"


def _pair_id(row: Mapping[str, object]) -> str:
    return f"{row['query-id']} {row['corpus-id']}"


def _pairs(judged: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(judged["query-id"], judged["corpus-id"], "\n")


def _among(values: pa.ChunkedArray, of: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_in(values, value_set=of)
