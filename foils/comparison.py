"""The record of a comparison, `comparison.json`, from which tables, page, pictures and CSV are made."""

from msgspec import Struct

from foils.records import Drift

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
        queries: judged, of all tasks; `seeds`: trainings of an arm.
        queries_needed: to find a difference of the margin with a power of 80 % and these seeds; None where the
            trainings alone vary too much. `seeds_needed`: the same with these queries.
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
    queries_needed: int | None
    seeds_needed: int | None


class Verdict(Struct, frozen=True):
    """What is said of a pair of arms.

    Attributes:
        first: an arm; `second`: what it is compared with.
        estimate: their difference, first minus second.
        p: of no difference, after Holm's correction over all pairs of the family.
        p_equivalent: of a difference of the margin or more, after the same correction.
        word: `better`, `worse` (both speak of the first), `equivalent` or `undecided`.
        small: whether a difference that is certain is also certainly below the margin.
        text: one sentence.
    """

    first: str
    second: str
    estimate: Estimate
    p: float
    p_equivalent: float
    word: str
    small: bool
    text: str


class Row(Struct, frozen=True):
    """One line of a table.

    Attributes:
        arm: kind of negatives, or `BASE`.
        metrics: printed name -> mean over queries and seeds (and tasks, which all count alike).
        by_seed: seed -> nDCG@10; empty for the base.
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
    """

    task: str
    revision: str
    queries: int
    rows: list[Row]
    verdicts: list[Verdict]
    turned: list[str] = []


class Guarantee(Struct, frozen=True):
    """One thing that arms share, or do not.

    Attributes:
        what: in a few words.
        held: whether they share it; None where the records do not say.
        told: the value that all share, or which runs differ.
    """

    what: str
    held: bool | None
    told: str


class Cost(Struct, frozen=True):
    """What an arm's negatives and trainings cost; queries and positives, which all arms share, are not counted.

    Attributes:
        arm: kind of negatives.
        rows: that it was trained on.
        reads_corpus: whether the corpus must be at hand to make the negatives.
        llm_calls: that wrote them, without failed tries.
        llm_tokens: read and written by these calls.
        money: for the calls, in `currency`; None where no prices are known.
        build_seconds: of writing or mining, of training a cross-encoder to mine with, and of scoring for its rules,
            wall time; None where the build's costs are not known here.
        training_seconds: of one training, mean over seeds.
        peak_memory_mib: the most that a training held, on the GPU or, without one, in its process; None where its
            record does not say.
    """

    arm: str
    rows: int
    reads_corpus: bool
    llm_calls: int
    llm_tokens: int
    money: float | None
    currency: str | None
    build_seconds: float | None
    training_seconds: float
    peak_memory_mib: int | None = None

    def per_thousand_rows(self, amount: float | None) -> float | None:
        """An amount of this arm, for a thousand rows."""
        return None if amount is None or not self.rows else 1000 * amount / self.rows


class Example(Struct, frozen=True):
    """A row of a kind, its texts cut."""

    query: str
    positive: str
    negatives: list[str]


class Hit(Struct, frozen=True):
    """A passage in a ranking: its id, the start of its text, and whether it is judged relevant."""

    id: str
    text: str
    relevant: bool


class Change(Struct, frozen=True):
    """A query before and after training.

    Attributes:
        query: its id; `text` what it asks.
        before: nDCG@10 of the base; `after`: of the arm, mean over seeds.
        hits_before: what the base ranks best; `hits_after`: what the arm's first seed ranks best.
        relevant: judged passages, and the rank of each before and after (None: not among those kept).
    """

    query: str
    text: str
    before: float
    after: float
    hits_before: list[Hit]
    hits_after: list[Hit]
    relevant: list[tuple[str, int | None, int | None]]


class ArmChanges(Struct, frozen=True):
    """The queries that an arm gained and lost most."""

    name: str
    gained: list[Change]
    lost: list[Change]


class TaskQueries(Struct, frozen=True):
    """Every query of a task.

    Attributes:
        name: of the task.
        queries: their ids, in the order of `texts` and of all lists in `scores`.
        texts: what they ask.
        scores: arm (the base first) -> seed -> printed name of a metric -> value of each query.
        arms: the queries that each arm changed most.
    """

    name: str
    queries: list[str]
    texts: list[str]
    scores: dict[str, dict[int, dict[str, list[float]]]]
    arms: list[ArmChanges]


class RecipeText(Struct, frozen=True):
    """A recipe as it was given: the file's text and the `key=value` settings over it."""

    text: str
    overrides: tuple[str, ...] = ()


class Comparison(Struct, frozen=True, kw_only=True):
    """A comparison of arms on one base: `comparison.json`, from which the whole report is made.

    Attributes:
        name: of the comparison.
        recipe: as it was given.
        dataset: what was trained on, at `revision`; `training` is the training recipe.
        base: the model that all arms start from, as the recipe names it; `base_name` is its name.
        arms: that finished with every one of `seeds`.
        margin: of nDCG@10, below which a difference is of no account.
        precision: that texts were encoded in.
        drift_of_base: of `precision` from fp32, on texts of the first task; None for fp32.
        guarantees: what the arms' trainings share.
        tokens_of_a_row: arm -> tokens that the model reads of a typical row.
        costs: of each arm.
        tables: by task; the last one speaks for all.
        packages: versions behind the figures.
        funnel: step of the build -> rows that were left.
        examples: arm -> rows to look at.
        queries: of each task.
    """

    name: str
    recipe: RecipeText
    base: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    margin: float
    precision: str
    drift_of_base: Drift | None
    guarantees: list[Guarantee]
    tokens_of_a_row: dict[str, int]
    costs: list[Cost]
    tables: list[Table]
    packages: dict[str, str]
    dataset: str = ""
    revision: str | None = None
    training: str = ""
    base_name: str = ""
    funnel: dict[str, int] = {}
    examples: dict[str, list[Example]] = {}
    queries: list[TaskQueries] = []
