"""An audit as lines of text, one a kind."""

from collections.abc import Mapping
from typing import Any

from foils.words import table

HEADER = ("kind", "pairs", "judged", "no verdict", "relevant", "rate", "95 % interval")
CORRECTED = ("corrected", "95 % interval")
AGREEMENT = ("accuracy", "specificity")
TRUE = ("true rate",)
DIFFERENCE = ("95 % interval",)


def lines(result: Mapping[str, Any]) -> list[str]:
    """The table of `false_negatives.audit`'s result, and what to know of the judge."""
    kinds: Mapping[str, Mapping[str, Any]] = result["kinds"]
    has_qrels = result["qrels"] is not None
    is_measured = has_qrels and any(about["accuracy"] for about in kinds.values())
    is_corrected = any(about["corrected"] for about in kinds.values())
    header = [*HEADER]
    header += [*CORRECTED] * is_corrected + [*AGREEMENT] * is_measured + [*TRUE] * has_qrels
    header += [f"minus {result['reference']}", *DIFFERENCE] * (result["reference"] is not None)
    rows = [header]
    for kind, about in kinds.items():
        row = [kind, *(f"{about[name]:,}" for name in ("pairs", "judged", "unjudged", "relevant"))]
        row += [percent(about["rate"]), interval(about) if about["judged"] else "-"]
        row += _estimate(about["corrected"]) * is_corrected
        row += [percent((about[name] or {}).get("rate")) for name in AGREEMENT] * is_measured
        row += [percent((about["true"] or {}).get("rate"))] * has_qrels
        row += _estimate(about["difference"], signed=True) * (result["reference"] is not None)
        rows.append(row)
    return [*table(rows), "", *_notes(result)]


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share in words.

    >>> percent(0.0714), percent(0.05, signed=True), percent(None)
    ('7.1 %', '+5.0 %', '-')
    """
    if share is None:
        return "-"
    return f"{100 * share:+.1f} %" if signed else f"{100 * share:.1f} %"


def interval(figures: Mapping[str, Any], *, signed: bool = False) -> str:
    """An interval in words.

    >>> interval({"low": 0.01, "high": 0.2})
    '1.0 to 20.0 %'
    """
    form = "{:+.1f} to {:+.1f} %" if signed else "{:.1f} to {:.1f} %"
    return form.format(100 * figures["low"], 100 * figures["high"])


def _estimate(figures: Mapping[str, Any] | None, *, signed: bool = False) -> list[str]:
    if figures is None:
        return ["-", "-"]
    return [percent(figures["rate"], signed=signed), interval(figures, signed=signed)]


def _notes(result: Mapping[str, Any]) -> list[str]:
    notes = [f"Judge: {result['judge']}. A passage counts as relevant if {result['rule']}."]
    sensitivity, easy = result["sensitivity"], result["random_rejected"]
    if sensitivity and sensitivity["judged"]:
        notes.append(
            f"Of {sensitivity['judged']} passages known to be relevant it recognises {percent(sensitivity['rate'])} "
            f"({interval(sensitivity)})."
        )
    elif sensitivity:
        notes.append("How many relevant passages it recognises is not known: no query has a second known positive.")
    if easy and easy["judged"]:
        notes.append(f"Of {easy['judged']} random passages it rejects {percent(easy['rate'])} ({interval(easy)}).")
    if any(about["whole"] for about in result["kinds"].values()):
        whole = ", ".join(kind for kind, about in result["kinds"].items() if about["whole"])
        notes.append(f"Every pair of {whole} was judged: that rate has no sampling error, only the judge's.")
    if result["qrels"]:
        notes.append(
            "True rates are over all pairs whose query is judged; what no judgement lists counts as not relevant. "
            "Passages that an LLM wrote are in no judgement and have none."
        )
    return notes
