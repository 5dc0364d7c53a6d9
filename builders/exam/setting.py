"""Sets the exam: its passages, queries and judgements, and what they keep out of training.

exam = set_exam(config, corpus, own, barred, context, funnel)
left, drops = exam.without_repeats(queries, qrels)
"""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.context import Context
from builders.corpus import Corpus, drops_table
from builders.exam import STAGE
from builders.exam.config import ExamConfig
from builders.exam.groups import Groups, grouped
from builders.exam.own import own_queries
from builders.exam.split import MOST, in_turn
from builders.exam.written import write_exam
from builders.funnel import ANOTHER_LLM, Funnel
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import TEXTS, EvaluationSet
from builders.leakage.overlap import Overlap
from builders.llm.config import LlmConfig
from builders.llm.ledger import Ledger
from builders.llm.session import identified
from builders.passages import Passages
from builders.queries import Queries
from builders.queries.config import QueriesConfig
from builders.queries.labelled import Labelled
from builders.queries.written import assign
from builders.recipe import BuildRecipe
from builders.selection.stored import own_positives
from foils.errors import UserError
from foils.languages import length
from foils.manifest import Exam as ExamRecord
from foils.texts import overlap
from foils.words import shortened

logger = logging.getLogger(__name__)

REPEAT = LeakageConfig(ngram=3, ngram_share=1.0)
"""A training query repeats one of the exam if they are equal, or if it has 70 % of that one's runs of three words."""


class Exam(NamedTuple):
    """An exam.

    Attributes:
        queries: `schema.QUERIES`.
        qrels: `schema.QRELS`.
        groups: of all passages.
        members: `schema.EXAM_GROUPS`.
        drops: `schema.DROPS`.
        record: the manifest's.
        ledger: what the exam's own LLM was asked; None where the recipe's wrote it.
    """

    queries: pa.Table
    qrels: pa.Table
    groups: Groups
    members: pa.Table
    drops: pa.Table
    record: ExamRecord
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


def set_aside(about: ExamConfig | None, corpus: Corpus) -> tuple[int, pa.Table]:
    """How many queries an exam has, and the passages that it leaves for training, as far as is known without its LLM.

    Raises:
        UserError: as `own_queries`.
    """
    if about is None:
        return 0, corpus.passages
    passages, own = Passages(corpus.passages), own_queries(about, corpus)
    groups = grouped(passages, corpus.documents)
    if own is None:
        asked = in_turn(passages, groups, passages.positions([]), about.seed, about.wanted)[: about.wanted]
    else:
        asked = passages.positions(own.qrels["corpus-id"])
    is_free = np.isin(groups.of, groups.of[asked], invert=True)
    return about.wanted if own is None else own.queries.num_rows, corpus.passages.filter(pa.array(is_free))


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
    about = config.exam or ExamConfig()
    groups = grouped(context.corpus, corpus.documents)
    if own is None:
        queries, drops = _written(about, config.queries, groups, barred, context, funnel)
        qrels = own_positives(queries)
    else:
        queries, qrels, drops = own.queries, own.qrels, own.drops
        funnel.step("exam queries judged", own.judged)
        funnel.step("exam queries with a positive in the corpus", own.with_positive, drops, own.judged)
        funnel.step("exam queries", queries.num_rows)
    taken = np.unique(groups.of[context.corpus.positions(qrels["corpus-id"])])
    members = np.flatnonzero(np.isin(groups.of, taken))
    if len(members) > MOST * len(groups.of):
        raise UserError(
            f"exam.source {about.source}: its judged passages belong to groups of {len(members)} passages, and at most "
            f"half of the {len(groups.of)} may be the exam's; set exam.queries lower than {queries.num_rows}"
        )
    kept_out = drops_table(STAGE, [(each, "exam-group", "") for each in context.corpus.ids_at(members).to_pylist()])
    funnel.step("passages left for training", len(groups.of) - len(members), kept_out, len(groups.of))
    record = ExamRecord(
        queries=queries.num_rows,
        source="llm" if about.source is None else Path(about.source).resolve().name,
        **(_author(about, config.llm, queries) if own is None else {"llm": None, "prompts": {}}),
        groups=len(taken),
        passages=len(members),
        as_negatives=about.as_negatives,
        seed=about.seed,
        drops=dict(Counter(drops["reason"].to_pylist()).most_common()),
        **_hardness(queries, qrels, context),
    )
    table = pa.table([context.corpus.ids_at(members), groups.name_of(members)], schema=schema.EXAM_GROUPS)
    return Exam(queries.select(["_id", "text"]), qrels, groups, table, drops, record)


def _author(about: ExamConfig, llm: LlmConfig, queries: pa.Table) -> dict[str, Any]:
    """The LLM that wrote the queries, and how many it wrote by which prompt."""
    by, weights = identified(about.llm or llm), about.weights()
    types = Counter(assign(weights, about.seed, each) for each in queries["_id"].to_pylist())
    return {"llm": "@".join(filter(None, (by.model, by.revision))), "prompts": dict(sorted(types.items()))}


def _written(
    about: ExamConfig, queries: QueriesConfig, groups: Groups, barred: Sequence[str], context: Context, funnel: Funnel
) -> Queries:
    of_training = context.corpus.positions(list(barred))
    turn = in_turn(context.corpus, groups, of_training, about.seed, about.wanted)
    if len(turn) < about.wanted:
        there = f"exam.queries {about.wanted}: the corpus has {len(groups.of)} passages in {len(groups.sizes)} groups"
        if len(turn):
            most = f"the exam may have {len(turn)} passages; set it to {len(turn)} or lower, or take more passages"
            raise UserError(f"{there}, and {most}")
        largest = f"the largest, that of {shortened(groups.names[groups.sizes.argmax()].as_py())!r}, has more than half"
        is_barred = len(np.unique(groups.of[of_training])) == len(groups.sizes)
        why = "labelled queries are answered by all of them" if is_barred else largest
        remedy = "name each passage's document with corpus.group_column, or leave [exam] out"
        raise UserError(f"{there}, and none is free for the exam: {why}; {remedy}")
    found, asked = write_exam(turn, about, queries, context)
    funnel.step("exam passages asked about", asked)
    funnel.step("exam queries", found.table.num_rows, found.drops, asked, ANOTHER_LLM)
    if found.table.num_rows < about.wanted:
        words = "exam.queries %d: only %d were usable, of %d passages that the LLM was asked about; try another LLM"
        logger.warning(words, about.wanted, found.table.num_rows, asked)
    return found


def _hardness(queries: pa.Table, qrels: pa.Table, context: Context) -> dict[str, Any]:
    """How much queries share with their passages, and how often that is enough for BM25."""
    texts, ids = queries["text"].to_pylist(), queries["_id"].to_pylist()
    passages = context.corpus.texts(context.corpus.positions(queries["corpus-id"])).to_pylist()
    shares = [overlap(query, passage, context.language) for query, passage in zip(texts, passages, strict=True)]
    relevant = set(zip(qrels["query-id"].to_pylist(), qrels["corpus-id"].to_pylist(), strict=True))
    hits = zip(ids, context.bm25.search(texts, 1), strict=True)
    return {
        "overlap": round(float(np.mean(shares)), 4),
        "without_overlap": round(shares.count(0) / len(shares), 4),
        "first_bm25": round(sum((query, hit[0]) in relevant for query, found in hits for hit in found) / len(texts), 4),
        "words": int(np.median([length(text) for text in texts])),
    }
