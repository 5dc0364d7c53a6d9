"""What each step of a build leaves of what came before: printed at the end, warned about where much is lost."""

import logging
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from builders.recipe import BuildRecipe
from foils.errors import UserError

logger = logging.getLogger(__name__)

ANOTHER_LLM = "try another LLM (foils doctor RECIPE tries it)"

TOO_FEW = "too-few-negatives"
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

    def step(
        self, name: str, left: int, drops: pa.Table | None = None, before: int | None = None, remedy: str = ""
    ) -> None:
        """Adds a step; warns if it drops much.

        Args:
            name: of the step.
            left: rows after it.
            drops: `schema.DROPS` with the reasons.
            before: rows that it may drop from; None of a step that drops nothing.
            remedy: what to do where nothing is left.

        Raises:
            UserError: nothing is left.
        """
        self.steps[name] = left
        self._why[name] = why = "" if drops is None else reasons(drops)
        lost = 0 if before is None else before - left
        if lost > MUCH * (before or 0):
            found = f"{name}: {lost} of {before} dropped ({100 * lost / (before or 1):.0f} %)" + (why and f": {why}")
            if not left:
                raise UserError(f"{found}; {remedy}")
            logger.warning(found)

    def lines(self, rows: Mapping[str, pa.Table]) -> str:
        """The steps, a line each, and the rows of each kind."""
        width = max(map(len, self.steps))
        lines = [f"  {name:{width}}  {left:>9,}  {self._why[name]}".rstrip() for name, left in self.steps.items()]
        kinds = ", ".join(f"{kind} {table.num_rows:,}" for kind, table in rows.items())
        return "\n".join([*lines, f"  {'rows':{width}}  {kinds}"])


def reasons(drops: pa.Table) -> str:
    """The most frequent reasons of drops, each with the number of rows that it holds for."""
    once = drops.group_by(["reason", "id"], use_threads=False).aggregate([("detail", "first")])
    # What too few are of is in the detail.
    named = (row["detail_first"] if row["reason"] == TOO_FEW else row["reason"] for row in once.to_pylist())
    return ", ".join(f"{count:,} {reason}" for reason, count in Counter(named).most_common(5))


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
