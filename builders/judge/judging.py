"""Has an exam's hits judged: by an LLM that quotes what answers the query, or by a cross-encoder with a threshold."""

from collections.abc import Callable, Iterator
from math import isnan, nan
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from builders import schema
from builders.audit.intervals import Rate, wilson
from builders.audit.judges import score
from builders.audit.pairs import distinct, ids
from builders.context import Context
from builders.dataset.folder import MANIFEST, cache_of
from builders.dataset.read import DataSet
from builders.judge.pool import DEPTH, Asked
from builders.llm.config import LlmConfig
from builders.llm.messages import Converse
from builders.prompts import prompt_hash
from builders.scores import llm_judge
from builders.scores.pairs import locate
from foils.errors import UserError
from foils.manifest import Judge
from foils.models import resolve_model
from foils.provenance import sha256_file, sha256_json

Said = dict[tuple[str, str], tuple[float, str]]
"""Query and passage -> 1 (relevant), 0 (not) or NaN (no verdict), and what was quoted."""


class Grader(NamedTuple):
    """A model that judges.

    Attributes:
        name: `llm` or `cross-encoder`.
        model: its name and revision.
        shaping: all that decides what it says.
        says: judges pairs, and says in words when it calls a passage relevant.
        learns: whether every second known positive and random passage sets its threshold, so that its error is measured
            on the others.
    """

    name: str
    model: str
    shaping: Any
    says: Callable[[Asked], tuple[Said, str]]
    learns: bool = False


def by_llm(dataset: DataSet, model: LlmConfig, how: llm_judge.LlmJudgeConfig, converse: Converse, seed: int) -> Grader:
    """The LLM as a judge; `how` is the recipe's for other judgements, which take fewer tokens."""
    config = llm_judge.quoting(how)

    def says(asked: Asked) -> tuple[Said, str]:
        pairs, queries, passages = _texts(dataset, asked)
        context = Context(passages.table, dataset.language, seed, converse)
        verdicts, quotes = llm_judge.judge(locate(pairs, queries, passages), context, config, llm_judge.EXAM_STAGE)
        said = dict(zip(ids(pairs), zip(verdicts.tolist(), quotes, strict=True), strict=True))
        return said, llm_judge.rule_of(config)

    shaping = msgspec.to_builtins([model.shaping(), config, prompt_hash(config.prompt), seed])
    return Grader("llm", "@".join(filter(None, (model.model, model.revision))), shaping, says)


def by_cross_encoder(dataset: DataSet, model: str) -> Grader:
    """A cross-encoder as a judge: what scores as high as known positives rather than random passages is relevant.

    Raises:
        UserError: the model does not exist.
    """
    reference = resolve_model(model)

    def says(asked: Asked) -> tuple[Said, str]:
        pairs, queries, passages = _texts(dataset, asked)
        found = score(pairs, queries, passages, model, cache_of(dataset.folder))["score"].to_pylist()
        scores = dict(zip(ids(pairs), found, strict=True))
        known = ([scores[pair] for pair in ids(asked.groups[name])][::2] for name in ("positive", "random"))
        least = threshold(*([each for each in some if not isnan(each)] for some in known))
        verdicts = {pair: (nan if isnan(each) else float(each >= least), "") for pair, each in scores.items()}
        return verdicts, f"it scores {least:.6g} or more"

    name = f"{reference.name}@{reference.revision}"
    return Grader("cross-encoder", name, reference.identity, says, learns=True)


def threshold(positives: list[float], others: list[float]) -> float:
    """The score that tells known positives from passages at random best; the highest of those that do so equally well.

    >>> threshold([0.9, 0.7, 0.2], [0.1, 0.3, 0.0])
    0.7

    Raises:
        UserError: there are none.
    """
    if not positives or not others:
        raise UserError("--judge cross-encoder: the exam has too few known positives to set a threshold by; use an LLM")
    found, wrong = (np.greater_equal.outer(some, positives).sum(axis=0) for some in (positives, others))
    return max(zip(found * len(others) - wrong * len(positives), positives, strict=True))[1]


def inputs_of(dataset: DataSet, asked: Asked, judge: Grader) -> str:
    """SHA-256 of all that decides what a judge will say."""
    groups = [list(ids(pairs)) for pairs in asked.groups.values()]
    return sha256_json([sha256_file(dataset.folder / MANIFEST), judge.name, judge.model, judge.shaping, groups])


def judged(dataset: DataSet, asked: Asked, judge: Grader) -> tuple[Judge, dict[str, pa.Table]]:
    """The record of a judge, and the configurations that its verdicts change; pairs without one stay unjudged.

    Raises:
        UserError: it cannot judge, or it tells known positives from passages at random no better than chance.
    """
    said, rule = judge.says(asked)
    rows = [(*pair, of, *said[pair]) for of, pairs in asked.groups.items() for pair in ids(pairs)]
    apart = slice(1, None, 2) if judge.learns else slice(None)
    missed, alarms = (
        _share([verdict for *_, of, verdict, _ in rows if of == name][apart], counted)
        for name, counted in (("positive", 0), ("random", 1))
    )
    if (missed.rate or 0) + (alarms.rate or 0) >= 1:
        raise UserError(
            f"judge {judge.model}: it {_errors(missed, alarms)}, which is no better than chance; name another model "
            "(nothing is written, and answers so far are stored)"
        )
    pool, groups = [row for row in rows if row[2] == "pool"], dataset.table("exam-groups")
    members = set() if groups is None else set(groups["corpus-id"].to_pylist())
    relevant = [passage for _, passage, _, verdict, _ in pool if verdict == 1]
    record = Judge(
        judge=judge.name,
        model=judge.model,
        rule=rule,
        systems=len(asked.systems),
        pairs=sum(verdict in {0, 1} for *_, verdict, _ in pool),
        relevant=len(relevant),
        outside=sum(passage not in members for passage in relevant),
        false_quotes=sum(verdict == 0 and quote != "" for *_, verdict, quote in pool),
        failed=sum(verdict not in {0, 1} for *_, verdict, _ in pool),
        positives=missed.judged,
        missed=missed.relevant,
        random=alarms.judged,
        alarms=alarms.relevant,
        of=sha256_file(dataset.folder / MANIFEST),
        inputs=inputs_of(dataset, asked, judge),
    )
    *columns, verdicts, quotes = zip(*rows, strict=True)
    scores = pa.array(verdicts, pa.float64(), from_pandas=True).cast(pa.int32())
    new = pa.table([*columns, scores, quotes], schema=schema.JUDGEMENTS)
    known = dataset.table("judgements")
    added = new.filter(pa.array([of == "pool" for *_, of, _, _ in rows])).drop_null().select(schema.QRELS.names)
    return record, {
        "default": pa.concat_tables([asked.qrels, added]),
        "judgements": new if known is None else pa.concat_tables([known, new]),
    }


def lines(asked: Asked, found: Judge, qrels: pa.Table) -> Iterator[str]:
    """What a judge found, for the terminal."""
    false = f" ({found.false_quotes:,} for a quote that is not in the passage)" if found.false_quotes else ""
    errors = _errors(wilson(found.missed, found.positives), wilson(found.alarms, found.random))
    unjudged = asked.groups["pool"].num_rows
    yield f"pool      {DEPTH} best hits of {found.systems} systems: {unjudged:,} without a judgement"
    yield f"judge     {found.model}: {errors}"
    yield f"verdicts  {found.relevant:,} relevant, {found.pairs - found.relevant:,} not{false}, {found.failed:,} failed"
    yield f"judged@10 {asked.judged(asked.qrels):.4f} -> {asked.judged(qrels):.4f}"


def _texts(dataset: DataSet, asked: Asked) -> tuple[pa.Table, pa.Table, Any]:
    """All pairs, each once, with the exam's queries and the passages."""
    pairs = distinct(asked.groups.values())
    return pairs, dataset.table("queries"), dataset.passages(pairs["corpus-id"])


def _share(verdicts: list[float], counted: int) -> Rate:
    """How many of the pairs with a verdict have the one that is counted."""
    return wilson(verdicts.count(counted), sum(verdict in {0, 1} for verdict in verdicts))


def _errors(missed: Rate, alarms: Rate) -> str:
    """How often a judge errs, in words."""
    of_positives, of_others = (
        f"{each.relevant} of {each.judged} {what} ({100 * each.low:.0f} to {100 * each.high:.0f} %)"
        for each, what in ((missed, "known positives"), (alarms, "random passages"))
    )
    return f"misses {of_positives} and calls {of_others} relevant"
