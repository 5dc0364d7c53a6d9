"""The exam's queries where an LLM writes them, without those that copy their passage."""

import logging
from difflib import SequenceMatcher

import pyarrow as pa
from msgspec.structs import replace

from builders import schema
from builders.context import Context
from builders.corpus import drops_table
from builders.exam import STAGE
from builders.exam.config import ExamConfig
from builders.passages import Positions
from builders.queries import TABLE, Queries
from builders.queries.config import QueriesConfig
from builders.queries.written import write
from builders.texts import words
from foils.languages import is_unspaced
from foils.texts import normalised, overlap

logger = logging.getLogger(__name__)

LONGEST_RUN, SHARED = 6, 0.9
"""Words in a row, and the share of its content words, from which a query counts as a copy of its passage. Of the claims
of SciFact's test set 4 % have such a run and 11 % share so much, of Cranfield's questions 2 % and 2 %."""
RUN_OF_CHARACTERS = 12
"""The same in scripts without spaces, where characters in common say nothing of words."""
MOST_ASKED = 4
"""Passages that are asked about, at most, for each query that is wanted: a bad LLM need not see the whole corpus."""


def write_exam(turn: Positions, config: ExamConfig, queries: QueriesConfig, context: Context) -> tuple[Queries, int]:
    """Has queries written until there are enough of them; returns them, and how many passages that took.

    They are not filtered by whether any retriever finds them: an exam must not favour the one that was asked. For that
    reason, queries without a word of their passage stay too; the record has their share.

    Args:
        turn: positions of passages, in the order in which they are asked about.
        config: how many queries, and of what types.
        queries: the recipe's, for how an LLM is asked.
        context: the corpus and the LLM.
    """
    asking = queries if queries.source is None else QueriesConfig()
    asking = replace(asking, types=config.weights(), per_passage=1, min_words=None, max_words=None)
    wanted, asked = config.wanted, 0
    tables, drops, taken = [TABLE.empty_table()], [schema.DROPS.empty_table()], set[str]()
    while (missing := wanted - len(taken)) and asked < min(len(turn), MOST_ASKED * wanted):
        part = turn[asked : asked + missing]
        asked += len(part)
        written = write(context.passages.take(pa.array(part)), asking, context, STAGE)
        kept, lost = _fitting(written.table, taken, context)
        tables.append(kept)
        drops += [written.drops, lost]
    return Queries(pa.concat_tables(tables), pa.concat_tables(drops)), asked


def _fitting(written: pa.Table, taken: set[str], context: Context) -> Queries:
    """Queries that ask for their passage in other words and repeat none that is `taken`, to which they are added."""
    passages = context.corpus.texts(context.corpus.positions(written["corpus-id"])).to_pylist()
    kept, lost = [], []
    for row, passage in zip(written.to_pylist(), passages, strict=True):
        same = normalised(row["text"])
        reason = "duplicate" if same in taken else unfit(row["text"], passage, context.language)
        kept.append(reason is None)
        if reason is None:
            taken.add(same)
        else:
            lost.append((row["_id"], reason, row["text"]))
    return Queries(written.filter(pa.array(kept, pa.bool_())), drops_table(STAGE, lost))


def unfit(query: str, passage: str, language: str) -> str | None:
    """Returns why a query would be found by its passage's own words alone; None for one that is fit.

    >>> unfit("how do owls find their prey in the dark?", "Owls hunt by ear. In the dark they hear mice.", "en")
    >>> unfit("do owls hunt by ear", "Owls hunt by ear. In the dark they hear mice.", "en")
    'passage-words'
    """
    run = SequenceMatcher(None, words(query), words(passage), autojunk=False).find_longest_match().size
    if is_unspaced(query):
        return "passage-run" if run >= RUN_OF_CHARACTERS else None
    if run >= LONGEST_RUN:
        return "passage-run"
    return "passage-words" if overlap(query, passage, language) >= SHARED else None
