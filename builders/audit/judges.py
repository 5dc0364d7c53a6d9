"""Judges: each says of (query, passage) pairs whether the passage answers the query.

A judge is a name, its rule in words, and one function over a batch of pairs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta, Struct

from builders.audit.pairs import distinct, keys
from builders.dataset.folder import cache_of
from builders.dataset.read import PAIRS, DataSet
from builders.llm.config import LlmConfig
from builders.llm.messages import Converse
from builders.negatives.material import Material, no_llm
from builders.passages import Passages
from builders.scores import llm_judge
from builders.scores.config import CrossEncoderConfig, Precision
from builders.scores.cross_encoder import score_pairs
from foils.beir import judgements
from foils.models import resolve_model
from foils.provenance import sha256_file

Verdicts = npt.NDArray[np.float64]
"""For each pair 1 (relevant), 0 (not relevant) or NaN (no verdict)."""
DIGITS = 6


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
    model: dict[str, str] | None
    rule: str
    verdicts: Callable[[pa.Table], Verdicts]
    can_judge_more: bool = False
    own_positive_is_yardstick: bool = False


class CrossEncoderJudge(Struct, frozen=True, forbid_unknown_fields=True):
    """How a cross-encoder judges.

    Without `threshold` a passage counts as relevant if it scores at least as high as the query's own positive. That
    needs no calibration and holds for any model, but the rule is not even-handed. Of two equally relevant passages one
    scores lower, so it misses about half of the second positives, and more where queries were written from their
    positive and share its words: the rate is too low. A model that prefers some irrelevant passages to the positive
    works the other way. A `threshold` is free of the first of these, but must be known for the model and the domain.

    Attributes:
        model: any sentence-transformers CrossEncoder with one label: a folder or a Hub id.
        threshold: in place of the positive's score, a score from which on a passage counts as relevant.
        max_length: tokens of a pair that are read.
        precision: as for the miner, see `CrossEncoderConfig`.
    """

    model: str
    threshold: float | None = None
    max_length: Annotated[int, Meta(ge=16)] = 256
    precision: Precision = "fp32"


def cross_encoder(dataset: DataSet, config: CrossEncoderJudge) -> Judge:
    """A cross-encoder as a judge; see `CrossEncoderJudge` for its rule and what that does to the rate.

    Raises:
        UserError: there is no such model.
    """
    reference = resolve_model(config.model)

    def verdicts(pairs: pa.Table) -> Verdicts:
        if not pairs.num_rows:
            return np.empty(0)
        if config.threshold is not None:
            return _judged(_scored_pairs(dataset, pairs, config), config.threshold)
        own = own_positives(dataset.positives(pairs["query-id"]))
        wanted = distinct([pairs, own])
        scores = _scored_pairs(dataset, wanted, config)
        at = pc.index_in(pairs["query-id"], value_set=own["query-id"])
        bars = scores[_places(own, wanted)][pc.fill_null(at, 0).to_numpy()] if own.num_rows else np.nan
        bars = np.where(pc.is_null(at).to_numpy(zero_copy_only=False), np.nan, bars)
        return _judged(scores[_places(pairs, wanted)], bars)

    rule = (
        "it scores at least as high as the query's own positive"
        if config.threshold is None
        else f"it scores {config.threshold:g} or more"
    )
    model = {"name": reference.name, "revision": reference.revision}
    return Judge("cross-encoder", model, rule, verdicts, True, config.threshold is None)


def own_positives(positives: pa.Table) -> pa.Table:
    """The first of each query's known positives (`schema.QRELS`, as `DataSet.positives` orders them) as `PAIRS`."""
    positives = positives.combine_chunks()
    ids = positives["query-id"].to_numpy(zero_copy_only=False)
    first = np.ones(len(ids), bool)
    first[1:] = ids[1:] != ids[:-1]
    return positives.filter(pa.array(first, pa.bool_())).select(PAIRS.names)


def _scored_pairs(dataset: DataSet, pairs: pa.Table, config: CrossEncoderJudge) -> npt.NDArray[np.float64]:
    queries, passages = dataset.queries(pairs["query-id"]), dataset.passages(pairs["corpus-id"])
    scores = score(pairs, queries, passages, config, cache_of(dataset.folder))["score"]
    return np.asarray(np.round(scores.to_numpy(), DIGITS), np.float64)


def score(pairs: pa.Table, queries: pa.Table, passages: Passages, config: CrossEncoderJudge, cache: Path) -> pa.Table:
    """Scores pairs with a cross-encoder: `schema.SCORES` in the pairs' order.

    Args:
        pairs: `PAIRS`, each once.
        queries: `_id`, `text`.
        passages: all that the pairs name.
        config: model and batches.
        cache: keeps the scores.

    Raises:
        UserError: the model gives more than one score, or a pair names a query or passage that is not there.
    """
    material = Material(passages.table, "en", 0, no_llm, cache)
    settings = CrossEncoderConfig(model=config.model, max_length=config.max_length, precision=config.precision)
    return score_pairs(pairs, queries, passages, material, settings)


def llm(dataset: DataSet, model: LlmConfig, converse: Converse, config: llm_judge.LlmJudgeConfig, seed: int) -> Judge:
    """The LLM as a judge of a data set.

    Args:
        dataset: for the texts.
        model: which LLM it is, for the record.
        converse: has it answer.
        config: prompt and sampling.
        seed: of its answers.
    """

    def verdicts(pairs: pa.Table) -> Verdicts:
        queries, passages = dataset.queries(pairs["query-id"]), dataset.passages(pairs["corpus-id"])
        material = Material(passages.table, dataset.language, seed, converse, cache_of(dataset.folder))
        scores = llm_judge.score(pairs, queries, passages, material, config)["score"]
        return np.asarray(scores.to_numpy(), np.float64)

    known = {"name": model.model, "revision": model.revision or "not stated", "prompt": config.prompt}
    return Judge("llm", known, f"it answers yes to the prompt {config.prompt}", verdicts, can_judge_more=True)


class Truth:
    """Judgements that the user has. A query that none is about is not judged; of others, what is not listed is 0.

    Args:
        files: as `foils.beir.judgements` reads them; a passage that several of them list has the highest of its
            scores.
        written: ids of passages that an LLM wrote: whoever judged the corpus has not seen them, so there is no verdict.

    Raises:
        UserError: a file cannot be read or is of another form.
    """

    def __init__(self, files: Sequence[Path], written: pa.Array | pa.ChunkedArray | None = None) -> None:
        queries: list[str] = []
        passages: list[str] = []
        judged: set[str] = set()
        self.sources: dict[str, str] = {}
        for file in files:
            for query_id, passage_id, grade in judgements(file, "judgements"):
                judged.add(query_id)
                if grade > 0:
                    queries.append(query_id)
                    passages.append(passage_id)
            name = file.name if file.name not in self.sources else f"{file.parent.name}/{file.name}"
            self.sources[name] = f"sha256:{sha256_file(file)}"
        self.relevant = pa.table([pa.array(queries, pa.string()), pa.array(passages, pa.string())], schema=PAIRS)
        self._judged = pa.array(sorted(judged), pa.string())
        self._relevant = keys(self.relevant)
        self._written = pa.array([], pa.string()) if written is None else written

    def of(self, pairs: pa.Table) -> Verdicts:
        """What the judgements say of `PAIRS`."""
        relevant = pc.is_in(keys(pairs), value_set=self._relevant).to_numpy(zero_copy_only=False)
        known = pc.is_in(pairs["query-id"], value_set=self._judged).to_numpy(zero_copy_only=False)
        known &= ~pc.is_in(pairs["corpus-id"], value_set=self._written).to_numpy(zero_copy_only=False)
        return np.where(known, relevant.astype(np.float64), np.nan)


def qrels(truth: Truth) -> Judge:
    """The user's judgements as a judge."""
    return Judge("qrels", truth.sources, "the judgements list it with a score above 0", truth.of)


def person(judged: pa.Table, source: Path) -> Judge:
    """What a person said of the exported sample (`schema.SCORES`)."""
    known = keys(judged)

    def verdicts(pairs: pa.Table) -> Verdicts:
        at = pc.index_in(keys(pairs), value_set=known)
        found = judged["score"].take(at).to_numpy()
        return np.asarray(found, np.float64)

    return Judge("person", {source.name: f"sha256:{sha256_file(source)}"}, "the person says so", verdicts)


def _judged(scores: npt.NDArray[np.float64], bars: npt.NDArray[np.float64] | float) -> Verdicts:
    unknown = np.isnan(scores) | np.isnan(bars)
    return np.where(unknown, np.nan, (scores >= bars).astype(np.float64))


def _places(pairs: pa.Table, among: pa.Table) -> npt.NDArray[np.int64]:
    return np.asarray(pc.index_in(keys(pairs), value_set=keys(among)).to_numpy(), np.int64)
