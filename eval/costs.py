"""What each kind of negatives cost, from the ledgers of the build and the records of the trainings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from eval.account import Account
from eval.guarantees import Record
from eval.recipe import CompareRecipe
from eval.runs import CONTROL
from foils.kinds import kinds_of

READS_CORPUS = frozenset({"random", "bm25", "dense", "cross-encoder"})
"""Kinds whose negatives are passages of the corpus; the others are written by an LLM, or are none."""
_LIMITS = ("relative_margin", "absolute_margin", "floor", "ceiling", "relabel")
_THOUSAND = 1000


class Cost(Struct, frozen=True):
    """What an arm's negatives and trainings cost; queries and positives, which all arms share, are not counted.

    Attributes:
        arm: kind of negatives.
        rows: that it was trained on.
        reads_corpus: whether the corpus must be at hand to make the negatives.
        llm_calls: that wrote them, failed tries left out; likewise `llm_tokens`, read and written.
        money: for the calls, in `currency`; None where no prices are known.
        build_seconds: of writing or mining, of training a cross-encoder to mine with, and of scoring for its rules,
            wall time; None where the build left no account here.
        training_seconds: a training, mean over seeds.
        peak_memory_mib: the most that a training held, on the GPU or, without one, in its process; None where its
            record is of an earlier version, which did not measure that.
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
    peak_memory_mib: int | None

    def per_thousand_rows(self, amount: float | None) -> float | None:
        """An amount of this arm, for a thousand rows."""
        return None if amount is None or not self.rows else _THOUSAND * amount / self.rows


def costs(config: CompareRecipe, account: Account | None, records: Mapping[str, Record]) -> list[Cost]:
    """The costs of each arm.

    Args:
        config: the comparison.
        account: of its data set.
        records: `ARM-seedN` -> the record of that training.
    """
    return [_cost(arm, account, [records[f"{arm}-seed{seed}"] for seed in config.seeds]) for arm in config.arms]


def components(arm: str, variants: Mapping[str, str]) -> list[str]:
    """The plain kinds that an arm is made of.

    >>> components("llm:0.7,bm25-limited:0.3", {"bm25-limited": "bm25"})
    ['llm', 'bm25']
    """
    return list(dict.fromkeys(variants.get(name, name) for name in kinds_of(arm)))


def _cost(arm: str, account: Account | None, trainings: Sequence[Record]) -> Cost:
    manifest: Mapping[str, Any] = account.manifest if account else {}
    kinds = components(arm, manifest.get("settings", {}).get("negatives", {}).get("variants", {}))
    written = [manifest["usage"][kind] for kind in kinds if kind in manifest.get("usage", {})]
    priced = all("money" in stage for stage in written) and (manifest.get("prices") or not written)
    memory = [record["peak_memory"]["mib"] for record in trainings if "peak_memory" in record]
    return Cost(
        arm=arm,
        rows=trainings[0]["dataset"]["rows"],
        reads_corpus=not READS_CORPUS.isdisjoint(kinds),
        llm_calls=sum(stage["calls"] for stage in written),
        llm_tokens=sum(stage["prompt_tokens"] + stage["completion_tokens"] for stage in written),
        money=sum(stage["money"] for stage in written) if priced else None,
        currency=(manifest.get("prices") or {}).get("currency"),
        build_seconds=_build_seconds(arm, kinds, account),
        training_seconds=_mean(record["seconds"] for record in trainings),
        peak_memory_mib=max(memory) if len(memory) == len(trainings) else None,
    )


def _build_seconds(arm: str, kinds: Sequence[str], account: Account | None) -> float | None:
    if arm == CONTROL:
        return 0.0
    if account is None or account.seconds is None:
        return None
    selection = account.manifest["settings"]["selection"]
    rules = selection.get("kinds", {}).get(arm, selection)
    scorers = {scorer for limit in _LIMITS for scorer in (rules.get(limit) or {})}
    stages = [
        *(f"{kind} negatives" for kind in kinds),
        *(f"{kind} training" for kind in kinds),
        *(f"scores by {scorer}" for scorer in sorted(scorers)),
    ]
    spent = {stage: account.seconds.get(stage, 0.0) for stage in stages}
    for kind in kinds:  # answers that were there already took their time when they were given
        answering = account.manifest.get("usage", {}).get(kind, {}).get("busy_seconds", 0.0)
        spent[f"{kind} negatives"] = max(spent[f"{kind} negatives"], answering)
    return sum(spent.values())


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
