"""What a data set's build says of its kinds: costs, audits, rows to look at."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from msgspec import Struct

from foils.comparison import Cost, Example, Hardness, Why
from foils.hub import download, pin
from foils.kinds import NO_NEGATIVES, kinds_of
from foils.manifest import Manifest
from foils.records import RunRecord, read_record
from foils.words import shortened

READS_CORPUS = frozenset({"random", "bm25", "dense", "cross-encoder"})
"""Kinds whose negatives are passages of the corpus; the others are written by an LLM, or there are none."""
_LIMITS = ("relative_margin", "absolute_margin", "floor", "ceiling", "relabel")
_ROWS = 2
_CHARACTERS = 240


class BuildCosts(Struct, frozen=True):
    """What a build took: stage -> wall time in seconds."""

    seconds: dict[str, float] = {}


class Account(NamedTuple):
    """What a build says of itself.

    Attributes:
        manifest: of the data set.
        seconds: stage -> wall time; None where the costs do not lie beside the data set.
        folder: the data set, if it is a folder here.
    """

    manifest: Manifest
    seconds: Mapping[str, float] | None
    folder: Path | None


def read_account(dataset: str, revision: str | None) -> Account | None:
    """The account of a data set, in a folder or on the Hub; None where it has no manifest of ours.

    Raises:
        UserError: a file of it is broken, or the Hub refuses.
    """
    folder = Path(dataset)
    here = folder.is_dir()
    if not here:
        if revision is None:
            return None
        folder = download(dataset, pin(dataset, revision, "dataset"), "dataset", ["manifest.json"])
    manifest = read_record(folder / "manifest.json", Manifest, "build the data set again")
    if manifest is None or manifest.usage is None:
        return None
    spent = read_record(folder.with_name(f"{folder.name}-costs.json"), BuildCosts, "delete it: costs are then left out")
    return Account(manifest, spent.seconds if spent else None, folder if here else None)


def costs(account: Account | None, records: Mapping[str, Sequence[RunRecord]]) -> list[Cost]:
    """The costs of each arm: arm -> the records of its trainings."""
    return [_cost(arm, account, trainings) for arm, trainings in records.items()]


def _cost(arm: str, account: Account | None, trainings: Sequence[RunRecord]) -> Cost:
    manifest = account.manifest if account else Manifest()
    kinds = kinds_of(arm, variants=_negatives(manifest).get("variants"))
    usage, prices = manifest.usage or {}, manifest.prices
    written = [usage[kind] for kind in kinds if kind in usage]
    money = [stage.money for stage in written if stage.money is not None]
    priced = len(money) == len(written) and (prices or not written)
    memory = [record.peak_memory["mib"] for record in trainings if record.peak_memory]
    return Cost(
        arm=arm,
        rows=trainings[0].dataset.rows or 0,
        reads_corpus=not READS_CORPUS.isdisjoint(kinds),
        llm_calls=sum(stage.calls for stage in written),
        llm_tokens=sum(stage.prompt_tokens + stage.completion_tokens for stage in written),
        money=sum(money) if priced else None,
        currency=(prices or {}).get("currency"),
        build_seconds=_build_seconds(arm, kinds, account),
        training_seconds=sum(record.seconds for record in trainings) / len(trainings),
        peak_memory_mib=max(memory) if len(memory) == len(trainings) else None,
    )


def _build_seconds(arm: str, kinds: Sequence[str], account: Account | None) -> float | None:
    if arm == NO_NEGATIVES:
        return 0.0
    if account is None or account.seconds is None:
        return None
    selection = account.manifest.settings.get("selection", {})
    rules = selection.get("kinds", {}).get(arm, selection)
    scorers = {scorer for limit in _LIMITS for scorer in (rules.get(limit) or {})}
    stages = [*(f"{kind} training" for kind in kinds), *(f"scores by {scorer}" for scorer in sorted(scorers))]
    spent = sum(account.seconds.get(stage, 0.0) for stage in stages)
    for kind in kinds:  # answers that were there already took their time when they were given
        usage = (account.manifest.usage or {}).get(kind)
        spent += max(account.seconds.get(f"{kind} negatives", 0.0), usage.busy_seconds if usage else 0.0)
    return spent


def reasons(account: Account | None, arms: Sequence[str]) -> list[Why]:
    """What the audits say of each arm; empty where none was made."""
    audit = account.manifest.audit if account else {}
    scorer = _at(audit, "realism", "hardness", "scorer")
    found = [
        Why(
            arm=arm,
            false_negatives=_false_negatives(audit.get("false_negatives") or {}, arm),
            told_apart=_at(audit, "realism", "generated", arm, "without_titles", "words", "auc"),
            harder=_at(audit, "realism", "hardness", "kinds", arm, "harder"),
            scorer=scorer,
        )
        for arm in arms
    ]
    return found if any(each.false_negatives or each.told_apart or each.harder for each in found) else []


def examples(account: Account | None, arms: Sequence[str]) -> dict[str, list[Example]]:
    """The first rows of each arm that has rows of its own."""
    if account is None or account.folder is None:
        return {}
    shown = {}
    for arm in arms:
        files = sorted((account.folder / arm).glob("*.parquet"))
        if not files:  # a mix of other kinds
            continue
        with pq.ParquetFile(files[0]) as parquet:
            rows = next(parquet.iter_batches(_ROWS)).to_pylist()
        shown[arm] = [
            Example(
                row["query"],
                shortened(row["positive"], _CHARACTERS),
                [shortened(text, _CHARACTERS) for name, text in row.items() if name.startswith("negative")],
            )
            for row in rows
        ]
    return shown


def hardness(account: Account | None) -> Hardness | None:
    """The picture of how hard the kinds are, as `python -m builders.realism` left it in the data set's folder.

    None where it was not made, or the data set is not a folder here.
    """
    found = _at(account.manifest.audit, "realism", "hardness") if account else None
    if account is None or account.folder is None or not found or "figure" not in found:
        return None
    file = account.folder / found["figure"]
    if not file.is_file():
        return None
    picture = base64.b64encode(file.read_bytes()).decode()
    return Hardness(f"data:image/png;base64,{picture}", found["alt"], found["scorer"])


def _negatives(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = manifest.settings.get("negatives", {})
    return found


def _false_negatives(judges: Mapping[str, Any], arm: str) -> str | None:
    """The true rate where judgements give it, else the first judge's, corrected for its errors if they are known."""
    rows = {name: result["kinds"][arm] for name, result in judges.items() if arm in result.get("kinds", {})}
    for row in rows.values():
        true = row.get("true")
        if true and true.get("rate") is not None:
            return f"{100 * true['rate']:.1f} % (true)"
    for name, row in rows.items():
        figures = row.get("corrected") or row
        if figures.get("rate") is not None:
            low, high = 100 * figures["low"], 100 * figures["high"]
            return f"{100 * figures['rate']:.1f} % ({low:.1f} to {high:.1f}), by {name}"
    return None


def _at(found: Any, *keys: str) -> Any:
    """What stands under keys within keys; None where one is missing."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found
