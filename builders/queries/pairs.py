"""Queries that the corpus itself holds, without an LLM: titles, and sentences out of passages.

rows, drops = pair_rows(("titles", "crops"), exam, guard, context, funnel)

There is one for each passage that may be trained on. A title is answered by the text under it, a sentence by the rest
of its passage (Lee et al., arXiv 1906.00300; Contriever, arXiv 2112.09118).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.context import Context, timed
from builders.corpus import drops_table
from builders.exam.setting import Exam
from builders.funnel import Funnel
from builders.hashing import keyed_hashes
from builders.leakage.guard import Guard
from builders.negatives.sentences import sentences
from builders.prompts import CHARACTERS
from builders.queries import TABLE, Queries
from builders.queries.config import Source
from builders.queries.written import MAX_WORDS, MIN_WORDS
from builders.selection.stored import own_positives
from builders.spool import BATCH, Spool
from foils.errors import UserError
from foils.languages import is_unspaced, length
from foils.texts import normalised, passage_text

FEWEST_TITLE, FEWEST_ANSWER = 2, 5
"""Words of a title, and of what answers it."""
ANSWERED = TABLE.append(pa.field("positive", pa.string()))
Passage = Mapping[str, str]
Pair = tuple[str, str]
"""A query and the text that answers it."""


def check_titles(sources: Sequence[Source], passages: pa.Table) -> None:
    """Refuses titles of a corpus without any, before an LLM is paid.

    Raises:
        UserError: says what to change.
    """
    if "titles" in sources and not pc.any(pc.not_equal(passages["title"], "")).as_py():
        raise UserError(
            f"queries.pairs {list(sources)}: none of the {passages.num_rows} passages has a title; leave titles out, "
            "or name their column with corpus.title_column"
        )


def pair_rows(
    sources: Sequence[Source], exam: Exam | None, guard: Guard, context: Context, funnel: Funnel
) -> tuple[dict[str, pa.Table], list[pa.Table]]:
    """The rows of each source, which keep clear of the exam and of evaluation sets, and `schema.DROPS`.

    Beside them, `train-pairs` says to which group of passages each query belongs, for `[dev]` in training.

    Raises:
        UserError: no passage has such a query.
    """
    rows, drops, grouped = dict[str, pa.Table](), list[pa.Table](), list[pa.Table]()
    passages = context.passages if exam is None else exam.training(context.passages)
    for source in sources:
        with timed(source):
            left, lost = pairs(source, passages, context.seed)
            lost = [lost]
            if exam is not None:
                for clear in (exam.without_repeats(left, own_positives(left)), _without_answers(left, exam, context)):
                    left = left.filter(pc.invert(pc.is_in(left["_id"], value_set=clear.drops["id"])))
                    lost.append(clear.drops)
            if guard.sets:
                leaked = guard.check(left, context.corpus)
                is_gone = pc.is_in(left["_id"], value_set=leaked.queries_to_drop)
                lost.append(leaked.drops.filter(pc.is_in(leaked.drops["id"], value_set=left["_id"])))
                left = left.filter(pc.invert(is_gone))
        dropped = pa.concat_tables(lost)
        funnel.step(f"rows of {source}", left.num_rows, dropped, passages.num_rows, "leave it out of queries.pairs")
        groups = left["corpus-id"] if exam is None else exam.groups.name_of(context.corpus.positions(left["corpus-id"]))
        grouped.append(pa.table({"text": left["text"], "group": groups}))
        rows[source] = pa.table({"query": left["text"], "positive": left["positive"]})
        drops.append(dropped)
    return rows | ({"train-pairs": pa.concat_tables(grouped)} if grouped else {}), drops


def _without_answers(rows: pa.Table, exam: Exam, context: Context) -> Queries:
    """Rows whose positive has the text of no passage of the exam, with or without its title: stubs may share one."""
    members = context.corpus.positions(exam.members["corpus-id"])
    texts = pa.chunked_array([context.corpus.texts(members), context.corpus.bodies(members)]).to_pylist()
    answers = set(map(normalised, texts))
    lost = [normalised(text) in answers for text in rows["positive"].to_pylist()]
    found = rows.filter(pa.array(lost, pa.bool_()))["_id"].to_pylist()
    return Queries(rows, drops_table("exam", [(each, "exam-passage", "its text") for each in found]))


def pairs(source: Source, passages: pa.Table, seed: int) -> Queries:
    """The queries of passages (`schema.CORPUS`), in their order; of equal ones the first stays.

    Returns:
        `ANSWERED`, where `corpus-id` is the passage that both texts come from, and the passages without a query.
    """
    rows, drops, taken = Spool(ANSWERED), Spool(schema.DROPS), set[str]()
    for batch in passages.to_batches(max_chunksize=BATCH):
        for passage in batch.to_pylist():
            reason = "duplicate"
            for found in _MAKERS[source](passage, seed):
                if isinstance(found, str):
                    reason = found
                elif (same := normalised(found[0])) not in taken:
                    taken.add(same)
                    rows.row(f"{passage['_id']}/{source}", found[0], passage["_id"], found[1])
                    break
            else:
                drops.row(source, passage["_id"], reason, passage["title"])
    return Queries(rows.table(), drops.table())


def titles(passage: Passage, _: int = 0) -> Iterator[Pair | str]:
    """The title and the text under it, or the reason why they are not a pair.

    >>> list(titles({"_id": "a", "title": "How owls hunt", "text": "How owls hunt. By ear, in the dark of night."}))
    [('How owls hunt', 'By ear, in the dark of night.')]
    """
    query, answer = " ".join(passage["title"].split()), passage["text"].strip()
    opening = r"\s+".join(map(re.escape, query.split())) + r"(?!\w)[\s.:\u2013\u2014-]*"
    if found := re.match(opening, answer, re.IGNORECASE):  # it would give the answer away
        answer = answer[found.end() :]
    yield _pair(query, answer, FEWEST_TITLE) if query else "no-title"


def crops(passage: Passage, seed: int) -> Iterator[Pair | str]:
    """Sentences in random order, each with the passage without it, or the reason why they are not a pair.

    >>> next(crops({"_id": "a", "title": "Owls", "text": "Owls hunt by ear. They fly at night over the fields."}, 1))
    ('Owls hunt by ear.', 'Owls They fly at night over the fields.')
    """
    parts = sentences(passage["text"])
    if not parts[1:]:
        yield "one-sentence"
        return
    for place in np.argsort(keyed_hashes(seed, "crop", passage["_id"], ids=map(str, range(len(parts))))).tolist():
        rest = passage_text(passage["title"], "".join(parts[:place] + parts[place + 1 :])).strip()
        is_twice = normalised(parts[place]) in normalised(rest)
        yield "said-twice" if is_twice else _pair(" ".join(parts[place].split()), rest, MIN_WORDS)


def _pair(query: str, answer: str, fewest: int) -> Pair | str:
    scale = CHARACTERS[0] if is_unspaced(query) else 1
    if not fewest * scale <= length(query) <= MAX_WORDS * CHARACTERS[1] ** (scale > 1):
        return "too-short" if length(query) < fewest * scale else "too-long"
    return (query, answer) if length(answer) >= FEWEST_ANSWER * scale else "nothing-left"


_MAKERS: dict[Source, Callable[[Passage, int], Iterator[Pair | str]]] = {"titles": titles, "crops": crops}
