"""The language of a task's texts, as mteb writes it: its BM25 takes stop words and stemmer from there."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mteb.languages.iso_mappings import _hf_lang_to_iso_lang_script

from cards.merging import parse_card
from cards.publish.files import CARD
from foils.languages import code_of, detected, three_letters


def language_code(language: str) -> str:
    """A language of a recipe in mteb's form.

    >>> language_code("de"), language_code("deu"), language_code("deu-Latn")
    ('deu-Latn', 'deu-Latn', 'deu-Latn')

    Raises:
        UserError: mteb does not know the language.
    """
    code = code_of(language, "tasks: language")
    return _hf_lang_to_iso_lang_script(code) or f"{three_letters(code)}-Latn"


def seems_in(texts: Iterable[str]) -> str:
    """The language that most of some texts are in; English where they do not say."""
    return next(iter(detected(texts)), "en")


def stated_in(folder: Path) -> str | None:
    """The language that a folder's manifest or card states, in mteb's form; None where it states none, or several."""
    manifest, card = folder / "manifest.json", folder / CARD
    if manifest.exists():
        return single(json.loads(manifest.read_text("utf-8")))
    return single(parse_card(card.read_text("utf-8")).data) if card.exists() else None


def single(about: Any) -> str | None:
    """The language that a manifest or a card's YAML states, in mteb's form; None where it states none, or several."""
    stated = about.get("language") if about else None
    stated = stated[0] if isinstance(stated, list) and len(stated) == 1 else stated
    code: str | None = _hf_lang_to_iso_lang_script(stated) if isinstance(stated, str) else None
    return code
