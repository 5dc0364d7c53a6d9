"""The language of a corpus: what the recipe says, or what its passages are written in."""

import logging

from builders.passages import Passages
from foils.languages import code_of, detected, detects, english_name

logger = logging.getLogger(__name__)

SAMPLED = 200
"""Passages that stand for the corpus."""
ASSUMED = "en"
MAIN, STRAY = 0.8, 0.1


def language_of(passages: Passages, stated: str | None) -> str:
    """The code of a corpus's language; where the recipe does not say it, or says it wrongly, that is reported.

    Args:
        passages: a sample of the corpus.
        stated: `corpus.language`.

    Raises:
        UserError: there is no such language.
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
