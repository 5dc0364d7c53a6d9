"""A build's LLM stages on some of its rows, in the build's own order."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
from msgspec.structs import replace

from builders.context import Context
from builders.exam import STAGE as EXAM
from builders.exam.answered import hits, table_of
from builders.exam.written import write_exam
from builders.llm.client import Llm
from builders.llm.ledger import Ledger, bytes_of
from builders.llm.messages import TaskT
from builders.mining import MINERS, SCORERS
from builders.negatives import config_of
from builders.negatives.dense import DenseConfig
from builders.queries import STAGE
from builders.queries.round_trip import retrieval_of, round_trip
from builders.queries.written import write
from builders.recipe import LLM_JUDGE, WRITTEN, BuildRecipe
from builders.scores.llm_judge import EXAM_STAGE, judge, quoting
from builders.scores.pairs import locate

ROUND_TRIP = "round trip"


class Tried(NamedTuple):
    """What a stage made of its rows.

    Attributes:
        stage: of the build.
        asked: rows, or texts, that it was to make.
        found: those that it made.
        drops: `schema.DROPS`.
    """

    stage: str
    asked: int
    found: pa.Table
    drops: pa.Table


def paid_before(llm: Llm, config: BuildRecipe, passages: pa.Table, context: Context) -> Ledger:
    """What the store has of a build: its rows go as far as stored answers take them, and nothing is asked."""
    ledger = Ledger(config.llm.prices)

    def converse(
        stage: str, tasks: Iterable[TaskT], *, attempts: int, done: Callable[[TaskT], object], **_: int
    ) -> None:
        for task in tasks:
            for attempt in range(attempts):
                request = task.request(attempt)
                answer = llm.stored(request)
                if answer is None:
                    task.refused("not in the store")
                    break
                ledger.add(stage, answer, new=False, prompt_bytes=bytes_of(request.messages))
                if task.take(answer) is None:
                    break
            done(task)

    context.converse = converse
    for _ in try_stages(config, passages, context):
        pass
    return ledger


def try_exam(config: BuildRecipe, passages: pa.Table, context: Context, own: pa.Table | None) -> Iterator[Tried]:
    """Has people's queries without judgements judged, each with BM25's first hit, and the exam's written for passages.

    Args:
        config: the recipe.
        passages: `schema.CORPUS`.
        context: asks the LLM.
        own: `queries.TABLE`; None where the exam has none, or they have judgements.
    """
    exam = config.exam
    if exam is None:
        return
    asking = context.asking(context.converse, exam.seed)
    if own is not None:
        pairs = table_of(dict(reversed(hits(own, DenseConfig(), asking))).items())
        verdicts, _ = judge(locate(pairs, own, asking.corpus), asking, quoting(config.negatives.llm_judge), EXAM_STAGE)
        if pairs.num_rows:
            yield Tried(EXAM_STAGE, pairs.num_rows, pairs.filter(pa.array(verdicts >= 0)), pairs.slice(0, 0))
    if exam.wanted:
        asked = context.corpus.positions(passages["_id"])
        found, _ = write_exam(asked, replace(exam, queries=len(asked)), config.queries, asking)
        yield Tried(EXAM, len(asked), *found)


def written_kinds(config: BuildRecipe) -> list[str]:
    """The recipe's kinds of negatives that cost calls."""
    return [kind for kind in config.negatives.kinds if kind in WRITTEN]


def try_stages(
    config: BuildRecipe, passages: pa.Table, context: Context, given: pa.Table | None = None, *, retrieves: bool = True
) -> Iterator[Tried]:
    """Runs the LLM's stages and the round trip, one at a time; those behind it only for queries that are accepted.

    Args:
        config: the recipe.
        passages: those that get a query, `schema.CORPUS`.
        context: asks the LLM.
        given: labelled queries, `queries.TABLE`, which take the place of the LLM's.
        retrieves: whether the round trip is made.
    """
    accepted = given
    if accepted is None:
        written = write(passages, config.queries, context)
        yield Tried(STAGE, passages.num_rows * config.queries.per_passage, *written)
        k = config.queries.round_trip_k if retrieves else 0
        kept = round_trip(written.table, retrieval_of(config.queries, context), k)
        yield Tried(ROUND_TRIP, written.table.num_rows, *kept)
        accepted = kept.table
    if not accepted.num_rows:
        return
    for kind in written_kinds(config):
        writer = config_of(config.negatives, kind)
        found = MINERS[kind](accepted, context, writer)
        yield Tried(kind, accepted.num_rows * writer.count, found.generated, found.drops)
    if LLM_JUDGE in config.scorers:
        pairs = accepted.select(["_id", "corpus-id"]).rename_columns(["query-id", "corpus-id"])
        judge = config_of(config.negatives, LLM_JUDGE)
        scores = SCORERS[LLM_JUDGE](pairs, accepted, context.corpus, context, judge)
        yield Tried(LLM_JUDGE, pairs.num_rows, scores.filter(scores["score"].is_valid()), scores.slice(0, 0))
