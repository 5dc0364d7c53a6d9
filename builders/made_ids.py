"""Ids that a build makes, `PASSAGE/q1` for queries and `QUERY/llm1` for written negatives, against the corpus's."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from builders.negatives import config_of
from builders.recipe import WRITTEN, BuildRecipe
from foils.errors import UserError

_QUERY = "q"


def check_ids(config: BuildRecipe, corpus: pa.Table, queries: pa.Table | None) -> None:
    """Refuses a corpus with an id that the build would make: one of the two would be taken for the other.

    Args:
        config: says which ids are made.
        corpus: `schema.CORPUS`.
        queries: labelled ones; None where the LLM writes them.

    Raises:
        UserError: names the id.
    """
    made = {kind: config_of(config.negatives, kind).count for kind in WRITTEN.intersection(config.negatives.kinds)}
    if queries is None:
        made[_QUERY] = config.queries.per_passage
    if not made:
        return
    ending = re.compile(f"(.+)/({'|'.join(sorted(made))})([1-9][0-9]*)", re.DOTALL)

    def owner(made_id: str) -> str | None:
        """The passage, or labelled query, for which an id would be made."""
        parts = ending.fullmatch(made_id)
        if parts is None or int(parts[3]) > made[parts[2]]:
            return None
        return owner(parts[1]) if parts[2] != _QUERY and queries is None else parts[1]

    ids = corpus["_id"].filter(pc.match_substring_regex(corpus["_id"], "/[a-z-]+[0-9]+$")).to_pylist()
    made_for = {passage: made_id for made_id in ids if (passage := owner(made_id)) is not None}
    owned = pa.array(made_for, pa.string())
    clashes = owned.filter(pc.is_in(owned, value_set=(corpus if queries is None else queries)["_id"])).to_pylist()
    if clashes:
        first = clashes[0]
        raise UserError(
            f"corpus {config.corpus.source}: it has a passage with id {made_for[first]!r}, which is the id of what the "
            f"build writes for {first!r}; rename it, or leave out what an earlier build wrote"
        )
