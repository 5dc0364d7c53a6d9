"""What a data set says of itself, `manifest.json`: as comparisons read it, and all that can be verified."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from foils.errors import UserError
from foils.hub import download, pin
from foils.kinds import PAIRS
from foils.records import ModelEntry, read_record


class ConfigEntry(Struct, frozen=True):
    """A configuration in a manifest: its split, rows and columns, and its files with their SHA-256."""

    split: str
    rows: int
    columns: list[str]
    files: dict[str, str]


class Usage(Struct, frozen=True):
    """What a stage of a build asked of an LLM; `money` is None where no prices are known."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    money: float | None = None
    busy_seconds: float = 0.0


class Exam(Struct, frozen=True, omit_defaults=True):
    """The exam that a data set holds, as split `test` of `default`: what it was made of, and how hard it is.

    Attributes:
        queries: how many there are.
        source: `llm`, or the name of the folder with people's own queries.
        llm: `model@revision` of the LLM that wrote it; None for people's own.
        prompts: name of a prompt -> queries that it was used for.
        groups: groups of passages that are the exam's alone.
        passages: in these groups.
        as_negatives: whether they may be negatives of training queries.
        seed: of the draw.
        drops: reason -> queries, or judgements, that were left out.
        overlap: the mean share of a query's content words that stand in its passage (`foils.texts.overlap`).
        without_overlap: the share of queries that have no content word of their passage.
        first_bm25: the share of queries that BM25 ranks a relevant passage first for.
        words: the median length of a query.
        first_dense: as `first_bm25`, by the embedding model that mines or filters queries; None where there is none.
        own: people's own queries beside those of an LLM, as split `own`; their groups are others.
    """

    queries: int
    source: str
    llm: str | None
    prompts: dict[str, int]
    groups: int
    passages: int
    as_negatives: bool
    seed: int
    drops: dict[str, int]
    overlap: float
    without_overlap: float
    first_bm25: float
    words: int
    first_dense: float | None = None
    own: "Exam | None" = None


class Judge(Struct, frozen=True):
    """Who judged what compared systems found for the exam's queries, and how far that can be trusted.

    Attributes:
        judge: `llm` or `cross-encoder`.
        model: `name@revision`.
        rule: when it calls a passage relevant, in words.
        systems: whose ten best hits of each query were pooled.
        pairs: that it judged, which had no judgement before; `failed` got no verdict and have none now.
        relevant: of these; `outside` are not of the exam's groups: training queries may have been written for them.
        false_quotes: pairs that count as not relevant because what the LLM quoted is not in the passage.
        random: passages at random that it was asked about too; it called `alarms` of them relevant.
        positives: known positives that it was asked about too; it called `missed` of them not relevant.
        of: SHA-256 of the manifest of the data set that was judged; empty where the build itself had hits of people's
            queries judged.
        inputs: SHA-256 of all that decides the judgements.
    """

    judge: str
    model: str
    rule: str
    systems: int
    pairs: int
    relevant: int
    false_quotes: int
    failed: int
    random: int
    alarms: int
    outside: int = 0
    positives: int = 0
    missed: int = 0
    of: str = ""
    inputs: str = ""


class CorpusInput(Struct, frozen=True):
    """The corpus that a build read: its source at a revision, and the SHA-256 of its passages."""

    source: str
    revision: str
    sha256: str


class LlmInput(Struct, frozen=True):
    """The LLM that a build asked; None where it asked none."""

    model: str | None


class Inputs(Struct, frozen=True):
    """What a build started from; `prompts` maps names to the SHA-256 of their texts."""

    corpus: CorpusInput
    prompts: dict[str, str]
    llm: LlmInput


class Manifest(Struct, frozen=True):
    """`manifest.json` as comparisons read it.

    Attributes:
        configs: of the data set.
        usage: stage -> what it asked of an LLM; None in a manifest of other hands.
        settings: the recipe with its defaults.
        prices: of the LLM; None where they are not known.
        funnel: step -> rows that were left.
        audit: name of an audit -> what it found.
        mining: kind -> how its candidates were found.
        exam: None where the data set holds none.
        judges: of the exam, one for each time that hits were judged.
        inputs: what the build started from.
    """

    configs: dict[str, ConfigEntry] = {}
    usage: dict[str, Usage] | None = None
    settings: dict[str, Any] = {}
    prices: dict[str, Any] | None = None
    funnel: dict[str, int] = {}
    audit: dict[str, Any] = {}
    mining: dict[str, dict[str, Any]] = {}
    exam: Exam | None = None
    judges: list[Judge] = []
    inputs: Any = None

    @property
    def corpus(self) -> CorpusInput | None:
        """The corpus that the build read; None where nothing says it."""
        stated = self._stated()
        return stated.corpus if stated else None

    @property
    def one_llm_wrote_all(self) -> bool:
        """Whether one LLM wrote the exam and the training queries, so that the exam has the style that was trained."""
        stated, is_labelled = self._stated(), (self.settings.get("queries") or {}).get("source") is not None
        writer = self.exam.llm.partition("@")[0] if self.exam and self.exam.llm else None
        return bool(writer and stated and stated.llm.model == writer and not is_labelled)

    def _stated(self) -> Inputs | None:
        try:
            return msgspec.convert(self.inputs, Inputs, from_attributes=True)
        except msgspec.ValidationError:
            return None

    @property
    def has_generated_exam(self) -> bool:
        """Whether an LLM wrote the exam's queries, or people's are answered by hits of the build's own retrieval."""
        return self.exam is not None and (self.exam.llm is not None or not all(judge.of for judge in self.judges))

    def training_configs(self) -> list[str]:
        """The configurations that a trainer takes as they are."""
        return [name for name, about in self.configs.items() if about.columns[:1] == ["query"]]

    def kinds(self) -> list[str]:
        """Those that share queries and positives, row by row."""
        return [name for name in self.training_configs() if name not in PAIRS]


def read_manifest(dataset: str, revision: str | None) -> Manifest | None:
    """The manifest of a data set, in a folder or on the Hub; None where it has none.

    Raises:
        UserError: there is no such data set, its manifest is broken, or the Hub refuses.
    """
    folder = Path(dataset)
    if not folder.is_dir():
        if dataset.count("/") != 1 or dataset.startswith((".", "/")):
            raise UserError(f"dataset {dataset}: no such folder; wanted a data set's folder or a Hub id (owner/name)")
        if revision is None:
            raise UserError(f'dataset {dataset}: a Hub data set needs its revision, such as revision = "v1.0.0"')
        folder = download(dataset, pin(dataset, revision, "dataset"), "dataset", ["manifest.json", "README.md"])
    return read_record(folder / "manifest.json", Manifest, "build the data set again")


class StatedRecipe(Struct, frozen=True):
    """A recipe's text, the settings over it, and the SHA-256 of all settings with their defaults."""

    text: str
    overrides: tuple[str, ...]
    identity: str


class Code(Struct, frozen=True):
    """The code that made something: the SHA-256 of its files, and the commit."""

    sha256: str
    commit: str | None


class BuildRecord(Manifest, frozen=True, kw_only=True):
    """`manifest.json` as a build writes it: all that can be verified.

    `fates` counts candidates by kind and fate; `prompts` has their texts; `models` says what each model was for.
    """

    inputs: Inputs
    recipe: StatedRecipe
    fates: dict[str, dict[str, int]]
    prompts: dict[str, str]
    code: Code
    models: dict[str, ModelEntry] = {}
    license: str | None = None
