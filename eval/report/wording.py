"""What a comparison found, in words and cells: for the terminal, the page and the cards alike."""

from collections.abc import Sequence

from foils.comparison import BASE, Comparison, Cost, Row, Table, Verdict
from foils.kinds import NO_NEGATIVES

COST_COLUMNS = (
    "negatives", "reads corpus", "LLM calls", "LLM tokens", "money", "build s", "training s", "peak memory",
    "per point",
)  # fmt: skip
"""Calls, tokens, money and the build's seconds are for a thousand rows; the rest for one training."""
_ORDER = ("better", "equivalent", "worse", "undecided")
_DASH = "\N{EN DASH}"


def summary(comparison: Comparison) -> list[str]:
    """What was done, what hard negatives gave, and how the kinds differ among each other: a sentence each."""
    whole = comparison.tables[-1]
    tasks = [table.task for table in comparison.tables if table.revision]
    seeds, arms = len(comparison.seeds), len(comparison.arms)
    trained = f"{seeds} seeds" if seeds > 1 else "one seed"
    kinds = f"{arms} kind{'s' if arms > 1 else ''} of negatives"
    done = f"{comparison.base_name} was trained on {kinds} with {trained} each, and measured on {_listed(tasks)}"
    against = compared_with(comparison)
    explained = f"{against}, which takes negatives from the batch alone" if against != BASE else f"the {against}"
    sentences = [
        f"{done} ({whole.queries:,} queries).",
        f"Beside {explained}: {_grouped(whole, against, comparison.margin)}.",
    ]
    between = [found for found in whole.verdicts if not {found.first, found.second} & {BASE, NO_NEGATIVES}]
    return [*sentences, _among(between)] if between else sentences


def compared_with(comparison: Comparison) -> str:
    """What the arms are set beside: the arm without hard negatives, or the base where that is not an arm."""
    return NO_NEGATIVES if NO_NEGATIVES in comparison.arms else BASE


def words_beside(table: Table, against: str) -> dict[str, str]:
    """Arm -> the verdict on it beside another."""
    return {found.first: found.word for found in table.verdicts if found.second == against}


def what_intervals_mean(comparison: Comparison) -> str:
    """What a reader must know of intervals and verdicts."""
    several = len(comparison.seeds) > 1
    spoken = (
        "other queries of this kind and other trainings" if several else "other queries of this kind, not other seeds"
    )
    return (
        f"Intervals speak of {spoken}; none speaks of another corpus or base. Verdicts: 5 % over all pairs of a table "
        f"(Holm), each table for itself; equivalent: certainly less than {comparison.margin:g} apart."
    )


def difference_cells(row: Row) -> list[str]:
    """Mean, interval and wins against losses of a row; empty for the base."""
    found = row.difference
    if found is None:
        return ["", "", ""]
    return [f"{found.mean:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", f"{found.wins}/{found.losses}"]


def cost_cells(cost: Cost, table: Table) -> list[str]:
    """An arm's costs as `COST_COLUMNS` has them; a dash where an amount is not known.

    A point is .01 of nDCG@10 above the untouched base; an arm that gained none has no price for one.
    """
    money, build = (cost.per_thousand_rows(amount) for amount in (cost.money, cost.build_seconds))
    gain = next(row.difference.mean for row in table.rows if row.arm == cost.arm and row.difference is not None)
    spent, unit = (money, cost.currency) if cost.currency else (build, "s")
    return [
        cost.arm,
        "yes" if cost.reads_corpus else "no",
        f"{cost.per_thousand_rows(cost.llm_calls):,.0f}",
        f"{cost.per_thousand_rows(cost.llm_tokens):,.0f}",
        _DASH if money is None or cost.currency is None else f"{money:.4g} {cost.currency}",
        _DASH if build is None else f"{build:,.1f}",
        f"{cost.training_seconds:,.0f}",
        _DASH if cost.peak_memory_mib is None else f"{cost.peak_memory_mib / 1024:.1f} GiB",
        _DASH if spent is None or gain <= 0 else f"{_three_digits(spent / (100 * gain))} {unit}",
    ]


def _grouped(table: Table, against: str, margin: float) -> str:
    """The arms by what is said of them beside another."""
    words: dict[str, list[str]] = {}
    for found in table.verdicts:
        if found.second == against:
            words.setdefault(found.word, []).append(f"{found.first} ({found.estimate.mean:+.4f})")
    names = {"equivalent": f"equivalent within {margin:g}"}
    return "; ".join(f"{names.get(word, word)}: {', '.join(words[word])}" for word in _ORDER if word in words)


def _among(kinds: Sequence[Verdict]) -> str:
    decided = [found for found in kinds if found.word != "undecided"]
    smallest = sorted(found.estimate.smallest for found in kinds)[len(kinds) // 2]
    sentence = f"Between the kinds, {len(decided)} of {len(kinds)} pairs are decided"
    if len(decided) == len(kinds):
        return f"{sentence}."
    return f"{sentence}; a typical pair had to differ by {smallest:.4f} to be found with a power of 80 %."


def _three_digits(amount: float) -> str:
    """An amount to three digits, the whole number where there are more.

    >>> _three_digits(1512.3), _three_digits(15.123), _three_digits(0.01512)
    ('1,512', '15.1', '0.0151')
    """
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"  # noqa: PLR2004


def _listed(names: Sequence[str]) -> str:
    """Names as in a sentence.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
