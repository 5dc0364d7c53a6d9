"""The record of a comparison, `comparison.json`, from which tables, page, pictures and CSV are made."""

from pathlib import Path

from msgspec import Struct

from foils.errors import UserError
from foils.records import Drift, read_record
from foils.verdicts import Table

COMPARISON = "comparison.json"
VERSION = 2
"""Of the record: since 2, verdicts beside the base are a family of their own, and it is kept what pairs share."""


class Pairing(Struct, frozen=True):
    """What two arms share and differ in, by the records of their trainings.

    Attributes:
        first: an arm; `second`: another.
        equal: what fair arms share, as far as these do.
        differ: keys of the training recipe, and what came of them.
        unnamed: those that the comparison's recipe neither names nor implies; such a pair is not controlled.
        unknown: what the records do not say.
    """

    first: str
    second: str
    equal: list[str] = []
    differ: list[str] = []
    unnamed: list[str] = []
    unknown: list[str] = []


class Cost(Struct, frozen=True):
    """What an arm's negatives and trainings cost; queries and positives, which all arms share, are not counted.

    Attributes:
        arm: its name.
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
        separability: how well a classifier recognised the arm's written negatives before any training: the area under
            its ROC curve, .5 by chance; None where none are written or it was not measured.
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
    separability: float | None = None

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
        pairs: what each two arms share and differ in.
        exam: the task that a build generated; empty where there is none.
        own: the task of people's own queries beside that exam, which the last table leaves out; empty without.
        outside: arms that such an exam was not validated for -> why.
        exam_as_negatives: whether passages of the data set's exam may be negatives; None where it has no exam.
        one_llm_wrote_all: whether one LLM wrote the exam and the queries that arms were trained on.
        seed_seconds: that one more seed of all arms takes, by the runs that finished; 0 for not known.
        query_seconds: that one more query of the exam took to build, and `query_money` in `currency`; 0 for not known.
        version: `VERSION` of what wrote it; 1 where it does not say.
        tokens_of_a_row: arm -> tokens that the model reads of a typical row.
        costs: of each arm.
        tables: by task; the last one speaks for all.
        packages: versions behind the figures.
        funnel: step of the build -> rows that were left.
        examples: arm -> rows to look at.
        queries: of each task.
        rankings: task -> system (an arm's training, the base, BM25) -> its rankings, a file below the comparison's
            folder; empty in records of earlier versions.
    """

    name: str
    recipe: RecipeText
    base: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    margin: float
    precision: str
    drift_of_base: Drift | None
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
    rankings: dict[str, dict[str, str]] = {}
    pairs: list[Pairing] = []
    exam: str = ""
    own: str = ""
    outside: dict[str, str] = {}
    exam_as_negatives: bool | None = None
    one_llm_wrote_all: bool = False
    seed_seconds: float = 0.0
    query_seconds: float = 0.0
    query_money: float = 0.0
    currency: str = ""
    version: int = 1


def read_comparison(folder: Path) -> Comparison:
    """The comparison of a folder.

    Raises:
        UserError: there is none, or it does not decode.
    """
    file = folder / COMPARISON
    found = read_record(file, Comparison, "run eval.compare again, which trains and measures nothing anew")
    if found is None:
        raise UserError(f"{file}: no such file; name the folder of a comparison, the recipe's `out`")
    return found
