"""The building recipe: every key that `python -m builders.build RECIPE` takes, with its default."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from builders.corpus.sources import CorpusConfig
from builders.exam.config import ExamConfig
from builders.leakage.config import LeakageConfig
from builders.llm.config import LlmConfig
from builders.negatives.bm25 import Bm25Config
from builders.negatives.dense import DenseConfig
from builders.negatives.llm_with_positive import LlmWithPositiveConfig
from builders.negatives.sampled import RandomConfig
from builders.negatives.written import LlmNegativesConfig
from builders.queries.config import QueriesConfig
from builders.realism.gate import GateConfig
from builders.scores.config import CrossEncoderConfig
from builders.scores.llm_judge import LlmJudgeConfig
from builders.selection.config import SelectionConfig
from foils.engine.config import EngineConfig
from foils.recipe import Seed, config_hash

KINDS = ("llm", "llm-with-positive", "bm25", "cross-encoder", "dense", "random", "none")
WRITTEN = frozenset({"llm", "llm-with-positive"})
"""The kinds that an LLM writes."""
LLM_JUDGE = "llm-judge"
Positive = Annotated[int, Meta(ge=1)]


class NegativesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which kinds of negatives are made, how many per query, and each kind's own settings.

    Attributes:
        kinds: `llm`, `llm-with-positive`, `bm25`, `cross-encoder`, `dense`, `random`; mixes such as `llm+bm25`;
            `none` for queries and positives alone.
        per_query: negatives a row; a mix has as many as any other kind.
        variants: further kinds that take another's candidates by rules of their own (`selection.kinds.NAME`), such as
            `{"bm25-safe" = "bm25"}`: they show what a rule does.
        llm_judge: how the LLM judges candidates, where `[selection]` has a rule on the scorer `llm-judge`.
        gate: what follows where a classifier recognises what the LLM wrote.
        shares: mix -> part -> weight, such as `{"llm+bm25" = {llm = 3, bm25 = 1}}`; equal weights where it is missing.
    """

    kinds: tuple[str, ...] = ("llm", "bm25", "cross-encoder", "random")
    per_query: Positive = 1
    variants: dict[str, str] = {}
    shares: dict[str, dict[str, Annotated[float, Meta(gt=0)]]] = {}
    bm25: Bm25Config = Bm25Config()
    cross_encoder: CrossEncoderConfig = field(name="cross-encoder", default_factory=CrossEncoderConfig)
    dense: DenseConfig = DenseConfig()
    llm: LlmNegativesConfig = LlmNegativesConfig()
    llm_with_positive: LlmWithPositiveConfig = field(name="llm-with-positive", default_factory=LlmWithPositiveConfig)
    random: RandomConfig = RandomConfig()
    gate: GateConfig | UnsetType = UNSET  # unset, it leaves no trace in the hash of recipes
    llm_judge: LlmJudgeConfig = field(name="llm-judge", default_factory=LlmJudgeConfig)


REMINE = "build, train on the kind dense, then build again with --set negatives.dense.model=MODEL"


class BuildRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """One build of one data set."""

    REMOVED: ClassVar[Mapping[str, str]] = {
        "llm.base_url": "name one address; nginx, vLLM's router or LiteLLM spread load over several servers",
        "llm.server": "leave it out; requests have OpenAI's form, and llm.extra_body holds what a server wants besides",
        "llm.endpoint": "set llm.base_url to the Inference Endpoint's address",
        "llm.row_deadline_s": "leave it out; llm.attempts and llm.down_after_s limit how long a request is tried",
        **dict.fromkeys(
            ("queries.output", *(f"negatives.{kind}.output" for kind in ("llm", "llm-with-positive", "llm-judge"))),
            "leave it out; answers are asked for as plain text, and JSON is read where an LLM gives it",
        ),
        "negatives.cross-encoder.processes": "leave it out; all GPUs score, or those of CUDA_VISIBLE_DEVICES",
        "negatives.cross-encoder.batch_tokens": "leave it out; batches suit the device",
        "negatives.cross-encoder.deep_pool": "leave it out and set pool to 100 or less; deeper pools mislead the model",
        "negatives.dense.rounds": REMINE,
        "negatives.dense.train_with": REMINE,
        "negatives.dense.exact_below": "leave it out; every search is exact",
        **dict.fromkeys(
            (f"negatives.{kind}.checks" for kind in ("llm", "llm-with-positive")),
            "leave it out; all checks are made, but for those that the corpus itself would fail",
        ),
        "selection.shortfall": "leave it out; for fuller rows set depth or rank_max higher, or per_query lower",
        "leakage.minhash": "leave it out; leakage.ngram_share finds what MinHash found",
        "leakage.embed_passages": "leave it out; leakage.ngram_share compares passages",
        "leakage.model": "leave it out; leakage.ngram_share compares queries and passages",
        "leakage.cosine": "leave it out; leakage.ngram_share compares queries and passages",
    }
    """Keys, and values of keys, that earlier versions took, and what to use instead."""
    name: str
    corpus: CorpusConfig
    seed: Seed = 42
    llm: LlmConfig = LlmConfig()
    queries: QueriesConfig = QueriesConfig()
    negatives: NegativesConfig = NegativesConfig()
    selection: SelectionConfig = SelectionConfig()
    leakage: LeakageConfig = LeakageConfig()
    exam: ExamConfig | None = None
    engine: EngineConfig | UnsetType = UNSET  # unset, it leaves no trace in the hash of recipes

    @property
    def scorers(self) -> set[str]:
        """The scorers that selection looks at."""
        plain = (kind for kind in self.negatives.kinds if kind in KINDS[:-1] or kind in self.negatives.variants)
        return {scorer for kind in plain for scorer in self.selection.rules_for(kind).scorers}

    def uses(self, tool: str) -> bool:
        """Whether `cross-encoder` or `dense` mines, or scores for selection."""
        return tool in self.negatives.kinds or tool in self.scorers


def asks_llm(recipe: BuildRecipe, *, judges: bool = False) -> bool:
    """Whether a build asks the recipe's LLM: to write queries, the exam's or negatives, or to judge candidates.

    `judges` is whether the exam has people's queries without judgements.
    """
    written = not WRITTEN.isdisjoint(recipe.negatives.kinds)
    exam = recipe.exam
    written = written or (exam is not None and exam.llm is None and (exam.wanted > 0 or judges))
    return recipe.queries.source is None or written or LLM_JUDGE in recipe.scorers


def identity_hash(recipe: BuildRecipe) -> str:
    """Hash of all that shapes the data set: not how fast and over which wire the LLM is asked, and not who computes."""
    return config_hash(shaping(recipe))


def shaping(recipe: BuildRecipe) -> BuildRecipe:
    """A recipe with what shapes the data set alone."""
    exam = recipe.exam
    if exam is not None and exam.llm is not None:
        exam = msgspec.structs.replace(exam, llm=exam.llm.shaping())
    return msgspec.structs.replace(recipe, llm=recipe.llm.shaping(), exam=exam, engine=UNSET)
