"""What a comparison found, in words and cells: for the terminal, the page and the cards alike."""

from collections.abc import Sequence

from eval.report.advice import recommendation, warnings
from foils.comparison import Comparison, Cost
from foils.verdicts import BASE, Row, Table, Verdict
from foils.words import listed, three_digits

COST_COLUMNS = (
    "arm", "reads corpus", "LLM calls", "LLM tokens", "money", "build s", "training s", "peak memory",
    "per point",
)  # fmt: skip
"""Calls, tokens, money and the build's seconds are for a thousand rows; the rest for one training."""
_ORDER = ("better", "equivalent", "worse", "undecided")
_DASH = "\N{EN DASH}"


def summary(comparison: Comparison) -> list[str]:
    """What to do, what was done, how the arms stand beside the base and among each other, and warnings."""
    whole, tasks = comparison.tables[-1], [table for table in comparison.tables if table.revision]
    names, queries = listed([table.task for table in tasks]), sum(table.queries for table in tasks)
    own = [table for table in tasks if table.task == comparison.own]
    seeds, given = len(comparison.seeds), len(comparison.arms) - len(comparison.costs)
    trained = f"{seeds} seeds" if seeds > 1 else "one seed"
    count = len(comparison.costs)
    arms = f"{count} arms with {trained} each" if count > 1 else f"one arm with {trained}" if count else ""
    measured = f"{given} model{'s' if given > 1 else ''} trained elsewhere" if given else ""
    done = " and ".join(filter(None, (arms, measured)))
    among = [found for found in whole.verdicts if found.second != BASE]
    return [
        recommendation(comparison),
        f"{comparison.base_name} beside {done}, measured on {names} ({queries:,} queries).",
        f"Beside the untouched base: {_grouped(whole, comparison.margin)}.",
        *(f"By people's own queries, {each.task}: {_grouped(each, comparison.margin)}." for each in own),
        *([_among(among)] if among else []),
        *before_training(comparison),
        *warnings(comparison),
    ]


def before_training(comparison: Comparison) -> list[str]:
    """What is known of the tasks before any arm: whose first hits are relevant, and whether an exam gives negatives."""
    first = [
        f"{table.task} " + ", ".join(f"{100 * share:.0f} % ({name})" for name, share in table.first.items())
        for table in comparison.tables
        if table.first
    ]
    found = [f"Queries whose first hit is relevant before any training: {'; '.join(first)}."] if first else []
    if comparison.exam_as_negatives is not None:
        may = "may be negatives in training, as in production"
        no = "are not negatives in training (exam.as_negatives = false)"
        found.append(f"Passages of the exam {may if comparison.exam_as_negatives else no}.")
    if comparison.one_llm_wrote_all:
        found.append(
            "One LLM wrote the exam and the training queries, so the exam favours what is trained on them: on two "
            "collections all seven arms gained more over the base on such an exam than on people's queries "
            "(eval/studies/exams). Set exam.llm to another."
        )
    return found


def words_beside_base(table: Table) -> dict[str, str]:
    """Arm -> the verdict on it beside the base."""
    return {found.first: found.said for found in table.beside(BASE)}


def shares(comparison: Comparison) -> list[list[str]]:
    """Pairs of arms, whether they are controlled, what they differ in, and what is equal; those alike in one line."""
    found: dict[tuple[str, ...], list[str]] = {}
    for pair in comparison.pairs:
        word = "uncontrolled" if pair.unnamed else "controlled"
        unknown = f" (not known: {', '.join(pair.unknown)})" if pair.unknown else ""
        cells = word, ", ".join(pair.differ) or "nothing", (", ".join(pair.equal) or "nothing known") + unknown
        found.setdefault(cells, []).append(f"{pair.first}/{pair.second}")
    return [[", ".join(pairs), *cells] for cells, pairs in found.items()]


def what_intervals_mean(comparison: Comparison) -> str:
    """What a reader must know of intervals and verdicts."""
    seeds = max((found.estimate.seeds for found in comparison.tables[-1].verdicts), default=0)
    more = " and other trainings" if seeds > 1 else ", not other seeds" if seeds else ""
    return (
        f"Intervals speak of other queries of this kind{more}; none speaks of another corpus or base. Verdicts: 5 % "
        "over all arms beside the base, and 5 % over all pairs among arms (Holm), each table for itself; equivalent: "
        f"certainly less than {comparison.margin:g} apart."
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
        _DASH if spent is None or gain <= 0 else f"{three_digits(spent / (100 * gain))} {unit}",
    ]


def _grouped(table: Table, margin: float) -> str:
    """The arms by what is said of them beside the base."""
    words: dict[str, list[str]] = {}
    for found in sorted(table.beside(BASE), key=lambda found: _ORDER.index(found.word)):
        said = found.said + (f" within {margin:g}" if found.word == "equivalent" else "")
        words.setdefault(said, []).append(f"{found.first} ({found.estimate.mean:+.4f})")
    return "; ".join(f"{said}: {', '.join(arms)}" for said, arms in words.items())


def _among(pairs: Sequence[Verdict]) -> str:
    """How many pairs of arms are decided; of several, the difference that half of them would have been found by."""
    decided = sum(found.word != "undecided" for found in pairs)
    sentence = f"Among the arms, {decided} of {len(pairs)} pairs are decided"
    if decided == len(pairs):
        return f"{sentence}."
    smallest = sorted(found.estimate.smallest for found in pairs)[len(pairs) // 2]
    return f"{sentence}; a typical pair had to differ by {smallest:.4f} to be found with a power of 80 %."
