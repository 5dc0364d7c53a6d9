"""Low-rank adapters (Hu et al., arXiv 2106.09685) in place of training all weights, merged when training is done.

    wrapped = wrap(model, config.lora)     # before the optimiser is made
    trainer.train()
    merge(model)                           # before it is saved: a plain model, which loads without peft

Between the two, a checkpoint of the trainer holds the adapters alone, beside the path of the base: resuming needs the
base where it was. `trainer.train(resume_from_checkpoint=...)` works on a model that was wrapped the same way.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
from msgspec import Meta, Struct

from foils.errors import UserError


class LoraConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which weights get an adapter, and of which size.

    A weight W of shape (out, in) becomes W + alpha / rank * B A, with A of shape (rank, in) and B, which starts at 0,
    of shape (out, rank); only A and B are trained, and a cross-encoder's head beside them.

    Attributes:
        rank: of the adapters; more can learn more and cost more.
        alpha: the adapters' weight is alpha / rank; with `rank_stabilised`, alpha / sqrt(rank).
        dropout: probability at the adapters' input while training.
        target_modules: `layers`, the attention and feed-forward layers, found as the linear ones in numbered layers
            (BERT, DistilBERT, ModernBERT, MPNet, RoBERTa and XLM-R alike); `all-linear`, a pooler's too; or ends of
            names, such as `["query", "value"]`.
        rank_stabilised: see `alpha`; for ranks of 32 and more (arXiv 2312.03732).
        use_dora: trains the length of each weight's columns apart from their direction (arXiv 2402.09353); slower.
    """

    rank: Annotated[int, Meta(ge=1)] = 16
    alpha: Annotated[float, Meta(gt=0)] = 32.0
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    target_modules: Literal["layers", "all-linear"] | tuple[str, ...] = "layers"
    rank_stabilised: bool = False
    use_dora: bool = False


class Wrapped(Struct, frozen=True):
    """What `wrap` did, for the log and the run record.

    Attributes:
        trainable: numbers that are trained.
        total: numbers of the model as it is saved.
        modules: linear layers that got an adapter.
    """

    trainable: int
    total: int
    modules: int

    def told(self) -> str:
        """One line for the log.

        >>> Wrapped(trainable=663552, total=22713216, modules=36).told()
        'LoRA: 663,552 of 22,713,216 parameters are trained (2.9 %), in 36 layers'
        """
        share = 100 * self.trainable / self.total
        trained = f"{self.trainable:,} of {self.total:,} parameters are trained ({share:.1f} %)"
        return f"LoRA: {trained}, in {self.modules} layers"


def wrap(model: Any, config: LoraConfig) -> Wrapped:
    """Puts adapters on a SentenceTransformer or CrossEncoder, in place, and freezes what they adapt.

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
    return Wrapped(trainable, total, len(adapted))


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
    """Linear layers that stand in no numbered layer: a pooler's and a head's."""
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
