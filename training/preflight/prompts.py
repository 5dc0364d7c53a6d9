"""The prompts that bases were trained with, and without which they read worse."""

from typing import Any

from sentence_transformers import CrossEncoder

from training.preflight.report import Report
from training.rows.seen import registered

_QUERY_NAMES, _PASSAGE_NAMES = ("query", "s2p_query", "search_query"), ("document", "passage", "search_document")


def check(report: Report, model: Any) -> None:
    """Warns where a base was trained with prompts and the recipe leaves them out.

    mteb's registry knows those of published models; other bases may have some in their own configuration.
    """
    if isinstance(model, CrossEncoder):
        return
    base, own, source = report.plan.base, model.prompts, "the base's config_sentence_transformers.json"
    meta = registered(base)
    if meta is not None and (prompts := (meta.loader_kwargs or {}).get("model_prompts")):
        own, source = prompts, str(meta.reference)
    query, passage = (next((own[n] for n in names if own.get(n)), "") for names in (_QUERY_NAMES, _PASSAGE_NAMES))
    passages = [text for column, text in report.plan.prompts.items() if column != "query"]
    advice = [f"query_prompt = {query!r}"] if query and not report.plan.prompts.get("query") else []
    advice += [f"passage_prompt = {passage!r}"] if passage and not (passages and all(passages)) else []
    if advice:
        report.warnings.append(
            f"base {base}: was trained with prompts and the recipe sets none; set {' and '.join(advice)} (see {source})"
        )
