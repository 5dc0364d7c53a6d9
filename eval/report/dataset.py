"""What a data set's build says of its kinds: costs, and rows to look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from msgspec import Struct

from foils.comparison import Cost, Example
from foils.kinds import NO_NEGATIVES, PAIRS, kinds_of
from foils.manifest import Manifest, Usage, read_manifest
from foils.records import RunRecord, read_record
from foils.words import shortened

READS_CORPUS = frozenset({"random", "bm25", "dense", "cross-encoder", *PAIRS})
"""Kinds whose rows show more passages of the corpus than the positives; the others' are written by an LLM, or none."""
_LIMITS = ("relative_margin", "absolute_margin", "floor", "ceiling", "relabel")
_ROWS = 2
_CHARACTERS = 240


class BuildCosts(Struct, frozen=True):
    """What a build took: stage -> wall time in seconds."""

    seconds: dict[str, float] = {}


class Account(NamedTuple):
    """What a build says of itself.

    Attributes:
        manifest: of the data set; an empty one where it has none of ours.
        seconds: stage -> wall time; None where the costs do not lie beside the data set.
        folder: the data set, if it is a folder here.
    """

    manifest: Manifest = Manifest()
    seconds: Mapping[str, float] | None = None
    folder: Path | None = None


def read_account(dataset: str, revision: str | None) -> Account:
    """The account of a data set, in a folder or on the Hub; an empty one where it has no manifest of ours.

    Raises:
        UserError: a file of it is broken, or the Hub refuses.
    """
    folder = Path(dataset)
    manifest = read_manifest(dataset, revision)
    if manifest is None or manifest.usage is None:
        return Account()
    spent = read_record(folder.with_name(f"{folder.name}-costs.json"), BuildCosts, "delete it: costs are then left out")
    return Account(manifest, spent.seconds if spent else None, folder if folder.is_dir() else None)


def cost(arm: str, account: Account, trainings: Sequence[RunRecord]) -> Cost:
    """The cost of an arm, by the account of its data set and the records of its trainings."""
    kind = trainings[0].dataset.kind or arm
    manifest, usage, prices = account.manifest, account.manifest.usage or {}, account.manifest.prices or {}
    kinds = kinds_of(kind, variants=manifest.settings.get("negatives", {}).get("variants"))
    written = [usage[kind] for kind in kinds if kind in usage]
    money = [stage.money for stage in written if stage.money is not None]
    priced = len(money) == len(written) and (prices or not written)
    areas = [
        found["separability"]["auc"] for kind in kinds if "separability" in (found := manifest.mining.get(kind, {}))
    ]
    memory = [record.peak_memory["mib"] for record in trainings if record.peak_memory]
    return Cost(
        arm=arm,
        rows=trainings[0].dataset.rows or 0,
        reads_corpus=not READS_CORPUS.isdisjoint(kinds),
        llm_calls=sum(stage.calls for stage in written),
        llm_tokens=sum(stage.prompt_tokens + stage.completion_tokens for stage in written),
        money=sum(money) if priced else None,
        currency=prices.get("currency"),
        build_seconds=_build_seconds(kind, kinds, account),
        training_seconds=sum(record.seconds for record in trainings) / len(trainings),
        peak_memory_mib=max(memory) if len(memory) == len(trainings) else None,
        separability=max(areas, default=None),
    )


def of_a_query(account: Account) -> dict[str, Any]:
    """What a query of the exam took that an LLM wrote: seconds, and money where prices are known."""
    manifest, usage = account.manifest, (account.manifest.usage or {}).get("exam", Usage(0, 0, 0))
    if manifest.exam is None or manifest.exam.llm is None:
        return {}
    # Answers that were there already took their time when they were given.
    seconds = max((account.seconds or {}).get("exam", 0.0), usage.busy_seconds)
    queries = manifest.exam.queries
    return {
        "query_seconds": seconds / queries,
        "query_money": (usage.money or 0.0) / queries,
        "currency": (manifest.prices or {}).get("currency", ""),
    }


def _build_seconds(kind: str, kinds: Sequence[str], account: Account) -> float | None:
    if kind == NO_NEGATIVES:
        return 0.0
    if account.seconds is None:
        return None
    selection = account.manifest.settings.get("selection", {})
    rules = selection.get("kinds", {}).get(kind, selection)
    scorers = {scorer for limit in _LIMITS for scorer in (rules.get(limit) or {})}
    stages = [*(f"{each} training" for each in kinds), *(f"scores by {scorer}" for scorer in sorted(scorers))]
    spent = sum(account.seconds.get(stage, 0.0) for stage in stages)
    spent += sum(account.seconds.get(each, 0.0) for each in kinds if each in PAIRS)
    for each in kinds:  # answers that were there already took their time when they were given
        usage = (account.manifest.usage or {}).get(each)
        spent += max(account.seconds.get(f"{each} negatives", 0.0), usage.busy_seconds if usage else 0.0)
    return spent


def examples(account: Account, kind: str) -> list[Example]:
    """The first rows of a kind; none of a mix of other kinds, or where the data set is not a folder here."""
    files = sorted((account.folder / kind).glob("*.parquet")) if account.folder is not None else []
    if not files:
        return []
    with pq.ParquetFile(files[0]) as parquet:
        rows = next(parquet.iter_batches(_ROWS)).to_pylist()
    return [
        Example(
            row["query"],
            shortened(row["positive"], _CHARACTERS),
            [shortened(text, _CHARACTERS) for name, text in row.items() if name.startswith("negative")],
        )
        for row in rows
    ]
