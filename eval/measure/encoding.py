"""How a model encodes texts, and what an untouched base does where its folder does not say it.

A base such as E5 wants `query: ` and `passage: ` before its texts, and its folder does not say so; the trained model's
does. Measured without them, the base would look worse than it is, and training better. The same holds for pooling.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eval.recipe import EvalRecipe
from foils.errors import UserError
from foils.loading import is_raw, json_object, load_retriever, own_prompts
from foils.models import ModelReference

Prompts = Mapping[str, str]
"""`query` and `document` -> text; what is not there is empty."""


class Encoding(NamedTuple):
    """How texts are encoded.

    Attributes:
        precision: of the weights, `fp32` or `bf16`.
        batch_tokens: padded tokens of a batch; None for what the hardware likes.
        prompts: put before texts in place of the model's own; None for its own.
        pooling: of a model that does not say how it pools; None for one that does.
    """

    precision: str = "fp32"
    batch_tokens: int | None = None
    prompts: Prompts | None = None
    pooling: str | None = None


def base_encoding(config: EvalRecipe, how: Encoding, model: ModelReference, base: ModelReference) -> Encoding:
    """How a base is encoded: with the prompts and the pooling of the recipe or, without them, of the trained model.

    Args:
        config: the recipe.
        how: the trained model is encoded.
        model: the trained model.
        base: the model that it was trained from.

    Raises:
        UserError: the recipe says how to pool for a base that says it itself.
    """
    own = own_prompts(Path(model.location))
    wanted = {"query": config.query_prompt, "document": config.passage_prompt}
    texts = {role: own.get(role, "") if text is None else text for role, text in wanted.items()}
    prompts = {role: text for role, text in texts.items() if text}
    pooling: str | None = config.pooling
    if is_raw(base.location):
        stated = json_object(Path(model.location) / "1_Pooling" / "config.json").get("pooling_mode")
        pooling = pooling or (stated if isinstance(stated, str) else "mean")
    elif pooling is not None:
        raise UserError(f"recipe: pooling {pooling!r}: base {base.name} says how it pools; remove the key")
    return how._replace(prompts=None if prompts == own_prompts(Path(base.location)) else prompts, pooling=pooling)


def load(model: ModelReference, how: Encoding) -> Any:
    """A model in fp32 that pools and prompts as asked."""
    loaded = load_retriever(model.location, how.pooling)
    if how.prompts is not None:
        loaded.prompts = {"query": "", "document": "", **how.prompts}
    return loaded


def resolve_precision(wanted: str) -> str:
    """Replaces `auto` by what this machine is good at."""
    from foils.hardware import has_native_bf16

    if wanted == "auto":
        return "bf16" if has_native_bf16() else "fp32"
    return wanted
