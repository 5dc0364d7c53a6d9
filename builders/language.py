"""The language of a corpus: what the recipe says, or what its passages are written in."""

import json
import logging
from pathlib import Path

from builders.passages import Passages
from foils.languages import code_of, detected, detects, english_name
from foils.models import ModelReference

logger = logging.getLogger(__name__)

SAMPLED = 200
"""Passages that stand for the corpus."""
ASSUMED = "en"
MAIN, STRAY = 0.8, 0.1
UNREAD = 0.05


def language_of(passages: Passages, stated: str | None) -> str:
    """The code of a corpus's language; where the recipe does not say it, or says it wrongly, that is reported.

    Args:
        passages: a sample of the corpus.
        stated: `corpus.language`.

    Raises:
        UserError: the language is not known.
    """
    code = None if stated is None else code_of(stated, "corpus.language")
    shares = detected(text for batch in passages.batches() for text in batch.to_pylist())
    main, share = next(iter(shares.items()), (None, 0.0))
    if code is not None:
        if share > 1 / 2 and shares.get(code, 0.0) < STRAY and detects(code):
            logger.warning(
                'corpus.language %r: the passages seem to be in %s; set it to "%s" or leave it out: BM25, prompts, '
                "checks and card go by it",
                *(stated, english_name(str(main)), main),
            )
        return code
    if main is None:
        logger.warning("corpus.language: nothing in the passages tells their language; English is taken; set the key")
        return ASSUMED
    log = logger.info if share >= MAIN else logger.warning
    also = [f"{english_name(each)} {part:.0%}" for each, part in shares.items() if part >= STRAY]
    log("language: %s, as detected (%s); corpus.language sets another", english_name(main), ", ".join(also))
    return main


def warn_of_unread(role: str, model: ModelReference, passages: Passages, language: str) -> None:
    """Warns of a model whose tokenizer does not know many of the passages' words.

    Args:
        role: what the model does.
        model: its folder is looked into; without a `tokenizer.json` nothing is found.
        passages: the corpus.
        language: its English name.
    """
    from tokenizers import Tokenizer

    file = Path(model.location) / "tokenizer.json"
    if not file.exists():
        return
    about = json.loads(file.read_text("utf-8"))["model"]
    vocabulary = about.get("vocab")
    unknown = vocabulary.get(about.get("unk_token")) if isinstance(vocabulary, dict) else about.get("unk_id")
    if not isinstance(unknown, int):  # it spells every text in bytes
        return
    texts = next(passages.batches(SAMPLED)).to_pylist()
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    ids = [token for each in tokenizer.encode_batch_fast(texts, add_special_tokens=False) for token in each.ids]
    share = ids.count(unknown) / max(len(ids), 1)
    if share > UNREAD:
        logger.warning(
            "%s %s: %.0f %% of the passages' tokens are unknown to it; take a model that reads %s",
            *(role, model.name, 100 * share, language),
        )
