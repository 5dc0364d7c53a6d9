"""Tables for those who stay in the terminal."""

from collections.abc import Sequence
from pathlib import Path

from eval.measure.results import NAMES, Key, first_hits, read_scores
from eval.report.advice import recommendation, warnings
from eval.report.wording import (
    COST_COLUMNS,
    before_training,
    cost_cells,
    difference_cells,
    shares,
    what_intervals_mean,
    words_beside_base,
)
from foils.comparison import Comparison
from foils.records import Result
from foils.verdicts import Table
from foils.words import listed, table

_NAMED = 8  # undecided pairs that are named


def metrics_table(rows: Sequence[tuple[str, Sequence[Result]]], root: Path) -> str:
    """A plain-text table of labelled results, one block per task.

    Args:
        rows: label and that model's results, the same tasks in the same order in every row.
        root: where the results lie; their last column is the share of queries whose first hit is relevant.
    """
    blocks = []
    for position, task in enumerate(rows[0][1]):
        body = []
        for label, results in rows:
            first = first_hits(read_scores(Key.of(results[position]).folder(root)))
            values = *(results[position].metrics[name] for name in NAMES), first
            body.append([label, *(f"{value:.4f}" for value in values)])
        apart = f", {task.unanswerable} of them without a relevant passage" if task.unanswerable else ""
        title = f"{task.task} ({task.split}, {task.queries} queries{apart})"
        blocks.append("\n".join([title, *table([["", *NAMES, "first hit"], *body])]))
    return "\n\n".join(blocks)


def comparison_text(comparison: Comparison) -> str:
    """Returns plain text: what to do, tables with verdicts, costs, what the arms share, and the drift."""
    whole, drift = comparison.tables[-1], comparison.drift_of_base
    costs = table([COST_COLUMNS, *(cost_cells(cost, whole) for cost in comparison.costs)])
    shared = [
        f"{pairs}: {word}; differ in {differ}; equal: {equal}" for pairs, word, differ, equal in shares(comparison)
    ]
    budgets = ", ".join(f"{arm} {count}" for arm, count in comparison.tokens_of_a_row.items())
    blocks = [
        [recommendation(comparison), *warnings(comparison)],
        [f"base: {comparison.base_name}", *before_training(comparison)],
        *(_of_task(found, comparison) for found in comparison.tables),
        [what_intervals_mean(comparison)],
    ]
    if comparison.costs:
        blocks.append([*costs, "Calls, tokens, money and the build's seconds: for the negatives of a thousand rows."])
        blocks.append([*shared, f"tokens read of a row: {budgets}"])
    if drift is not None:
        task = next((each.name for each in comparison.queries), comparison.tables[0].task)  # the recipe's first
        blocks.append([f"{comparison.precision} beside fp32, the base on texts of {task}: {drift.line()}"])
    return "\n\n".join("\n".join(lines) for lines in blocks)


def bases_table(comparisons: Sequence[Comparison]) -> str:
    """The arms on several bases: nDCG@10 over all tasks less that of each base, and the verdict."""
    rows = [["", *(each.base_name for each in comparisons)]]
    for arm in dict.fromkeys(arm for each in comparisons for arm in each.arms):
        cells = []
        for each in comparisons:
            found = next((row for row in each.tables[-1].rows if row.arm == arm), None)
            word = words_beside_base(each.tables[-1]).get(arm)
            cells.append(f"{difference_cells(found)[0]} {word}" if found else "")
        rows.append([arm, *cells])
    return "\n".join(table(rows))


def _of_task(found: Table, comparison: Comparison) -> list[str]:
    """A table and its verdicts."""
    words, seeds = words_beside_base(found), comparison.seeds
    names = list(found.rows[0].metrics)
    header = ["", "beside the base", "nDCG@10 - base", "its 95 % interval", "won/lost queries", *names]
    body = [
        [row.arm, words.get(row.arm, ""), *difference_cells(row), *(f"{row.metrics[name]:.4f}" for name in names)]
        for row in found.rows
    ]
    trained = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}, " if comparison.costs else ""
    lines = [
        f"{found.task}: {found.queries} queries, {trained}encoded in {comparison.precision}",
        *table([header, *body], left=(0, 1)),
    ]
    decided = [verdict.text for verdict in found.verdicts if verdict.word != "undecided"]
    lines += [f"- {text}" for text in [*decided, *found.turned]]
    left = [f"{verdict.first}/{verdict.second}" for verdict in found.verdicts if verdict.word == "undecided"]
    if left:
        lines.append(f"- Undecided: {listed(left, _NAMED)}; the report says of each what would decide it.")
    return lines
