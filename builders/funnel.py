"""What each step of a build leaves of what came before: printed at the end, warned about where much is lost."""

import logging
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from builders.negatives import Mined
from builders.recipe import BuildRecipe
from foils.errors import UserError

logger = logging.getLogger(__name__)

MUCH = 0.1
"""A step that drops a larger share is warned about."""
READ_TOKENS, TOKEN_BYTES = 512, 4
"""What most retrievers read of a passage, and about how many bytes of UTF-8 a token has."""


class Funnel:
    """The steps of a build with the rows that each one leaves.

    Attributes:
        steps: step -> rows that were left, as manifests keep it.
    """

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}
        self._why: dict[str, str] = {}

    def step(self, name: str, left: int, drops: pa.Table | None = None, before: int | None = None) -> None:
        """Adds a step; warns if it drops much.

        Args:
            name: of the step.
            left: rows after it.
            drops: `schema.DROPS` with the reasons.
            before: rows that it may drop from; None of a step that drops nothing.
        """
        self.steps[name] = left
        self._why[name] = "" if drops is None else reasons(drops)
        if before is not None and before - left > MUCH * before:
            share = f"{before - left} of {before} dropped ({100 * (before - left) / before:.0f} %)"
            logger.warning("%s: %s: %s", name, share, self._why[name] or "see the configuration drops")

    def lines(self, rows: Mapping[str, pa.Table]) -> str:
        """The steps, a line each, and the rows of each kind."""
        width = max(map(len, self.steps))
        lines = [f"  {name:{width}}  {left:>9,}  {self._why[name]}".rstrip() for name, left in self.steps.items()]
        kinds = ", ".join(f"{kind} {table.num_rows:,}" for kind, table in rows.items())
        return "\n".join([*lines, f"  {'rows':{width}}  {kinds}"])


def reasons(drops: pa.Table) -> str:
    """The most frequent reasons of drops, each with the number of rows that it holds for."""
    once = drops.group_by(["reason", "id"]).aggregate([])
    return ", ".join(f"{count:,} {reason}" for reason, count in Counter(once["reason"].to_pylist()).most_common(5))


def warn_of_long(passages: pa.Table, config: BuildRecipe) -> None:
    """Says how many passages are longer than what is read of them."""
    shown, total = config.queries.passage_chars, passages.num_rows
    long = pc.sum(pc.greater(pc.binary_length(passages["text"]), READ_TOKENS * TOKEN_BYTES)).as_py()
    cut = pc.sum(pc.greater(pc.utf8_length(passages["text"]), shown)).as_py()
    if long:
        words = "corpus: %d of %d passages are longer than about %d tokens, the most that many retrievers read"
        logger.warning(words, long, total, READ_TOKENS)
    if cut and config.queries.source is None:
        words = "queries: of %d of %d passages the LLM sees the first %d characters (queries.passage_chars)"
        logger.warning(words, cut, total, shown)


def check_queries(accepted: pa.Table, written: pa.Table, round_trip: pa.Table, *, leaked: bool) -> None:
    """Refuses to go on without any query, with the most frequent reasons.

    Args:
        accepted: queries that are left.
        written: `schema.DROPS` of writing.
        round_trip: those of the round trip.
        leaked: whether the leakage guard has dropped queries too.
    """
    if accepted.num_rows:
        return
    if leaked:
        raise UserError(
            "no query was accepted: all of them stand in evaluation sets (leakage.against); build from another corpus, "
            "or set leakage.policy to allow"
        )
    why = f" ({reasons(written)})" if written.num_rows else ""
    raise UserError(
        f"no query was accepted: {written.num_rows} were not usable{why} and {round_trip.num_rows} did not find their "
        "passage; try another LLM or a larger queries.round_trip_k (--doctor tries the LLM)"
    )


def check_rows(selected: pa.Array, drops: pa.Table, mined: Mapping[str, Mined]) -> None:
    """Refuses a data set without any training row, with the most frequent reasons.

    Args:
        selected: ids of queries that have negatives of every kind.
        drops: `schema.DROPS` of selection.
        mined: kind -> what was found.
    """
    if len(selected):
        return
    details = Counter(row["detail"] for row in drops.to_pylist() if row["reason"] == "too-few-negatives")
    [(most, _)] = details.most_common(1)
    found = mined.get(most.partition(":")[0])
    why = f", answers dropped: {reasons(found.drops)}" if found is not None and found.drops.num_rows else ""
    raise UserError(
        f"no query has enough negatives of every kind ({most} for most of them{why}); set "
        "negatives.per_query lower, loosen [selection], or leave that kind out of negatives.kinds"
    )
