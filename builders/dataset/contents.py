"""What a data set folder holds beside its rows: the manifest's account of all that went in.

Equal inputs give equal bytes, so nothing here names a time or a place.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from builders.corpus import Corpus
from builders.exam.config import ExamConfig
from builders.exam.setting import Exam
from builders.language import warn_of_unread
from builders.leakage.guard import Guard
from builders.llm.client import identified
from builders.llm.config import LlmConfig
from builders.mining import Candidates
from builders.negatives import config_of, domain_ranker
from builders.negatives.written import prompt_of
from builders.passages import Passages
from builders.prompts import in_language, prompt_hash, prompt_text, without_edition
from builders.queries.labelled import Labelled
from builders.queries.style import read_style
from builders.recipe import LLM_JUDGE, WRITTEN, BuildRecipe, asks_llm, identity_hash, shaping
from builders.scores.llm_judge import QUOTING
from builders.selection import Selection
from foils.languages import english_name
from foils.models import ModelReference, resolve_model
from foils.provenance import code_version, package_versions, sha256_texts
from foils.recipe import Recipe

logger = logging.getLogger(__name__)

BASE = "cross-encoder's base"


def configs_of(
    corpus: Corpus, queries: pa.Table, candidates: Candidates, selection: Selection, drops: pa.Table, exam: Exam | None
) -> dict[str, pa.Table]:
    """All configurations with their rows; those without rows are left out when they are written."""
    asked = {} if exam is None else {"queries": exam.queries, **exam.qrels, "exam-groups": exam.members}
    asked |= {"judgements": exam.judge[1]} if exam and exam.judge else {}
    answers = queries["corpus-id"]
    groups = answers if exam is None else exam.groups.name_of(Passages(corpus.passages).positions(answers))
    return {
        "corpus": corpus.passages,
        **asked,
        "train-queries": pa.table({"_id": queries["_id"], "text": queries["text"], "group": groups}),
        "train-qrels": selection.qrels,
        **selection.rows,
        **{f"candidates-{kind}": found.candidates for kind, found in candidates.mined.items()},
        **{f"scores-{scorer}": scores for scorer, scores in sorted(candidates.scores.items())},
        "generated": candidates.generated,
        "fates": selection.fates,
        "drops": drops,
    }


def record_of(recipe: Recipe[BuildRecipe], inputs: dict[str, Any], licence: str | None) -> dict[str, Any]:
    """The manifest's account of where a data set comes from; holds no time and no place, so equal builds are equal."""
    config = recipe.config
    return {
        "name": config.name,
        "recipe": {"text": recipe.text, "overrides": recipe.overrides, "identity": identity_hash(config)},
        "settings": msgspec.to_builtins(shaping(config)),
        "inputs": inputs,
        "license": licence,
        "prompts": {name: prompt_text(name) for name in inputs["prompts"]},
        "language": inputs["language"],
        "code": _code(config),
        "packages": package_versions(),
    }


def inputs_of(
    config: BuildRecipe, corpus: Corpus, llm: LlmConfig, given: Labelled | None, own: Labelled | None, guard: Guard
) -> dict[str, Any]:
    """All that a data set depends on: equal inputs give equal bytes.

    Missing models and prompts are noticed here, before the LLM is paid.

    Raises:
        UserError: a model, a prompt or the ranker's training recipe is not there.
    """
    language, name = corpus.language, english_name(corpus.language)
    prompts = set(config.queries.weights()) if given is None else set()
    prompts |= set() if config.exam is None else set(config.exam.weights())
    judges = own is not None and own.is_unjudged
    prompts |= {QUOTING} if judges else set()
    for kind in WRITTEN.intersection(config.negatives.kinds):
        writer = config_of(config.negatives, kind)
        prompt_of(writer, language, kind)
        prompts.add(writer.prompt)
    if LLM_JUDGE in config.scorers:
        prompts.add(config.negatives.llm_judge.prompt)
    lacking = without_edition(prompts, language)
    if lacking:
        short = ", ".join(lacking)
        logger.warning("%s: no edition in %s; the English one is used, and asks for %s answers", short, name, name)
    asks = asks_llm(config, judges=judges)
    if llm.is_embedded and asks and language != "en":
        logger.warning("the embedded LLM knows little but English, and the corpus is in %s; name another", name)
    for role, model in _pinned(config).items():
        warn_of_unread(role, model, Passages(corpus.passages), name)
    return {
        "recipe": identity_hash(config),
        "corpus": {"source": corpus.source, "revision": corpus.revision, "sha256": corpus.sha256},
        **({} if given is None else {"queries": given.about(config.queries)}),
        **({"like": read_style(config.queries.like, language).sha256} if config.queries.like else {}),
        **({} if config.exam is None else {"exam": _exam_inputs(config.exam, corpus, own)}),
        **({"leakage": {each.name: each.revision for each in guard.sets}} if guard.sets else {}),
        "llm": {key: getattr(llm, key) if asks else None for key in ("model", "revision")},
        "models": models_of(config),
        "prompts": {name: prompt_hash(name) for name in sorted(in_language(name, language) for name in prompts)},
        "language": language,
        "seed": config.seed,
        "code": _code(config)["sha256"],
        "packages": dict(package_versions()),
    }


def _exam_inputs(exam: ExamConfig, corpus: Corpus, own: Labelled | None) -> dict[str, Any]:
    llm = None if exam.llm is None else identified(exam.llm)
    documents = corpus.documents
    return {
        "llm": llm and {"model": llm.model, "revision": llm.revision},
        "queries": own and dict(own.files),
        "documents": None if documents is None else sha256_texts([each or ""] for each in documents.to_pylist()),
    }


def _code(config: BuildRecipe) -> Mapping[str, str | None]:
    """The version of the code that makes the data set; training's too where the build trains its own ranker."""
    trains = config.uses("cross-encoder") and config.negatives.cross_encoder.train_with is not None
    return code_version("builders", "cards", "foils", *(["training"] if trains else []))


def models_of(config: BuildRecipe) -> dict[str, dict[str, str]]:
    """The models that choose negatives or filter queries, pinned; one that is still to be trained, by its recipe."""
    models = {role: {"name": model.name, "revision": model.revision} for role, model in _pinned(config).items()}
    models.pop(BASE, None)
    recipe = config.negatives.cross_encoder.train_with
    if config.uses("cross-encoder") and recipe is not None:
        models["cross-encoder"] = {"name": Path(recipe).name, "revision": domain_ranker.recipe_revision(recipe)}
    return models


def _pinned(config: BuildRecipe) -> dict[str, ModelReference]:
    """The models of a build by what they do; of a cross-encoder that is still to be trained, the base."""
    used: dict[str, str | None] = {}
    ranker = config.negatives.cross_encoder
    if config.uses("cross-encoder"):
        used["cross-encoder"] = ranker.model
        used[BASE] = None if ranker.train_with is None else domain_ranker.base_of(ranker.train_with)
        used["cross-encoder's pool"] = ranker.dense_model if "dense" in ranker.pool_from else None
    if config.uses("dense"):
        used["dense"] = config.negatives.dense.model
    if config.queries.round_trip_k:
        used["round-trip"] = config.queries.round_trip_model
    return {role: resolve_model(name) for role, name in used.items() if name is not None}
