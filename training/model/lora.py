"""Low-rank adapters (Hu et al., arXiv 2106.09685) in place of training all weights, merged when training is done.

    wrap(model, config.lora)               # before the optimiser is made
    trainer.train()
    merge(model)                           # before it is saved: a plain model, which loads without peft

Between the two, a checkpoint of the trainer holds the adapters alone, beside the path of the base: resuming needs the
base where it was. `trainer.train(resume_from_checkpoint=...)` works on a model that was wrapped the same way.
"""

import logging
import re
from collections.abc import Iterator
from typing import Any

import torch

from foils.errors import UserError
from training.recipe import LoraConfig

logger = logging.getLogger(__name__)


def wrap(model: Any, config: LoraConfig) -> int:
    """Puts adapters on a SentenceTransformer or CrossEncoder, in place, and freezes all other weights.

    Returns:
        The number of layers that got an adapter.

    Raises:
        UserError: peft is missing, the model has no transformer, or no layer of it has such a name.
    """
    try:
        from peft import LoraConfig as PeftLoraConfig
    except ImportError:
        raise UserError(
            "recipe: lora: peft is not installed; run: pip install peft (or pip install -e '.[lora]')"
        ) from None
    if not model.has_peft_compatible_model():
        raise UserError(
            f"recipe: lora: the base has no transformer layers ({type(model[0]).__name__}) for adapters; remove lora"
        )
    total = sum(parameter.numel() for parameter in model.parameters())
    inner = model.transformers_model
    adapted = list(_adapted(inner, config))
    head = [name for name in _outside(inner) if name not in adapted] if _is_classifier(inner) else []
    model.add_adapter(
        PeftLoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=adapted,
            modules_to_save=head or None,
            use_rslora=config.rank_stabilised,
            use_dora=config.use_dora,
        )
    )
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    logger.info(
        "LoRA: %s of %s parameters are trained (%.1f %%), in %d layers",
        *(f"{trainable:,}", f"{total:,}", 100 * trainable / total, len(adapted)),
    )
    return len(adapted)


def merge(model: Any) -> None:
    """Adds the adapters to the weights that they adapt, in place, and removes every trace of them.

    All weights can be trained again, and `save_pretrained` writes what it writes of the base.

    Raises:
        UserError: an adapter holds a NaN, or the model has no adapters.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    inner = model.transformers_model
    found = [
        (name, module)
        for name, module in inner.named_modules()
        if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper)
    ]
    if not found:
        raise UserError("lora: the model has no adapters to merge; wrap it first")
    for name, module in found:
        if isinstance(module, BaseTunerLayer):
            try:
                module.merge(safe_merge=True)
            except ValueError:
                raise UserError(f"lora: the adapter of {name} holds a NaN; set a lower learning rate") from None
            inner.set_submodule(name, module.get_base_layer())
        else:
            inner.set_submodule(name, module.modules_to_save[module.active_adapter])
    del inner.peft_config
    inner._hf_peft_config_loaded = False  # noqa: SLF001  # transformers has no public way: else it saves adapters alone
    inner.requires_grad_(True)


def _adapted(inner: Any, config: LoraConfig) -> Iterator[str]:
    """Full names of the linear layers that get an adapter.

    Raises:
        UserError: there are none, or one of the recipe's names is of no layer.
    """
    linear = [name for name, module in inner.named_modules() if isinstance(module, torch.nn.Linear)]
    outside = set(_outside(inner))
    if config.target_modules == "layers":
        chosen = [name for name in linear if name not in outside]
    elif config.target_modules == "all-linear":
        chosen = [name for name in linear if not (_is_classifier(inner) and "." not in name)]
    else:
        chosen = [name for name in linear if any(_ends(name, end) for end in config.target_modules)]
        unknown = [end for end in config.target_modules if not any(_ends(name, end) for name in linear)]
        if unknown:
            known = sorted({re.split(r"\.\d+\.", name)[-1] for name in linear})
            raise UserError(
                f"recipe: lora.target_modules {', '.join(unknown)!r}: no linear layer has such a name; allowed: ends "
                f"of {', '.join(known)}"
            )
    if not chosen:
        raise UserError(
            f"recipe: lora.target_modules {config.target_modules!r}: the base has no such layers; name them, such as "
            f"{linear[:3]}"
        )
    yield from chosen


def _outside(inner: Any) -> Iterator[str]:
    """Linear layers outside the numbered ones: a pooler's and a head's."""
    for name, module in inner.named_modules():
        if isinstance(module, torch.nn.Linear) and not any(part.isdigit() for part in name.split(".")):
            yield name


def _is_classifier(inner: Any) -> bool:
    return type(inner).__name__.endswith("ForSequenceClassification")


def _ends(name: str, end: str) -> bool:
    """Whether a dotted name ends in whole parts with another.

    >>> _ends("layer.0.attention.self.query", "self.query"), _ends("layer.0.lin12", "lin2")
    (True, False)
    """
    return name == end or name.endswith(f".{end}")
