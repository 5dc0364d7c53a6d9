"""The building recipe: every key that `python -m builders.build RECIPE` takes, with its default."""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from builders.llm.config import LlmConfig, check_llm
from builders.negatives.bm25 import Bm25Config
from builders.negatives.llm import LlmNegativesConfig
from builders.negatives.llm_with_positive import LlmWithPositiveConfig
from builders.negatives.random import RandomConfig
from builders.scoring.config import CrossEncoderConfig
from cards.errors import UserError
from cards.recipe import config_hash

Kind = Literal["llm", "llm-with-positive", "bm25", "cross-encoder", "random"]
Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]


class CorpusConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where passages come from and which of them are kept.

    Attributes:
        source: a BEIR folder, a `.jsonl` or `.parquet` file, a Hub data set id, or `python-docs`.
        revision: the Hub commit or tag; required for a Hub id.
        config: the configuration of a Hub data set that holds the passages.
        split: its split.
        id_column: the column with the passage ids; likewise `title_column` (may be absent) and `text_column`.
        sample: passages that get a query; 0 = all.
        min_chars: shorter passages are dropped; likewise longer ones than `max_chars`.
        license: the corpus's licence for the card, as the Hub spells it.
        language: two-letter code of the corpus's language; chooses stemmer and stop words.
    """

    source: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    id_column: str = "_id"
    title_column: str = "title"
    text_column: str = "text"
    sample: Natural = 300
    min_chars: Positive = 1
    max_chars: Positive = 20_000
    license: str | None = None
    language: str = "en"


class QueriesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How queries are written and which are kept.

    Attributes:
        prompt: a file of `builders/prompts/`, without its ending.
        types: several such files with weights, such as `{"question-v1" = 2, "keywords-v1" = 1}`, in place of `prompt`;
            each query is assigned one by the seed.
        per_passage: queries per sampled passage.
        attempts: how often a rejected query is asked for again, the first time included.
        temperature: sampling temperature of the first try; each further try adds 0.3, at most 1.
        max_tokens: length limit of an answer in tokens.
        output: `json` asks for a JSON object, and holds the server to it where `llm.server` has a way.
        passage_chars: how much of a passage the LLM sees, in characters.
        min_words: shorter queries are rejected; likewise longer ones than `max_words`. Without them the prompt's own
            range holds, and without that 3 to 32.
        round_trip_k: a query is kept only if its own passage is among the top k that it retrieves; 0 = no filter.
        round_trip_model: an embedding model for that check; without it, BM25 makes it.
    """

    prompt: str = "question-v1"
    types: dict[str, Annotated[float, Meta(gt=0)]] = {}
    per_passage: Positive = 1
    attempts: Positive = 3
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.2
    max_tokens: Positive = 48
    output: Literal["text", "json"] = "text"
    passage_chars: Positive = 1000
    min_words: Positive | None = None
    max_words: Positive | None = None
    round_trip_k: Natural = 20
    round_trip_model: str | None = None

    def weights(self) -> dict[str, float]:
        """Prompt -> how often it is used, in relation to the others."""
        return self.types or {self.prompt: 1.0}


class NegativesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which kinds of negatives are made, how many per query, and each kind's own settings."""

    kinds: tuple[Kind, ...] = ("llm", "bm25", "cross-encoder", "random")
    per_query: Positive = 1
    bm25: Bm25Config = Bm25Config()
    cross_encoder: CrossEncoderConfig = field(name="cross-encoder", default_factory=CrossEncoderConfig)
    llm: LlmNegativesConfig = LlmNegativesConfig()
    llm_with_positive: LlmWithPositiveConfig = field(name="llm-with-positive", default_factory=LlmWithPositiveConfig)
    random: RandomConfig = RandomConfig()


class BuildRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """One build of one data set."""

    name: str
    corpus: CorpusConfig
    seed: int = 42
    llm: LlmConfig = LlmConfig()
    queries: QueriesConfig = QueriesConfig()
    negatives: NegativesConfig = NegativesConfig()


def check(recipe: BuildRecipe) -> None:
    """Refuses what the types cannot: values that contradict each other.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", recipe.name):
        raise UserError(f"recipe: name {recipe.name!r}: wanted lower-case letters, digits, '.', '_' and '-'")
    kinds = recipe.negatives.kinds
    if not kinds or len(set(kinds)) != len(kinds):
        raise UserError(f"recipe: negatives.kinds {list(kinds)}: wanted one or more kinds, each once")
    if recipe.corpus.min_chars > recipe.corpus.max_chars:
        raise UserError(
            f"recipe: corpus.min_chars {recipe.corpus.min_chars} is above corpus.max_chars {recipe.corpus.max_chars}"
        )
    ranker = recipe.negatives.cross_encoder
    if "cross-encoder" in kinds and (ranker.model is None) == (ranker.train_with is None):
        raise UserError(
            "recipe: negatives.cross-encoder: wanted exactly one of model (a CrossEncoder folder or Hub id) and "
            "train_with (a training recipe, to train one from this build's own queries)"
        )
    _check_writing(recipe.queries, recipe.negatives)
    check_llm(recipe.llm)


def _check_writing(queries: QueriesConfig, negatives: NegativesConfig) -> None:
    """Refuses what would have the LLM paid for answers that cannot be used."""
    if queries.types and queries.prompt != QueriesConfig().prompt:
        raise UserError(f"recipe: queries.prompt {queries.prompt!r} and queries.types are set; wanted one of them")
    if queries.min_words is not None and queries.max_words is not None and queries.min_words > queries.max_words:
        raise UserError(f"recipe: queries.min_words {queries.min_words} is above queries.max_words {queries.max_words}")
    for kind, writer in (("llm", negatives.llm), ("llm-with-positive", negatives.llm_with_positive)):
        if kind in negatives.kinds and writer.count < negatives.per_query:
            raise UserError(
                f"recipe: negatives.per_query {negatives.per_query}: of kind {kind} only {writer.count} are written "
                f"for a query; set negatives.{kind}.count to {negatives.per_query} or more"
            )


def identity_hash(recipe: BuildRecipe) -> str:
    """Hash of all that shapes the data set: how fast and over which wire the LLM is asked does not count."""
    return config_hash(msgspec.structs.replace(recipe, llm=recipe.llm.shaping()))
