"""The rules by which candidates become negatives: the recipe's `[selection]`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from foils.errors import UserError
from foils.recipe import decode_config

NO_NEGATIVES = "none"
JOINT = "+"
"""Between the parts of a mix's name."""
OF_MIXES = frozenset({"max_uses"})
Share = Annotated[float, Meta(ge=0, le=1)]
Rank = Annotated[int, Meta(ge=1)]


class Rules(Struct, frozen=True, forbid_unknown_fields=True):
    """The rules for one kind of negatives. A scorer is `bm25`, `dense`, `cross-encoder` or `llm-judge`.

    Attributes:
        rank_min: the best rank of the miner that is taken.
        rank_max: the worst rank that is taken; None = no limit.
        sampling: which of the usable candidates are taken: `top`, the best-ranked; `hardest`, those with the highest
            scores, such as the best of n that an LLM wrote; `random`, at random; `around-positive`, at random, most
            likely those about as good as the positive (SimANS, arXiv 2210.11773): with probability proportional to
            `exp(-a (s - s+ - b)^2)`, s and s+ the scores of candidate and positive.
        around_scorer: whose scores `around-positive` and `hardest` look at.
        around_a: how narrow that curve is; 0 makes all equally likely.
        around_b: where its peak lies, in score units above the positive.
        relative_margin: scorer -> m: candidates with a score above s+ - m |s+| are too close to the positive. With
            positive scores this is NV-Retriever's TopK-PercPos with a share of 1 - m (arXiv 2407.15831); with negative
            scores, where a share of the score would lie above the positive, it stays below it.
        absolute_margin: scorer -> m: candidates with a score above s+ - m are too close (NV-Retriever's
            TopK-MarginPos).
        floor: scorer -> lowest score that is allowed.
        ceiling: scorer -> highest score that is allowed.
        relabel: scorer -> score from which on a passage of the corpus counts as a further positive (RLHN,
            arXiv 2505.16967): it joins the judgements, and no kind has it as a negative. A generated one is dropped.
        near_duplicate: candidates that share this much of their three-word shingles (Jaccard) with a positive are
            dropped; 0 = no check. Equal texts are dropped in any case.
        max_uses: how often one passage may serve as a negative of this kind; None = no limit.
    """

    rank_min: Rank = 1
    rank_max: Rank | None = None
    sampling: Literal["top", "hardest", "random", "around-positive"] = "top"
    around_scorer: str = "cross-encoder"
    around_a: Annotated[float, Meta(ge=0)] = 0.5
    around_b: float = 0.0
    relative_margin: dict[str, Annotated[float, Meta(ge=0)]] = {}
    absolute_margin: dict[str, Annotated[float, Meta(ge=0)]] = {}
    floor: dict[str, float] = {}
    ceiling: dict[str, float] = {}
    relabel: dict[str, float] = {}
    near_duplicate: Share = 0.8
    max_uses: Annotated[int, Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        """Refuses rules that contradict each other; the reader of the recipe adds the key."""
        if self.rank_max is not None and self.rank_max < self.rank_min:
            raise ValueError(f"rank_max {self.rank_max} is below rank_min {self.rank_min}; set it higher")
        for scorer in self.floor.keys() & self.ceiling.keys():
            if self.floor[scorer] > self.ceiling[scorer]:
                raise ValueError(f"floor {self.floor[scorer]} of {scorer} is above its ceiling {self.ceiling[scorer]}")

    @property
    def scorers(self) -> set[str]:
        """The scorers whose scores these rules look at."""
        named = {*self.relative_margin, *self.absolute_margin, *self.floor, *self.ceiling, *self.relabel}
        return named | ({self.around_scorer} if self.sampling in {"around-positive", "hardest"} else set())


class SelectionConfig(Rules, frozen=True, forbid_unknown_fields=True):
    """The rules for all kinds, and where kinds differ.

    Attributes:
        kinds: kind -> the rules that differ for it, such as `{"random" = {"relative_margin" = {}}}`.
    """

    kinds: dict[str, dict[str, Any]] = {}

    def rules_for(self, kind: str) -> Rules:
        """Returns the rules that hold for a kind.

        Raises:
            UserError: a kind's own rules have an unknown key or a wrong value.
        """
        shared = {field: getattr(self, field) for field in Rules.__struct_fields__}
        return decode_config(msgspec.to_builtins(shared) | self.kinds.get(kind, {}), Rules, f"selection.kinds.{kind}")


class Wanted(NamedTuple):
    """What is to be selected.

    Attributes:
        kinds: kinds and mixes of the data set; `none` for queries and positives alone.
        per_query: negatives a row.
        seed: any integer.
        config: the rules.
        shares: mix -> part -> weight; equal ones where a mix is missing.
        variants: kind -> the kind whose candidates it takes, by rules of its own.
    """

    kinds: tuple[str, ...]
    per_query: int
    seed: int
    config: SelectionConfig = SelectionConfig()
    shares: Mapping[str, Mapping[str, float]] = {}
    variants: Mapping[str, str] = {}

    @property
    def drawn_kinds(self) -> tuple[str, ...]:
        """The kinds and mixes that have negatives."""
        return tuple(kind for kind in self.kinds if kind != NO_NEGATIVES)

    def source_of(self, kind: str) -> str:
        """Returns the kind under whose name the candidates were mined."""
        return self.variants.get(kind, kind)


def check_selection(config: SelectionConfig, kinds: tuple[str, ...]) -> None:
    """Refuses rules that contradict each other.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    unknown = sorted(set(config.kinds) - set(kinds))
    if unknown:
        raise UserError(f"recipe: selection.kinds.{unknown[0]}: not among negatives.kinds ({', '.join(kinds)})")
    for kind in kinds:
        idle = sorted(set(config.kinds.get(kind, {})) - OF_MIXES) if JOINT in kind else []
        if idle:
            raise UserError(
                f"recipe: selection.kinds.{kind!r}.{idle[0]}: a mix takes what its kinds' rules leave; allowed for it: "
                f"{', '.join(sorted(OF_MIXES))}"
            )
        config.rules_for(kind)  # refuses what it cannot be
