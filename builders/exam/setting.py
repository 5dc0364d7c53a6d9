"""Sets the exam: its passages, queries and judgements, and what they keep out of training.

exam = set_exam(config, corpus, own, barred, context, funnel)
left, drops = exam.without_repeats(queries, qrels)
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from builders import schema
from builders.context import Context
from builders.corpus import Corpus, drops_table
from builders.exam import STAGE
from builders.exam.answered import answered
from builders.exam.config import ExamConfig
from builders.exam.groups import Groups, grouped
from builders.exam.own import own_queries
from builders.exam.split import MOST, in_turn
from builders.exam.written import write_exam
from builders.funnel import ANOTHER_LLM, Funnel
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import TEXTS, EvaluationSet
from builders.leakage.overlap import Overlap
from builders.llm.client import identified
from builders.llm.config import LlmConfig
from builders.llm.ledger import Ledger
from builders.negatives.dense import DenseConfig, search
from builders.passages import Passages, Positions
from builders.queries import Queries
from builders.queries.labelled import Labelled
from builders.queries.written import assign
from builders.recipe import BuildRecipe
from builders.selection.stored import own_positives
from foils.errors import UserError
from foils.languages import length
from foils.manifest import Exam as ExamRecord
from foils.manifest import Judge
from foils.texts import overlap
from foils.words import shortened

logger = logging.getLogger(__name__)

OWN = "default/own"
"""Judgements of people's own queries beside an LLM's: split `own` of `default`."""
REPEAT = LeakageConfig(ngram=3, ngram_share=1.0)
"""A training query repeats one of the exam if they are equal, or if it has 70 % of that one's runs of three words."""


class Exam(NamedTuple):
    """An exam.

    Attributes:
        queries: `schema.QUERIES`.
        qrels: configuration -> its judgements, `schema.QRELS`.
        groups: of all passages.
        members: `schema.EXAM_GROUPS`.
        drops: `schema.DROPS`.
        record: the manifest's.
        judge: who judged people's queries, where they came without judgements, with all verdicts.
        ledger: what the exam's own LLM was asked; None where the recipe's wrote it.
    """

    queries: pa.Table
    qrels: dict[str, pa.Table]
    groups: Groups
    members: pa.Table
    drops: pa.Table
    record: ExamRecord
    judge: tuple[Judge, pa.Table] | None = None
    ledger: Ledger | None = None

    def training(self, passages: pa.Table) -> pa.Table:
        """The passages that training queries may be written for."""
        return passages.filter(pc.invert(pc.is_in(passages["_id"], value_set=self.members["corpus-id"])))

    def without_repeats(self, queries: pa.Table, qrels: pa.Table) -> Queries:
        """Training queries without those that repeat one of the exam, or that one of its passages answers.

        Args:
            queries: `queries.TABLE`.
            qrels: their known positives, `schema.QRELS`.
        """
        index = Overlap([EvaluationSet(STAGE, "", self.queries, TEXTS.empty_table())], REPEAT)
        hits = index.hits("query", queries["_id"].combine_chunks(), queries["text"].combine_chunks()).to_pylist()
        answered = qrels.filter(pc.is_in(qrels["corpus-id"], value_set=self.members["corpus-id"])).to_pylist()
        lost = {row["query-id"]: ("exam-passage", row["corpus-id"]) for row in answered}
        lost |= {hit["id"]: ("exam-query", hit["evaluation-id"]) for hit in hits}
        drops = drops_table(STAGE, [(each, *lost[each]) for each in queries["_id"].to_pylist() if each in lost])
        return Queries(queries.filter(pc.invert(pc.is_in(queries["_id"], value_set=drops["id"]))), drops)

    @property
    def kept_out(self) -> pa.Table:
        """`schema.DROPS` of the passages that may not be negatives."""
        ids = [] if self.record.as_negatives else self.members["corpus-id"].to_pylist()
        return drops_table(STAGE, [(each, "passage-in-exam", "exam.as_negatives is false") for each in ids])


def set_aside(about: ExamConfig | None, corpus: Corpus, barred: Sequence[str] = ()) -> tuple[int, int, pa.Table]:
    """How an exam cuts a corpus, as far as is known without its LLM.

    Returns:
        The exam's queries, how many of them the LLM has yet to judge, and the passages that are left for training.

    Raises:
        UserError: as `own_queries`, or the corpus is too small.
    """
    if about is None:
        return 0, 0, corpus.passages
    passages, own = Passages(corpus.passages), own_queries(about, corpus)
    groups, judged = grouped(passages, corpus.documents), passages.positions(own.qrels["corpus-id"] if own else [])
    held, given = int(np.isin(groups.of, groups.of[judged]).sum()), own.queries.num_rows if own else 0
    _check_held(about, groups, held, given)
    taken = np.append(passages.positions(list(barred)), judged)
    asked = _turn(about, groups, taken, held, passages)[: about.wanted] if about.wanted else judged
    is_free = np.isin(groups.of, groups.of[np.append(asked, judged)], invert=True)
    return about.wanted or given, given if own and own.is_unjudged else 0, corpus.passages.filter(pa.array(is_free))


def set_exam(
    config: BuildRecipe, corpus: Corpus, own: Labelled | None, barred: Sequence[str], context: Context, funnel: Funnel
) -> Exam:
    """Sets the exam that a recipe asks for, before any training query is written.

    Args:
        config: with its `[exam]`.
        corpus: cleaned.
        own: people's own queries, where `exam.source` names them.
        barred: ids of passages whose groups belong to training, as labelled training queries are answered by them.
        context: with the exam's LLM and seed.
        funnel: gets the steps of its queries.

    Raises:
        UserError: the corpus is too small, or no query is usable.
    """
    about, judge = config.exam or ExamConfig(), None
    groups, taken, held = grouped(context.corpus, corpus.documents, context), context.corpus.positions(list(barred)), 0
    side, sides = partial(_side, config, groups, context), list[Exam]()
    unfit = schema.DROPS.empty_table()
    if own is not None and own.is_unjudged:
        unfit = own.drops
        if about.wanted:  # what cannot be written beside them is noticed before they are judged
            _turn(about, groups, taken, 0, context.corpus)
        by = identified(about.llm or config.llm)
        own, *judge = answered(own, by, config.negatives.llm_judge, _dense(config), context)
    if own is not None:
        lost = own.drops.slice(unfit.num_rows)
        funnel.step("exam queries judged", own.judged, unfit)
        funnel.step("exam queries with a positive in the corpus", own.with_positive, lost, own.judged)
        funnel.step("exam queries of people" if about.wanted else "exam queries", own.queries.num_rows)
        author: dict[str, Any] = {"source": Path(about.source or "").resolve().name, "llm": None, "prompts": {}}
        sides = [side(Queries(own.queries, own.drops), own.qrels, author)]
        taken, held = np.append(taken, _answers(own.qrels, context)), sides[0].members.num_rows
        _check_held(about, groups, held, own.judged if judge else own.queries.num_rows)
    if about.wanted:
        written = _written(config, groups, taken, held, context, funnel)
        author = {"source": "llm", **_author(about, config.llm, written.table)}
        sides.insert(0, side(written, own_positives(written.table), author))
    exam = sides[0] if len(sides) == 1 else _beside(*sides)
    kept_out = drops_table(STAGE, [(each, "exam-group", "") for each in exam.members["corpus-id"].to_pylist()])
    funnel.step("passages left for training", len(groups.of) - len(kept_out), kept_out, len(groups.of))
    return exam if judge is None else exam._replace(judge=tuple(judge))


def _answers(qrels: pa.Table, context: Context) -> Positions:
    """The passages that are judged relevant."""
    return context.corpus.positions(qrels.filter(pc.greater(qrels["score"], 0))["corpus-id"])


def _side(
    config: BuildRecipe, groups: Groups, context: Context, asked: Queries, qrels: pa.Table, author: Mapping[str, Any]
) -> Exam:
    """An exam of an LLM's queries or of people's, with the groups of the passages that answer them."""
    about, (queries, drops) = config.exam or ExamConfig(), asked
    taken = np.unique(groups.of[_answers(qrels, context)])
    members = np.flatnonzero(np.isin(groups.of, taken))
    record = ExamRecord(
        queries=queries.num_rows,
        groups=len(taken),
        passages=len(members),
        as_negatives=about.as_negatives,
        seed=about.seed,
        drops=dict(Counter(drops["reason"].to_pylist()).most_common()),
        **author,
        **_hardness(config, queries, qrels, context),
    )
    table = pa.table([context.corpus.ids_at(members), groups.name_of(members)], schema=schema.EXAM_GROUPS)
    return Exam(queries.select(["_id", "text"]), {"default": qrels}, groups, table, drops, record)


def _beside(exam: Exam, own: Exam) -> Exam:
    """An exam with people's own queries as a second split."""
    return exam._replace(
        queries=pa.concat_tables([exam.queries, own.queries]),
        qrels={**exam.qrels, OWN: own.qrels["default"]},
        members=pa.concat_tables([exam.members, own.members]),
        drops=pa.concat_tables([exam.drops, own.drops]),
        record=replace(exam.record, own=own.record),
    )


def _author(about: ExamConfig, llm: LlmConfig, queries: pa.Table) -> dict[str, Any]:
    """The LLM that wrote the queries, and how many it wrote by which prompt."""
    by, weights = identified(about.llm or llm), about.weights()
    types = Counter(assign(weights, about.seed, each) for each in queries["_id"].to_pylist())
    return {"llm": "@".join(filter(None, (by.model, by.revision))), "prompts": dict(sorted(types.items()))}


def _check_held(about: ExamConfig, groups: Groups, held: int, queries: int) -> None:
    """Refuses people's own queries that are about too much of the corpus.

    Raises:
        UserError: see above.
    """
    if held > MOST * len(groups.of):
        raise UserError(
            f"exam.source {about.source}: its judged passages belong to groups of {held} passages, and at most half of "
            f"the {len(groups.of)} may be the exam's; set exam.sample lower than {queries}"
        )


def _turn(about: ExamConfig, groups: Groups, taken: Positions, held: int, passages: Passages) -> Positions:
    """As `in_turn`.

    Raises:
        UserError: fewer passages are free than queries are wanted.
    """
    turn = in_turn(passages, groups, taken, about.seed, about.wanted, held)
    if len(turn) < about.wanted:
        there = f"exam.queries {about.wanted}: the corpus has {len(groups.of)} passages in {len(groups.sizes)} groups"
        there += f", {held} of them for exam.source" if held else ""
        if len(turn):
            most = f"the exam may have {len(turn)} passages; set it to {len(turn)} or lower, or take more passages"
            raise UserError(f"{there}, and {most}")
        largest = f"the largest, that of {shortened(groups.names[groups.sizes.argmax()].as_py())!r}, has more than half"
        is_barred = len(np.unique(groups.of[taken])) == len(groups.sizes)
        why = "labelled queries are answered by all of them" if is_barred else largest
        remedy = "name each passage's document with corpus.group_column, or leave [exam] out"
        if held:
            why, remedy = "with these, no further group fits into half of the corpus", "set exam.sample lower"
        raise UserError(f"{there}, and none is free for the exam: {why}; {remedy}")
    return turn


def _written(
    config: BuildRecipe, groups: Groups, taken: Positions, held: int, context: Context, funnel: Funnel
) -> Queries:
    about = config.exam or ExamConfig()
    turn = _turn(about, groups, taken, held, context.corpus)
    found, asked = write_exam(turn, about, config.queries, context)
    funnel.step("exam passages asked about", asked)
    funnel.step("exam queries", found.table.num_rows, found.drops, asked, ANOTHER_LLM)
    if found.table.num_rows < about.wanted:
        words = "exam.queries %d: only %d were usable, of %d passages that the LLM was asked about; try another LLM"
        logger.warning(words, about.wanted, found.table.num_rows, asked)
    return found


def _dense(config: BuildRecipe) -> DenseConfig:
    """The embedding model that the build uses anyway; without a model where it uses none."""
    of_round_trip = config.queries.round_trip_model if config.queries.round_trip_k else None
    return config.negatives.dense if config.uses("dense") else DenseConfig(of_round_trip)


def _hardness(config: BuildRecipe, queries: pa.Table, qrels: pa.Table, context: Context) -> dict[str, Any]:
    """How much queries share with their passages, and how often BM25 and the build's embedding model find them."""
    texts, ids = queries["text"].to_pylist(), queries["_id"].to_pylist()
    passages = context.corpus.texts(context.corpus.positions(queries["corpus-id"])).to_pylist()
    shares = [overlap(query, passage, context.language) for query, passage in zip(texts, passages, strict=True)]
    relevant, dense = {tuple(row.values())[:2] for row in qrels.to_pylist() if row["score"] > 0}, _dense(config)
    nearest = None if dense.model is None else search(queries, context, dense, 1).positions

    def first(found: Iterable[str]) -> float:
        """The share of queries whose first hit is relevant."""
        return round(sum(pair in relevant for pair in zip(ids, found, strict=True)) / len(ids), 4)

    return {
        "overlap": round(float(np.mean(shares)), 4),
        "without_overlap": round(shares.count(0) / len(shares), 4),
        "first_bm25": first(next((hit[0] for hit in found), "") for found in context.bm25.search(texts, 1)),
        "first_dense": None if nearest is None else first(context.corpus.ids_at(nearest).to_pylist()),
        "words": int(np.median([length(text) for text in texts])),
    }
