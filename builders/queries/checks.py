"""Checks on written queries: the reasons for which one is asked for again, and dropped after the last attempt."""

from collections.abc import Mapping

from builders.llm.messages import CUT
from builders.meta_talk import NONE, Phrases
from builders.wrapping import is_lead_in
from foils.languages import is_unspaced, length, letters, script
from foils.texts import normalised

ECHO_WORDS, ECHO_CHARACTERS = 8, 16
FEWEST_LETTERS = 12
"""With fewer, such as in a formula or a table, a passage says nothing of the script of its queries."""


def reject(
    text: str,
    finish_reason: str,
    passage: Mapping[str, str],
    words_allowed: tuple[int, int],
    refusals: Phrases = NONE,
) -> str | None:
    """Returns the reason why a query cannot be used, or None.

    Args:
        text: the query.
        finish_reason: of its answer.
        passage: `title` and `text` of what it was written for.
        words_allowed: the least and the greatest length (`foils.languages.length`).
        refusals: phrases of an LLM that declines; one that the passage has too proves nothing.

    >>> passage = {"title": "", "text": "Sort the list in place."}
    >>> reject("how do I sort a list?", "stop", passage, (3, 32))
    >>> reject("sort", "stop", passage, (3, 32))
    'too-short'
    """
    words = length(text)
    if not any(map(str.isalnum, text)):
        return "empty"
    if finish_reason in CUT or is_lead_in(text):
        return "cut" if finish_reason in CUT else "lead-in"
    if not words_allowed[0] <= words <= words_allowed[1]:
        return "too-short" if words < words_allowed[0] else "too-long"
    query = normalised(text).rstrip("?.! ")
    least = ECHO_CHARACTERS if is_unspaced(query) else ECHO_WORDS
    if length(query) >= least and query in normalised(passage["text"]):
        return "passage-echo"
    used = refusals.used_in(text)
    if used and not Phrases(used).used_in(f"{passage['title']} {passage['text']}"):
        return "meta-talk"
    scripts = {script(part) for part in (passage["title"], passage["text"]) if letters(part) >= FEWEST_LETTERS}
    return "other-script" if scripts and script(text) not in {"", *scripts} else None
