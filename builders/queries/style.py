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
from builders.llm.failures import without_secrets
from builders.prompts import Prompt, as_data
from builders.realism.query_log import read_log
from foils.errors import UserError
from foils.languages import detected, english_name
from foils.provenance import sha256_texts
from foils.texts import normalised

logger = logging.getLogger(__name__)

SHOWN, FEWEST = 5, 10
"""Queries in a request, and those that a file must have, so that not every request shows the same."""
LONGEST = 200
"""Characters of a query that is shown."""
_PERSONAL = re.compile(r"\S@\S|(?:\d[ ./-]?){7,}")
"""Addresses of e-mail, and digits in a row as in numbers of telephones, cards and accounts."""

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
    found = [query for query in read_log(Path(file), where) if len(query) <= LONGEST]
    safe = [
        query for query in found if not _PERSONAL.search(query) and without_secrets(query) == " ".join(query.split())
    ]
    if len(safe) < len(found):
        logger.warning(
            "%s: %d of %d queries are left out, as they may hold a secret, an address or a number of a person",
            *(where, len(found) - len(safe), len(found)),
        )
    if len(safe) < FEWEST:
        raise UserError(f"{where}: {len(safe)} queries that can be shown; wanted {FEWEST} or more, or leave it out")
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
