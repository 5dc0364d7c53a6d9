"""What may explain a comparison: what the audits know of each kind, and rows to look at."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from eval.account import Account

ROWS = 2
_CHARACTERS = 240


class Why(Struct, frozen=True):
    """What the data set's audits say of a kind of negatives; None where they say nothing.

    Attributes:
        arm: the kind.
        false_negatives: the share that answers its query after all, with its interval, and by whose judgement.
        told_apart: area under the ROC curve of a bag of words that tells generated negatives from the corpus: 0.5 =
            they cannot be told apart.
        harder: the share that the neutral scorer puts above the positive; `scorer` names it.
    """

    arm: str
    false_negatives: str | None
    told_apart: float | None
    harder: float | None
    scorer: str | None


class Example(Struct, frozen=True):
    """A row of a kind, its texts cut."""

    query: str
    positive: str
    negatives: list[str]


def reasons(account: Account | None, arms: Sequence[str]) -> list[Why]:
    """What the audits say of each arm; empty where none was made."""
    if account is None:
        return []
    realism = account.audit("realism")
    hardness = realism.get("hardness") or {}
    found = [
        Why(
            arm=arm,
            false_negatives=_false_negatives(account.audit("false_negatives"), arm),
            told_apart=_at(realism, "generated", arm, "without_titles", "words", "auc"),
            harder=_at(hardness, "kinds", arm, "harder"),
            scorer=hardness.get("scorer"),
        )
        for arm in arms
    ]
    return found if any(each.false_negatives or each.told_apart or each.harder for each in found) else []


def examples(account: Account | None, arms: Sequence[str]) -> dict[str, list[Example]]:
    """The first rows of each arm that has rows of its own."""
    shown = {}
    for arm in arms:
        rows = account.first_rows(arm, ROWS) if account else []
        if rows:
            shown[arm] = [
                Example(
                    row["query"],
                    _cut(row["positive"]),
                    [_cut(text) for name, text in row.items() if name.startswith("negative")],
                )
                for row in rows
            ]
    return shown


def _false_negatives(judges: Mapping[str, Any], arm: str) -> str | None:
    """The true rate where judgements tell it, else the first judge's, corrected for its errors if they are known."""
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


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS].rsplit(" ", 1)[0] + " ..."
