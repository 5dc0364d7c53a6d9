"""Ids that a build makes, `PASSAGE/q1` for queries and `QUERY/llm1` for written negatives, against the corpus's."""

import pyarrow as pa
import pyarrow.compute as pc

from builders.negatives import config_of
from builders.passages import Passages
from builders.recipe import WRITTEN, BuildRecipe
from foils.errors import UserError


def check_ids(config: BuildRecipe, corpus: pa.Table, queries: pa.Table | None) -> None:
    """Refuses a corpus with an id that the build would make: one of the two would be taken for the other.

    Args:
        config: says which ids are made.
        corpus: `schema.CORPUS`.
        queries: labelled ones; None where the LLM writes them.

    Raises:
        UserError: names the id.
    """
    counts = {kind: config_of(config.negatives, kind).count for kind in WRITTEN.intersection(config.negatives.kinds)}
    written = "|".join(f"{kind}{number}" for kind, count in counts.items() for number in range(1, count + 1))
    asked = "|".join(f"q{number}" for number in range(1, config.queries.per_passage + 1))
    ending = f"/({written})$" if queries is not None else f"/({asked})(/({written}))?$" if written else f"/({asked})$"
    ids = corpus["_id"].filter(pc.match_substring_regex(corpus["_id"], ending))
    owners = pc.replace_substring_regex(ids, ending, "")
    clashes = pa.array(Passages(corpus if queries is None else queries).positions(owners) >= 0)
    if pc.any(clashes).as_py():
        made, owner = (column.filter(clashes)[0].as_py() for column in (ids, owners))
        raise UserError(
            f"corpus {config.corpus.source}: it has a passage with id {made!r}, which is the id of what the build "
            f"writes for {owner!r}; rename it, or leave out what an earlier build wrote"
        )
