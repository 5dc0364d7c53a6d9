"""The prompts that bases were trained with, and without which they read worse."""

from collections.abc import Mapping
from typing import Any

from sentence_transformers import CrossEncoder

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
    if "/" in base:
        import mteb

        try:
            meta = mteb.get_model_meta(base, fetch_from_hf=False)
        except KeyError:
            meta = None
        registered = (meta.loader_kwargs or {}).get("model_prompts") if meta is not None else None
        own, source = (registered, str(meta.reference)) if registered else (own, source)
    query, passage = (next((own[n] for n in names if own.get(n)), "") for names in (_QUERY_NAMES, _PASSAGE_NAMES))
    return query, passage, source


def missing(base: str, model: Any, prompts: Mapping[str, str], query_column: str = "query") -> str | None:
    """The warning where a base knows prompts and the recipe leaves them out; None where all is well."""
    if isinstance(model, CrossEncoder):
        return None
    query, passage, source = wanted(base, model)
    passages = [text for column, text in prompts.items() if column != query_column]
    lacking = {
        "query_prompt": "" if prompts.get(query_column) else query,
        "passage_prompt": "" if passages and all(passages) else passage,
    }
    advice = " and ".join(f"{key} = {text!r}" for key, text in lacking.items() if text)
    return (
        f"base {base}: was trained with prompts and the recipe sets none; set {advice} (see {source})"
        if advice
        else None
    )
