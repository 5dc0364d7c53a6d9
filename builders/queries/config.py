"""The recipe's `[queries]`."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

ROUND_TRIP_K = 20
Source = Literal["titles", "crops"]
Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]


class QueriesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How queries are written, or where labelled ones are, and which are kept.

    Attributes:
        source: a BEIR folder with `queries.jsonl` and `qrels/SPLIT.tsv`: its queries and judgements take the LLM's
            place. No setting of how queries are written may be set beside it.
        split: which judgements of `source` are read.
        sample: how many queries of `source` are used; 0 = all.
        hold_out_positives: for audits: the build knows only the positive that stands in a query's row. The others
            then show how well an audit finds false negatives.
        prompt: a file of `builders/prompts/`, without its ending.
        types: several such files with weights, such as `{"question-v1" = 2, "keywords-v1" = 1}`, in place of `prompt`;
            the seed assigns one to each query.
        like: a file of people's own queries, one a line or under `text`: a few, at random, stand in each request, so
            that the LLM writes as they do. They are sent to its endpoint, without those that look like secrets.
        per_passage: queries per sampled passage.
        attempts: how often a query is asked for until an answer is accepted.
        temperature: sampling temperature of the first try; each further try adds 0.3, at most 1.
        max_tokens: length limit of an answer in tokens.
        passage_chars: how much of a passage the LLM sees, in characters.
        min_words: shorter queries are rejected. Without it the prompt's own limit holds, and without that 3. Characters
            count, and not words, in scripts without spaces.
        max_words: longer queries are rejected. Without it the prompt's own limit holds, and without that 32; four times
            as many characters in scripts without spaces.
        pairs: `titles` and `crops`: queries that the corpus itself holds, without an LLM, as configurations of these
            names: thousands of rows in seconds, without negatives.
        round_trip_k: a query is kept only if its own passage is among the top k that it retrieves; 0 = no filter.
            Without it 20; with `source` 0, since a person who judged a passage knew what an index does not.
        round_trip_model: the embedding model that retrieves for this check; without it, BM25 does.
    """

    source: str | None = None
    split: str = "train"
    sample: Natural = 0
    hold_out_positives: bool = False
    prompt: str = "question-v1"
    types: dict[str, Annotated[float, Meta(gt=0)]] = {}
    like: str | UnsetType = UNSET  # unset, it leaves no trace in the hash of recipes
    per_passage: Positive = 1
    attempts: Positive = 3
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.2
    max_tokens: Positive = 48
    passage_chars: Positive = 1000
    min_words: Positive | None = None
    max_words: Positive | None = None
    pairs: tuple[Source, ...] = ()
    round_trip_k: Natural = -1  # a number that no recipe can give, see below
    round_trip_model: str | None = None

    def __post_init__(self) -> None:
        """Fills in what depends on the source, so that manifests hold the number."""
        if self.round_trip_k < 0:
            msgspec.structs.force_setattr(self, "round_trip_k", ROUND_TRIP_K if self.source is None else 0)

    def weights(self) -> dict[str, float]:
        """Prompt -> how often it is used, relative to the others."""
        return self.types or {self.prompt: 1.0}
