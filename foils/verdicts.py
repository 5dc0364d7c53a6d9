"""What a comparison says of its arms: differences, verdicts and tables, as `comparison.json` holds them."""

from msgspec import Struct

BASE = "untouched base"
"""The name of the base among the arms of a comparison."""


class Estimate(Struct, frozen=True):
    """The difference of two arms on one task, or its mean over several tasks that all count alike.

    Attributes:
        mean: first arm minus second.
        low: lower end of the 95 % interval; `high` is its upper end. They speak of other queries of this kind and, with
            two seeds or more, of other trainings.
        p: two-sided, of no difference: the larger of the p by the same draws as the interval and that of a
            randomization test, which turns the sign of the difference by query.
        p_equivalent: of a difference as large as the margin or larger, either way (two one-sided tests).
        smallest: the difference that this experiment would have found with a power of 80 %.
        seed_share: share of the variance of `mean` that comes from trainings and not from queries; None with one seed.
        wins: queries on which the first is better; then `ties` and `losses`.
        queries: judged, of all tasks.
        seeds: trainings of an arm; 0 where both models are given and neither was trained here.
    """

    mean: float
    low: float
    high: float
    p: float
    p_equivalent: float
    smallest: float
    seed_share: float | None
    wins: int
    ties: int
    losses: int
    queries: int
    seeds: int


class Verdict(Struct, frozen=True):
    """What is said of a pair of arms.

    Attributes:
        first: an arm; `second`: what it is compared with.
        estimate: their difference, first minus second.
        p: of no difference, after Holm's correction over all pairs of the family: arms beside the base, or arms among
            themselves.
        p_equivalent: of a difference of the margin or more, after the same correction.
        word: `better`, `worse` (both speak of the first), `equivalent` or `undecided`.
        small: whether a difference that is certain is also certainly below the margin.
        text: one sentence.
        fewest: the difference on the half of the queries that shares fewest words with its passages; `most`: on the
            other half. None where it is not known.
        turned: whether the order is certain on one half and the other way round on the other; `word` is `undecided`.
    """

    first: str
    second: str
    estimate: Estimate
    p: float
    p_equivalent: float
    word: str
    small: bool
    text: str
    fewest: Estimate | None = None
    most: Estimate | None = None
    turned: bool = False

    @property
    def said(self) -> str:
        """The word as tables print it; what one seed decides holds for this training alone."""
        return f"{self.word} in this training" if self.estimate.seeds == 1 and self.word != "undecided" else self.word


class Half(Struct, frozen=True):
    """Half of the queries of a table.

    Attributes:
        overlap: share of a query's content words that stand in its passage, mean over these queries.
        queries: number of them.
        base: nDCG@10 of the untouched base.
        bm25: nDCG@10 of BM25; None where it was not measured.
    """

    overlap: float
    queries: int
    base: float
    bm25: float | None = None


class Row(Struct, frozen=True):
    """One line of a table.

    Attributes:
        arm: its name, or `BASE`.
        metrics: printed name -> mean over queries and seeds (and tasks, which all count alike).
        by_seed: seed -> nDCG@10; empty for a model that was not trained here.
        difference: of nDCG@10 to the base; None for the base.
    """

    arm: str
    metrics: dict[str, float]
    by_seed: dict[int, float]
    difference: Estimate | None


class Table(Struct, frozen=True):
    """The comparison on one task, or over all: the base first, then the arms as the recipe orders them.

    Attributes:
        task: its name, or what stands for all of them.
        revision: of its data; empty over all tasks.
        queries: number of judged ones.
        rows: of each arm.
        verdicts: of each pair, the later arm first, so that arms are compared with the base and with the controls.
        turned: sentences on pairs whose order turns round when one task is left out; empty for a single task.
        halves: the queries with the fewest and with the most words of their passages; empty where that is not known.
        first: `BASE`, and BM25 where measured -> share of queries whose first hit is relevant; empty over all tasks.
    """

    task: str
    revision: str
    queries: int
    rows: list[Row]
    verdicts: list[Verdict]
    turned: list[str] = []
    halves: list[Half] = []
    first: dict[str, float] = {}

    def beside(self, other: str) -> list[Verdict]:
        """The verdicts of all arms beside another, or beside the base."""
        return [found for found in self.verdicts if found.second == other]
