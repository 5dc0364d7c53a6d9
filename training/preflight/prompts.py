"""The prompts that bases were trained with, and without which they read worse."""

from collections.abc import Mapping
from typing import Any

from sentence_transformers import CrossEncoder

from training.rows.seen import registered

_QUERY_NAMES, _PASSAGE_NAMES = ("query", "s2p_query", "search_query"), ("document", "passage", "search_document")


def wanted(base: str, model: Any) -> tuple[str, str, str]:
    """The prompts that a base was trained with, for queries and for passages, and where that is said.

    mteb's registry knows those of published models; other bases may have some in their own configuration.

    >>> wanted("intfloat/multilingual-e5-small", None)
    ('query: ', 'passage: ', 'https://huggingface.co/intfloat/multilingual-e5-small')
    >>> wanted("BAAI/bge-m3", None)[:2]
    ('', '')
    """
    own, source = getattr(model, "prompts", None) or {}, "the base's config_sentence_transformers.json"
    meta = registered(base)
    if meta is not None and (prompts := (meta.loader_kwargs or {}).get("model_prompts")):
        own, source = prompts, str(meta.reference)
    query, passage = (next((own[n] for n in names if own.get(n)), "") for names in (_QUERY_NAMES, _PASSAGE_NAMES))
    return query, passage, source


def missing(base: str, model: Any, prompts: Mapping[str, str]) -> str | None:
    """The warning where a base knows prompts and the recipe leaves them out; None where all is well."""
    if isinstance(model, CrossEncoder):
        return None
    query, passage, source = wanted(base, model)
    passages = [text for column, text in prompts.items() if column != "query"]
    advice = [f"query_prompt = {query!r}"] if query and not prompts.get("query") else []
    advice += [f"passage_prompt = {passage!r}"] if passage and not (passages and all(passages)) else []
    if not advice:
        return None
    return f"base {base}: was trained with prompts and the recipe sets none; set {' and '.join(advice)} (see {source})"
