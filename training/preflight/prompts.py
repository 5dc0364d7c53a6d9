"""Which bases were trained with prompts, and read worse without them."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sentence_transformers import CrossEncoder


class Known(NamedTuple):
    """Prompts of a family of bases: for queries, for passages, and where it says so."""

    query: str
    passage: str
    source: str


_BGE = "Represent this sentence for searching relevant passages: "
KNOWN = {
    # pattern of the name, in lower case: what its model card says; a test compares them with mteb's registry
    r"(^|/)(e5-mistral-7b|multilingual-e5-large)-instruct$": Known(
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
        "",
        "https://huggingface.co/intfloat/multilingual-e5-large-instruct",
    ),
    r"(^|/)(multilingual-)?e5-(small|base|large)(-v2|-unsupervised)?$": Known(
        "query: ", "passage: ", "https://huggingface.co/intfloat/e5-base-v2"
    ),
    r"bge-.*-en(-v1\.5)?$": Known(_BGE, "", "https://huggingface.co/BAAI/bge-base-en-v1.5"),
    r"bge-.*-zh(-v1\.5)?$": Known(
        "为这个句子生成表示以用于检索相关文章\uff1a", "", "https://huggingface.co/BAAI/bge-base-zh-v1.5"
    ),
    r"(^|/)mxbai-embed-large-v1$": Known(_BGE, "", "https://huggingface.co/mixedbread-ai/mxbai-embed-large-v1"),
    r"arctic-embed-(xs|s|m|l)(-v1\.5)?$|arctic-embed-m-long": Known(
        _BGE, "", "https://huggingface.co/Snowflake/snowflake-arctic-embed-m"
    ),
    r"arctic-embed-.*-v2": Known("query: ", "", "https://huggingface.co/Snowflake/snowflake-arctic-embed-m-v2.0"),
    r"(^|/)(nomic-embed-text-v|modernbert-embed-(base|large)$)": Known(
        "search_query: ", "search_document: ", "https://huggingface.co/nomic-ai/nomic-embed-text-v1.5"
    ),
    r"embeddinggemma": Known(
        "task: search result | query: ", "title: none | text: ", "https://huggingface.co/google/embeddinggemma-300m"
    ),
}
_QUERY_NAMES, _PASSAGE_NAMES = ("query", "s2p_query", "search_query"), ("document", "passage", "search_document")


def wanted(base: str, model: Any) -> Known | None:
    """The prompts that a base was trained with, as its model card or its own configuration says; None for none.

    >>> wanted("intfloat/multilingual-e5-small", None).query
    'query: '
    >>> wanted("BAAI/bge-m3", None) is None
    True
    """
    known = next((known for pattern, known in KNOWN.items() if re.search(pattern, base.lower())), None)
    if known is not None:
        return known
    own = getattr(model, "prompts", None) or {}
    query, passage = (next((own[n] for n in names if own.get(n)), "") for names in (_QUERY_NAMES, _PASSAGE_NAMES))
    return Known(query, passage, "the base's config_sentence_transformers.json") if query or passage else None


def missing(base: str, model: Any, prompts: Mapping[str, str], query_column: str = "query") -> str | None:
    """What to say where a base knows prompts and the recipe leaves them out; None where all is well."""
    if isinstance(model, CrossEncoder):
        return None
    known = wanted(base, model)
    if known is None:
        return None
    passages = [text for column, text in prompts.items() if column != query_column]
    query_lacks = bool(known.query) and not prompts.get(query_column)
    passages_lack = bool(known.passage) and not (passages and all(passages))
    if not query_lacks and not passages_lack:
        return None
    advice = " and ".join(
        f"{key} = {text!r}"
        for key, text, lacks in (
            ("query_prompt", known.query, query_lacks),
            ("passage_prompt", known.passage, passages_lack),
        )
        if lacks
    )
    return f"base {base}: was trained with prompts and the recipe sets none; set {advice} (see {known.source})"
