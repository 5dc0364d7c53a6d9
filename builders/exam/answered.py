"""People's own queries without judgements: the LLM judges what the build's own retrieval finds for them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.context import Context
from builders.corpus import drops_table
from builders.dataset.read import PAIRS
from builders.exam import STAGE
from builders.hashing import keyed_hash
from builders.llm.config import LlmConfig
from builders.negatives.dense import DenseConfig, search
from builders.queries import TABLE
from builders.queries.labelled import Labelled
from builders.scores.llm_judge import EXAM_STAGE, NO_VERDICT, LlmJudgeConfig, judge, quoting, rule_of
from builders.scores.pairs import locate
from foils.errors import UserError
from foils.manifest import Judge

DEPTH = 10
"""Hits of each system and query that are judged."""
Pair = tuple[str, str]
"""Ids of a query and a passage."""


class Answered(NamedTuple):
    """People's queries with an LLM's judgements.

    Attributes:
        own: the queries that have an answer; their judgements are all verdicts.
        judge: who judged, and how often it calls a passage at random relevant.
        verdicts: `schema.JUDGEMENTS`.
    """

    own: Labelled
    judge: Judge
    verdicts: pa.Table


def answered(own: Labelled, llm: LlmConfig, how: LlmJudgeConfig, dense: DenseConfig, context: Context) -> Answered:
    """Has the LLM judge the best hits of BM25, and of the build's embedding model if it has one.

    Each query is also asked about with a passage at random. Known positives do not exist, so how many answers the judge
    misses is not known.

    Args:
        own: as `labelled.unjudged` reads them.
        llm: the one that `context` asks, identified.
        how: the recipe's for other judgements.
        dense: the embedding model.
        context: with the exam's LLM and seed.

    Raises:
        UserError: no query has an answer, or hits are called relevant no more often than passages at random.
    """
    config, systems = quoting(how), 1 if dense.model is None else 2
    pool, at_random = hits(own.queries, dense, context), _at_random(own.queries, context)
    pairs = table_of([*pool, *sorted({*at_random} - {*pool})])
    scores, quotes = judge(locate(pairs, own.queries, context.corpus), context, config, EXAM_STAGE)
    of = ["pool"] * len(pool) + ["random"] * (len(pairs) - len(pool))
    grades = pa.array(scores, pa.float64(), from_pandas=True).cast(pa.int32())
    verdicts = pa.table([*pairs.columns, of, grades, quotes], schema=schema.JUDGEMENTS)
    of_hits, of_others = scores[: len(pool)], scores[len(pool) :]
    found = Judge(
        judge="llm",
        model="@".join(filter(None, (llm.model, llm.revision))),
        rule=rule_of(config),
        systems=systems,
        pairs=int((of_hits >= 0).sum()),
        relevant=int((of_hits == 1).sum()),
        false_quotes=sum(quote != "" for score, quote in zip(of_hits.tolist(), quotes, strict=False) if score == 0),
        failed=int(np.isnan(of_hits).sum()),
        random=int((of_others >= 0).sum()),
        alarms=int((of_others == 1).sum()),
    )
    if found.relevant * max(found.random, 1) <= found.alarms * found.pairs:
        raise UserError(
            f"exam.source: {found.model} calls {found.relevant} of {found.pairs} hits relevant and {found.alarms} of "
            f"{found.random} passages at random, so it judges no better than chance; name another LLM with [exam.llm], "
            "or add judgements (qrels/test.tsv)"
        )
    return Answered(_with(own, verdicts.slice(0, len(pool))), found, verdicts)


def table_of(pairs: Iterable[Pair]) -> pa.Table:
    """Pairs as `PAIRS`."""
    return pa.Table.from_pylist([dict(zip(PAIRS.names, pair, strict=True)) for pair in pairs], PAIRS)


def hits(queries: pa.Table, dense: DenseConfig, context: Context) -> list[Pair]:
    """The best hits of BM25 for each query, and of an embedding model where there is one, each pair once."""
    names, texts = queries["_id"].to_pylist(), queries["text"].to_pylist()
    ranked = zip(names, context.bm25.search(texts, DEPTH), strict=True)
    found = [(query, passage) for query, best in ranked for passage, _ in best]
    if dense.model is not None:
        nearest = search(queries, context, dense, DEPTH)
        asked, passages = (names[number] for number in nearest.query_numbers), context.corpus.ids_at(nearest.positions)
        found += zip(asked, passages.to_pylist(), strict=True)
    return [*dict.fromkeys(found)]


def _at_random(queries: pa.Table, context: Context) -> list[Pair]:
    names = queries["_id"].to_pylist()
    places = [keyed_hash(context.seed, STAGE, "random", query) % len(context.corpus) for query in names]
    return [*zip(names, context.corpus.ids_at(np.array(places)).to_pylist(), strict=True)]


def _with(own: Labelled, verdicts: pa.Table) -> Labelled:
    """The queries that have an answer, with all verdicts; a row's positive is the first relevant hit."""
    judged = verdicts.drop_null().select(schema.QRELS.names)
    relevant = judged.filter(pc.equal(judged["score"], 1)).to_pylist()
    first = {row["query-id"]: row["corpus-id"] for row in reversed(relevant)}
    rows = own.queries.to_pylist()
    silent = {*verdicts["query-id"].to_pylist()} - {*judged["query-id"].to_pylist()}
    why = {row["_id"]: NO_VERDICT if row["_id"] in silent else "no-answer-found" for row in rows}
    lost = [(row["_id"], why[row["_id"]], row["text"]) for row in rows if row["_id"] not in first]
    kept = [{**row, "corpus-id": first[row["_id"]]} for row in rows if row["_id"] in first]
    return own._replace(
        queries=pa.Table.from_pylist(kept, TABLE),
        qrels=judged.filter(pc.is_in(judged["query-id"], value_set=pa.array(first, pa.string()))),
        drops=pa.concat_tables([own.drops, drops_table(STAGE, lost)]),
        judged=len(rows),
        with_positive=len(kept),
    )
