"""Queries in the style of people's own: a few of theirs stand in each request.

The file's queries go to the LLM's endpoint, so those that may hold a secret or a person's data are left out first.
"""

import logging
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from builders.hashing import keyed_hash
from builders.prompts import Prompt, as_data
from builders.realism.query_log import read_log
from foils.errors import UserError, scrub
from foils.languages import detected, english_name
from foils.provenance import sha256_texts
from foils.texts import normalised

logger = logging.getLogger(__name__)

SHOWN, FEWEST = 5, 10
"""Queries in a request, and those that a file must have, so that not every request shows the same."""
LONGEST = 200
"""Characters of a query that is shown."""
_PERSONAL = re.compile(r"\S@\S|\d{7}|(?:\d[ ./-]?){9}")
"""Addresses of e-mail, and digits as in numbers of telephones, cards and accounts; dates have eight with marks."""
_SECRET = re.compile(
    r"(?i)\b(?:sk|pk|hf|gsk|xai|nvapi|ghp|r8)[-_]\w{8}|\bAKIA[0-9A-Z]{12}|\b(?:bearer|basic)\s+[\w+/=.-]{16}"
    r"|\b(?:pass(?:word|wd)|api[-_ ]?key|token|secret)\s*(?:is\b|[:=])\s*\S"
    r"|(?=[\w+/=.-]*\d)(?=[\w+/=.-]*[A-Za-z])[\w+/=.-]{24}"
)
"""Keys, passwords, and long strings of letters and digits."""

_BRACKETS = str.maketrans("<>", "()")


class Style(NamedTuple):
    """People's queries.

    Attributes:
        queries: each once, in the file's order.
        sha256: of these (hex).
    """

    queries: tuple[str, ...]
    sha256: str

    def some(self, seed: int, query_id: str) -> list[str]:
        """Returns the queries that are shown for one that is to be written; its id and the seed decide."""
        places = [keyed_hash(seed, "like", query_id, str(number)) % len(self.queries) for number in range(SHOWN)]
        return [self.queries[place] for place in dict.fromkeys(places)]


@lru_cache(maxsize=4)
def read_style(file: str, language: str) -> Style:
    """Reads people's queries, a line or a row each; what must not leave this machine is left out and counted.

    Raises:
        UserError: the file cannot be read, most of its queries are in another language, or too few are left.
    """
    where = f"queries.like {file}"
    found = read_log(Path(file), where)
    short = [query for query in found if len(query) <= LONGEST]
    safe = [each for each in short if not _PERSONAL.search(each) and not _SECRET.search(each) and scrub(each) == each]
    left_out = (
        f"{len(short) - len(safe)} may hold a secret, an address or a number of a person, "
        f"{len(found) - len(short)} are longer than {LONGEST} characters"
    )
    if len(safe) < len(found):
        logger.warning("%s: %d of %d queries are left out: %s", where, len(found) - len(safe), len(found), left_out)
    if len(safe) < FEWEST:
        raise UserError(
            f"{where}: of {len(found)} queries, {len(safe)} can be shown ({left_out}); wanted {FEWEST} or more; "
            "name another file, or leave it out"
        )
    languages = detected(safe)
    main = next(iter(languages), language)
    if main != language and languages[main] > 2 * languages.get(language, 0):
        raise UserError(
            f"{where}: most of its queries are in {english_name(main)}, and the corpus is in {english_name(language)}; "
            "name queries in the corpus's language, or leave it out"
        )
    return Style(tuple(safe), sha256_texts([query] for query in safe))


def in_style(prompt: Prompt, examples: list[str]) -> Prompt:
    """Returns a prompt that also shows people's queries."""
    shown = " ".join(f"<{as_data(query).translate(_BRACKETS)}>" for query in examples)
    return replace(prompt, system=f"{prompt.system} Write it as these people do, about the passage alone: {shown}")


def is_shown(text: str, examples: list[str]) -> bool:
    """Whether an answer repeats one of the queries that were shown."""
    return normalised(text).rstrip("?.! ") in {normalised(query).rstrip("?.! ") for query in examples}
