"""Low-rank adapters (Hu et al., arXiv 2106.09685) in place of training all weights, merged when training is done.

    wrap(model, config.lora)               # before the optimiser is made
    trainer.train()
    merge(model)                           # before it is saved: a plain model, which loads without peft

Between the two, a checkpoint of the trainer holds the adapters alone, beside the path of the base: resuming needs the
base where it was. `trainer.train(resume_from_checkpoint=...)` works on a model that was wrapped the same way.
"""

import logging
import re
from collections.abc import Sequence
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
    inner = model.transformers_model
    total = sum(parameter.numel() for parameter in model.parameters())
    linear = [name for name, module in inner.named_modules() if isinstance(module, torch.nn.Linear)]
    layers = [name for name in linear if any(part.isdigit() for part in name.split("."))]
    adapted = layers if config.target_modules == "layers" else _named(config.target_modules, linear)
    if not adapted:
        remedy = f"name some, such as {linear[:3]}" if linear else "remove lora"
        raise UserError(f"recipe: lora.target_modules: the base has no numbered linear layers; {remedy}")
    is_classifier = type(inner).__name__.endswith("ForSequenceClassification")
    head = [name for name in linear if name not in layers and name not in adapted] if is_classifier else []
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


def _named(ends: Sequence[str], linear: Sequence[str]) -> list[str]:
    """Full names of the linear layers whose names end in whole parts with one of `ends`.

    >>> _named(["self.query", "lin2"], ["layer.0.self.query", "layer.0.self.key", "layer.0.lin12"])
    Traceback (most recent call last):
    foils.errors.UserError: recipe: lora.target_modules 'lin2': no linear layer has such a name; allowed: ends of lin12, self.key, self.query

    Raises:
        UserError: no layer has such a name.
    """  # noqa: E501
    unknown = [end for end in ends if not any(f".{name}".endswith(f".{end}") for name in linear)]
    if unknown:
        known = sorted({re.split(r"\.\d+\.", name)[-1] for name in linear})
        raise UserError(
            f"recipe: lora.target_modules {', '.join(unknown)!r}: no linear layer has such a name; allowed: ends of "
            f"{', '.join(known)}"
        )
    return [name for name in linear if any(f".{name}".endswith(f".{end}") for end in ends)]
