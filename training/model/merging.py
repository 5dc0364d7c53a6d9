"""A trained retriever averaged with its base, which keeps more of what the base knew (arXiv 2109.01903)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from foils.errors import UserError
from training.recipe import TrainRecipe

logger = logging.getLogger(__name__)

Weights = Mapping[str, torch.Tensor]


def check(config: TrainRecipe) -> None:
    """Refuses shares that nothing can choose between, and models without a base of the same form.

    Raises:
        UserError: says what is wanted.
    """
    if config.merge and config.task != "retriever":
        raise UserError(
            f"recipe: merge: is for retrievers, and task is {config.task!r}, whose head is new; leave it out"
        )
    if len(config.merge) > 1 and not config.dev.queries:
        raise UserError(
            f"recipe: merge {list(config.merge)}: held-out queries choose between shares; set dev.queries, or one share"
        )


def merge(model: Any, base: Weights, shares: Sequence[float], measure: Callable[[Any], float] | None) -> dict[str, Any]:
    """Averages a model's weights with its base's in place, by the share with which it measures best.

    Args:
        model: the trained one.
        base: weights of the same names and shapes, before training; on the CPU.
        shares: of the trained weights, 0 to 1; of equally good ones the largest is taken.
        measure: higher is better; None for a single share.

    Returns:
        For the run record: `share`, and the `measured` value of each.
    """
    trained = {name: weights.detach().to("cpu", copy=True) for name, weights in model.state_dict().items()}
    measured = {}
    for share in sorted(shares, reverse=True):
        _average(model, base, trained, share)
        if measure is not None:
            measured[share] = measure(model)
            logger.info("merge: %.4f with a share of %g of the trained weights", measured[share], share)
    best = max(measured, key=lambda share: measured[share], default=shares[0])
    _average(model, base, trained, best)
    return {"share": best, "measured": [{"share": share, "value": round(measured[share], 6)} for share in measured]}


def _average(model: Any, base: Weights, trained: Weights, share: float) -> None:
    with torch.no_grad():
        for name, weights in model.state_dict().items():
            if weights.is_floating_point():  # exact at 0 and 1
                weights.copy_(torch.lerp(base[name], trained[name], share))
