"""Judges: each says of (query, passage) pairs whether the passage answers the query; and how a command names one."""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders.audit.pairs import distinct, ids, keys, own_positives
from builders.context import Context, no_llm
from builders.dataset.folder import cache_of
from builders.dataset.read import PAIRS, DataSet
from builders.llm.client import Llm, identified, llm_session
from builders.llm.config import LlmConfig, check_llm
from builders.llm.messages import Converse
from builders.passages import Passages
from builders.scores import llm_judge
from builders.scores.config import CrossEncoderConfig
from builders.scores.cross_encoder import score_pairs
from foils.beir import judgements
from foils.errors import UserError
from foils.models import resolve_model
from foils.provenance import sha256_file

logger = logging.getLogger(__name__)

STORE = Path("outputs/calls.sqlite")
Verdicts = npt.NDArray[np.float64]
"""For each pair 1 (relevant), 0 (not relevant) or NaN (no verdict)."""


class Judge(NamedTuple):
    """A model, a person or judgements that say whether a passage is relevant.

    Attributes:
        name: `cross-encoder`, `llm`, `qrels` or `person`.
        model: name and revision, if it is a model; otherwise what its judgements come from.
        rule: when it calls a passage relevant, in words for the card.
        verdicts: judges `PAIRS`.
        can_judge_more: whether it can be asked about other pairs than the sample's, to learn how often it errs.
        own_positive_is_yardstick: it compares with the query's own positive, so it cannot judge that one.
    """

    name: str
    model: dict[str, str]
    rule: str
    verdicts: Callable[[pa.Table], Verdicts]
    can_judge_more: bool = False
    own_positive_is_yardstick: bool = False


def cross_encoder(dataset: DataSet, model: str) -> Judge:
    """A cross-encoder as a judge: what scores at least as high as the query's own positive counts as relevant.

    That needs no calibration and holds for any model, but the rule is not even-handed. Of two equally relevant passages
    one scores lower, so it misses about half of the second positives, and more where queries were written from their
    positive and share its words: the rate is too low. A model that prefers some irrelevant passages to the positive
    works the other way.

    Args:
        dataset: for the texts.
        model: any sentence-transformers CrossEncoder with one label: a folder or a Hub id.

    Raises:
        UserError: the model does not exist.
    """
    reference = resolve_model(model)

    def verdicts(pairs: pa.Table) -> Verdicts:
        own = own_positives(dataset.positives(pairs["query-id"]))
        asked = distinct([pairs, own])
        texts = dataset.queries(asked["query-id"]), dataset.passages(asked["corpus-id"])
        found = score(asked, *texts, model, cache_of(dataset.folder))["score"]
        scores = dict(zip(ids(asked), found.to_pylist(), strict=True))
        wanted = {pair[0]: scores[pair] for pair in ids(own)}
        reached = np.array([scores[pair] for pair in ids(pairs)])
        bars = np.array([wanted.get(query, np.nan) for query, _ in ids(pairs)])
        return np.where(np.isnan(reached) | np.isnan(bars), np.nan, reached >= bars)

    about = {"name": reference.name, "revision": reference.revision}
    rule = "it scores at least as high as the query's own positive"
    return Judge("cross-encoder", about, rule, verdicts, can_judge_more=True, own_positive_is_yardstick=True)


def score(pairs: pa.Table, queries: pa.Table, passages: Passages, model: str, cache: Path) -> pa.Table:
    """Scores pairs with a cross-encoder: `schema.SCORES` in the pairs' order.

    Args:
        pairs: `PAIRS`, each once.
        queries: `_id`, `text`.
        passages: all that the pairs name.
        model: a CrossEncoder folder or Hub id.
        cache: keeps the scores.

    Raises:
        UserError: the model gives more than one score, or a pair names a query or passage that is not there.
    """
    context = Context(passages.table, "en", 0, no_llm, cache)
    return score_pairs(pairs, queries, passages, context, CrossEncoderConfig(model=model))


def llm(dataset: DataSet, model: LlmConfig, converse: Converse, seed: int) -> Judge:
    """The LLM as a judge of a data set.

    Args:
        dataset: for the texts.
        model: which LLM it is, for the record.
        converse: has it answer.
        seed: of its answers.
    """
    config = llm_judge.LlmJudgeConfig()

    def verdicts(pairs: pa.Table) -> Verdicts:
        queries, passages = dataset.queries(pairs["query-id"]), dataset.passages(pairs["corpus-id"])
        context = Context(passages.table, dataset.language, seed, converse, cache_of(dataset.folder))
        scores = llm_judge.score(pairs, queries, passages, context, config)["score"]
        return np.asarray(scores.to_numpy(), np.float64)

    known = {"name": model.model, "revision": model.revision or "not stated", "prompt": config.prompt}
    return Judge("llm", known, f"it answers yes to the prompt {config.prompt}", verdicts, can_judge_more=True)


class Truth:
    """Judgements that the user has. A query that none is about is not judged; of others, what is not listed is 0.

    Args:
        files: as `foils.beir.judgements` reads them; a passage that several of them list has the highest of its
            scores.
        written: ids of passages that an LLM wrote. No judgement is about them, so they get no verdict.

    Attributes:
        sources: file name -> SHA-256.
        relevant: `PAIRS`, those with a score above 0.

    Raises:
        UserError: a file cannot be read or is of another form.
    """

    def __init__(self, files: Sequence[Path], written: pa.ChunkedArray | None = None) -> None:
        judged = [row for file in files for row in judgements(file, "judgements")]
        relevant = [{"query-id": query, "corpus-id": passage} for query, passage, grade in judged if grade > 0]
        self.relevant = pa.Table.from_pylist(relevant, PAIRS)
        self._judged = pa.array(sorted({query for query, _, _ in judged}), pa.string())
        self.sources: dict[str, str] = {}
        for file in files:
            name = file.name if file.name not in self.sources else f"{file.parent.name}/{file.name}"
            self.sources[name] = f"sha256:{sha256_file(file)}"
        self._written = pa.array([], pa.string()) if written is None else written

    def of(self, pairs: pa.Table) -> Verdicts:
        """What the judgements say of `PAIRS`."""
        relevant = pc.is_in(keys(pairs), value_set=keys(self.relevant)).to_numpy(zero_copy_only=False)
        is_judged = pc.is_in(pairs["query-id"], value_set=self._judged).to_numpy()
        is_written = pc.is_in(pairs["corpus-id"], value_set=self._written).to_numpy()
        return np.where(is_judged & ~is_written, relevant.astype(np.float64), np.nan)


def qrels(truth: Truth) -> Judge:
    """The user's judgements as a judge."""
    return Judge("qrels", truth.sources, "the judgements list it with a score above 0", truth.of)


def add_judge_arguments(parser: argparse.ArgumentParser, table: str, sample: str) -> None:
    """Adds the judge's model, or the recipe with its `table`; the answers' store; and what `sample` explains."""
    add = parser.add_argument
    add("--model", help="of --judge cross-encoder: a CrossEncoder folder or Hub id")
    add("--recipe", type=Path, help=f"of --judge llm: a building recipe, for its table {table}")
    add("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="replace a recipe's value")
    add("--store", type=Path, default=STORE, help="the LLM's answers; default: %(default)s")
    add("--sample", type=int, default=100, help=f"{sample}; default: %(default)s")
    add("--seed", type=int, default=42, help="of the sample; default: %(default)s")


def check_judge(judge: str | None, model: str | None, recipe: Path | None, sample: int) -> None:
    """Refuses options that do not go together.

    Raises:
        UserError: names the option.
    """
    for name, option, value in (("cross-encoder", "--model", model), ("llm", "--recipe", recipe)):
        if (judge == name) != (value is not None):
            wrong = "is missing" if value is None else f"belongs to --judge {name}"
            raise UserError(f"{option} {wrong}; wanted --judge cross-encoder --model DIR, or --judge llm --recipe FILE")
    if sample < 1:
        raise UserError(f"--sample {sample}: wanted 1 or more pairs")


@contextmanager
def asking(llm: LlmConfig, store: Path) -> Iterator[Llm]:
    """A session with the LLM; logs at its end how many calls it made and what they cost.

    Raises:
        UserError: the settings contradict each other.
    """
    check_llm(llm)
    with llm_session(identified(llm), store) as session:
        yield session
        cost = f", {session.ledger.cost()} in all" if session.ledger.cost() else ""
        logger.info("%d new LLM calls%s", session.ledger.new_calls, cost)
