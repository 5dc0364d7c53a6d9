"""What models put before queries and passages, so that a base is measured as the model trained from it is.

A base such as E5 wants `query: ` and `passage: `, and its folder does not say so; the trained model's does. Measured
without them, the base would look worse than it is, and training better.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from foils.provenance import sha256_json

CONFIG = "config_sentence_transformers.json"
Prompts = Mapping[str, str]
"""`query` and `document` -> text; what is not there is empty."""


def own_prompts(folder: Path) -> Prompts:
    """The prompts that a model's folder names."""
    file = folder / CONFIG
    named = json.loads(file.read_text("utf-8")).get("prompts", {}) if file.exists() else {}
    passage = next((named[name] for name in ("document", "passage", "corpus") if named.get(name)), "")
    return given(named.get("query"), passage)


def given(query: str | None, document: str | None) -> Prompts:
    """Prompts without the empty ones.

    >>> given("query: ", None)
    {'query': 'query: '}
    """
    return {role: text for role, text in (("query", query), ("document", document)) if text}


def other_than_own(prompts: Prompts, folder: Path) -> Prompts | None:
    """Prompts, where they are not those of a model's folder; else None."""
    return None if prompts == own_prompts(folder) else prompts


def mark(prompts: Prompts | None) -> str:
    """Tells results with other prompts from those with a model's own, in the name of their folder."""
    return "" if prompts is None else f"-{sha256_json(dict(prompts))[:8]}"
