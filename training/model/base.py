"""The model that training starts from, loaded as the recipe says: attention, pooling, prompts."""

from collections.abc import Callable
from functools import partial
from typing import Any

from sentence_transformers import CrossEncoder

from foils import loading
from foils.errors import UserError
from foils.loading import PoolingMode
from training.recipe import Attention


def load_retriever(location: str, attention: Attention | None = None, pooling: PoolingMode | None = None) -> Any:
    """A `SentenceTransformer` with weights in fp32.

    A base without `modules.json`, a raw checkpoint, does not say how token vectors become one: by `mean` by default.

    Raises:
        UserError: the base is a model of another kind, its tokenizer does not fit, `pooling` is set for a base that
            has its own, or the attention cannot be had here.
    """
    own = [kind.rpartition(".")[2] for kind in loading.modules_of(location)]
    if own:
        if pooling is not None:
            raise UserError(
                f'recipe: pooling "{pooling}": the base says itself how it pools ({", ".join(own)} in modules.json); '
                "another way would undo what it has learnt; remove the key"
            )
        if attention is not None and "StaticEmbedding" in own[0]:
            raise UserError(
                f'recipe: attention "{attention}": the base is a table of vectors without any; remove the key'
            )
    return _checked(_loaded(loading.load_retriever, location, attention, pooling=pooling or "mean"), location)


def load_cross_encoder(location: str, max_length: int, attention: Attention | None = None) -> Any:
    """A `CrossEncoder` with one score and weights in fp32, its head new where the base has none.

    Raises:
        UserError: the base's tokenizer does not fit, or the attention cannot be had here.
    """
    settings = {"num_labels": 1, "max_length": max_length}
    return _checked(_loaded(partial(loading.in_fp32, CrossEncoder), location, attention, **settings), location)


def prompts_of(model: Any, query_prompt: str | None, passage_prompt: str | None) -> dict[str, str]:
    """The prompts put before queries and passages (`document`): the recipe's, otherwise the base's own.

    The base's further prompts stay, or a default among them would be missing from the saved model. A trainer without
    prompts uses none, whatever the model's own, and encoding would then use them.
    """
    own = model.prompts
    named = [name for name in ("document", "passage", "corpus") if name in own]
    passage = next((own[name] for name in named if own[name]), "") if passage_prompt is None else passage_prompt
    query = own.get("query") or "" if query_prompt is None else query_prompt
    return {**own, "query": query, "document": passage, **dict.fromkeys(named, passage)}


def read_at_most(model: Any, tokens: int | None) -> None:
    """Cuts a retriever's texts to a number of tokens; None for the base's own length.

    Raises:
        UserError: the base has no length.
    """
    if tokens is not None and model.max_seq_length == float("inf"):
        raise UserError(
            f"recipe: max_seq_length {tokens}: the base reads texts of any length at no cost; remove the key"
        )
    if tokens is not None:
        model.max_seq_length = tokens


def _loaded(load: Callable[..., Any], location: str, attention: Attention | None, **more: Any) -> Any:
    if attention is None:
        return load(location, **more)
    try:
        return load(location, model_kwargs={"attn_implementation": attention}, **more)
    except (ImportError, UserError) as error:
        if isinstance(error, UserError) and error.__cause__ is None:  # of the model, not of its loading
            raise
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(
            f'recipe: attention "{attention}": cannot be had for this base here ({reason}); set "sdpa" or "eager", or '
            "remove the key"
        ) from None


def _checked(model: Any, location: str) -> Any:
    """A model, each of whose tokenizers fits its embeddings; a router has several."""
    for part in model.modules():
        tokenizer, network = getattr(part, "tokenizer", None), getattr(part, "auto_model", None)
        if tokenizer is None or network is None:  # such as a table of vectors
            continue
        rows = network.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise UserError(
                f"base {location}: its tokenizer has {len(tokenizer)} tokens and the model embeddings of {rows}; call "
                "model.resize_token_embeddings(len(tokenizer)) and save the model"
            )
    return model
