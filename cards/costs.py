"""What a data set's card says of an LLM: what it was asked for, and what that cost."""

from collections.abc import Mapping
from typing import Any

from foils.words import duration

_WRITTEN = ("llm", "llm-with-positive")


def costs_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of costs: a row a stage, the currency, the prices in words, and calls without a count."""
    usage = manifest["usage"]
    prices = manifest.get("prices") or {}
    return {
        "costs": [_cost_row(stage, figures) for stage, figures in usage.items()],
        "priced": prices.get("currency"),
        "prices": _prices(prices),
        "uncounted": sum(figures.get("uncounted_calls", 0) for figures in usage.values()),
    }


def _cost_row(stage: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    accepted = figures.get("accepted", 0)
    tokens = figures["prompt_tokens"] + figures["completion_tokens"]
    money = figures.get("money")
    return {
        **figures,
        "stage": stage,
        "accepted": accepted,
        "failed_tries": figures.get("failed_tries", 0),
        "calls_per_accepted": f"{figures['calls'] / accepted:.2f}" if accepted else "",
        "tokens_per_accepted": f"{tokens / accepted:,.0f}" if accepted else "",
        "money": "" if money is None else f"{money:.4f}",
        "money_per_1000": f"{1000 * money / accepted:.3f}" if money is not None and accepted else "",
        "busy": duration(figures.get("busy_seconds", figures["call_seconds"]), digits=1),
    }


def llm_uses(manifest: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns what the LLM was asked for, each with the recipe's settings of it."""
    settings = manifest["settings"]
    negatives = settings["negatives"]
    uses = [] if "queries" in manifest["inputs"] else [("queries", settings["queries"])]
    uses += [
        (f"negatives of `{kind}`", negatives[kind]) for kind in _WRITTEN if f"candidates-{kind}" in manifest["configs"]
    ]
    return uses + (
        [("judging candidates", negatives["llm-judge"])] if "scores-llm-judge" in manifest["configs"] else []
    )


def _prices(prices: Mapping[str, Any]) -> str:
    """Prices in words.

    >>> _prices({"input": 0.1, "output": 0.4, "hour": 0.0, "currency": "USD"})
    '0.1 per million tokens in, 0.4 per million tokens out'
    """
    units = {"input": "million tokens in", "output": "million tokens out", "hour": "hour in flight"}
    return ", ".join(f"{prices[key]:g} per {unit}" for key, unit in units.items() if prices.get(key))
