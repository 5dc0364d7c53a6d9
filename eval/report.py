"""Tables for those who stay in the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval.per_query import NAMES
from eval.results import Result
from eval.runs import BASE
from foils.metrics import METRICS

if TYPE_CHECKING:
    from eval.costs import Cost
    from eval.recipe import CompareRecipe
    from eval.tables import Row, Table

_NAMED = 8  # undecided pairs that are named


def metrics_table(rows: Sequence[tuple[str, Sequence[Result]]]) -> str:
    """A plain-text table of labelled results, one block per task.

    Args:
        rows: label and that model's results, the same tasks in the same order in every row.
    """
    blocks = []
    for position, task in enumerate(rows[0][1]):
        body = [[label, *(f"{results[position].metrics[name]:.4f}" for name in NAMES)] for label, results in rows]
        apart = f", {task.unanswerable} of them without a relevant passage" if task.unanswerable else ""
        blocks.append(f"{task.task} ({task.split}, {task.queries} queries{apart})\n{text_table([['', *NAMES], *body])}")
    return "\n\n".join(blocks)


def comparison_table(table: "Table", config: "CompareRecipe", precision: str) -> str:
    """A table and its verdicts as plain text, with what its intervals mean."""
    header = ["", *METRICS, "nDCG@10 - base", "95 % interval", "win/loss", "verdict on base"]
    words = {found.first: found.word for found in table.verdicts if found.second == BASE}
    body = [
        [row.arm, *(f"{row.metrics[name]:.4f}" for name in METRICS), *difference_cells(row), words.get(row.arm, "")]
        for row in table.rows
    ]
    seeds = config.seeds
    trained = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    lines = [f"{table.task}: {table.queries} queries, {trained}, encoded in {precision}", text_table([header, *body])]
    decided = [found.text for found in table.verdicts if found.word != "undecided"]
    lines += [f"- {text}" for text in [*decided, *table.turned]]
    left = [found for found in table.verdicts if found.word == "undecided"]
    if left:
        pairs = ", ".join(f"{found.first}/{found.second}" for found in left[:_NAMED])
        more = f" and {len(left) - _NAMED} more, each in the report" if len(left) > _NAMED else ""
        lines.append(f"- {len(left)} of {len(table.verdicts)} pairs undecided: {pairs}{more}.")
    lines.append(what_intervals_mean(len(seeds), config.margin))
    return "\n".join(lines)


COST_COLUMNS = (
    "negatives", "reads corpus", "LLM calls", "LLM tokens", "money", "build s", "training s", "peak memory",
    "per point",
)  # fmt: skip
"""Of calls, tokens, money and the build's seconds for a thousand rows; the rest for one training."""


def cost_cells(cost: "Cost", table: "Table") -> list[str]:
    """An arm's costs as `COST_COLUMNS` has them; a dash where an amount is not known.

    A point is .01 of nDCG@10 above the untouched base; an arm that gained none has no price for one.
    """
    money, build = (cost.per_thousand_rows(amount) for amount in (cost.money, cost.build_seconds))
    gain = next(row.difference.mean for row in table.rows if row.arm == cost.arm and row.difference is not None)
    spent, unit = (money, cost.currency) if cost.currency else (build, "s")
    dash = "\N{EN DASH}"
    return [
        cost.arm,
        "yes" if cost.reads_corpus else "no",
        f"{cost.per_thousand_rows(cost.llm_calls):,.0f}",
        f"{cost.per_thousand_rows(cost.llm_tokens):,.0f}",
        dash if money is None or cost.currency is None else f"{money:.4g} {cost.currency}",
        dash if build is None else f"{build:,.1f}",
        f"{cost.training_seconds:,.0f}",
        dash if cost.peak_memory_mib is None else f"{cost.peak_memory_mib / 1024:.1f} GiB",
        dash if spent is None or gain <= 0 else f"{_three_digits(spent / (100 * gain))} {unit}",
    ]


def _three_digits(amount: float) -> str:
    """An amount to three digits, the whole number where there are more.

    >>> _three_digits(1512.3), _three_digits(15.123), _three_digits(0.01512)
    ('1,512', '15.1', '0.0151')
    """
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"  # noqa: PLR2004


def costs_table(costs: Sequence["Cost"], table: "Table") -> str:
    """Costs as plain text."""
    cells = text_table([list(COST_COLUMNS), *(cost_cells(cost, table) for cost in costs)])
    return f"{cells}\nCalls, tokens, money and the build's seconds: for the negatives of a thousand rows."


def what_intervals_mean(seeds: int, margin: float) -> str:
    """What a reader must know of intervals and verdicts."""
    spoken = (
        "other queries of this kind and other trainings" if seeds > 1 else "other queries of this kind, not other seeds"
    )
    return (
        f"Intervals speak of {spoken}; none speaks of another corpus or base. Verdicts: 5 % over all pairs of a table "
        f"(Holm); equivalent: certainly less than {margin:g} apart."
    )


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text: the first column to the left, the others to the right.

    >>> print(text_table([["", "nDCG@10"], ["base", "0.5"]]))
          nDCG@10
    base      0.5
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def difference_cells(row: "Row") -> list[str]:
    """Mean, interval and wins against losses of a row; empty for the base."""
    found = row.difference
    if found is None:
        return ["", "", ""]
    return [f"{found.mean:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", f"{found.wins}/{found.losses}"]
