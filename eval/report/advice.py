"""What to do after a comparison: the model to take, what would decide more, and what a reader should be wary of."""

from collections.abc import Iterator, Sequence

from eval.statistics.differences import needed, rounded
from foils.comparison import VERSION, Comparison
from foils.metrics import MAIN_METRIC
from foils.verdicts import BASE, Estimate, Half, Verdict
from foils.words import duration, listed, three_digits

SATURATED = 0.95
"""The base's nDCG@10 above which differences can hardly show."""
RECOGNISED = 0.9
"""The area under a classifier's ROC curve from which on readers are warned."""
_MORE_SEEDS, _MOST_SEEDS = 2, 20
"""Seeds that are advised where one was trained, and beyond which more of them are not advice."""


def recommended(comparison: Comparison) -> Verdict | None:
    """The verdict beside the base of the arm to take; None for the base.

    It is the arm with the highest mean among those that are better by more than a difference of no account, that the
    exam was validated for, and that people's own queries do not call worse.
    """
    better = [
        found
        for found in comparison.tables[-1].beside(BASE)
        if found.word == "better"
        and not found.small
        and found.first not in _refuted(comparison).union(comparison.outside)
    ]
    return max(better, key=lambda found: found.estimate.mean, default=None)


def _refuted(comparison: Comparison) -> set[str]:
    """The arms that people's own queries call worse than the base."""
    of_people = (table for table in comparison.tables if table.task == comparison.own)
    return {found.first for table in of_people for found in table.beside(BASE) if found.word == "worse"}


def recommendation(comparison: Comparison) -> str:
    """One sentence that says what to do, with numbers."""
    whole, best = comparison.tables[-1], recommended(comparison)
    if best is None:
        return f"Keep the base: {_why_keep(comparison)}."
    found = best.estimate
    base = next(row.metrics[MAIN_METRIC] for row in whole.rows if row.arm == BASE)
    size = f"{found.mean:+.3f} {MAIN_METRIC} over the base ({base:.3f})"
    about = f"95 % interval {found.low:+.3f} to {found.high:+.3f}; {found.queries:,} queries"
    if found.seeds != 1:
        seeds = f", {found.seeds} seeds" if found.seeds else ""
        return f"Take `{best.first}`: {size}, certainly better ({about}{seeds})."
    return (
        f"Take `{best.first}` as it was trained here: {size}, better in this training ({about}, one seed); "
        f"{_MORE_SEEDS} more seeds{_time(_MORE_SEEDS * comparison.seed_seconds)} would say whether other trainings are."
    )


def warnings(comparison: Comparison) -> list[str]:
    """What a reader should be wary of, a sentence each."""
    parts = _earlier, _saturated, _turned, _contradicted, _outsiders, _recognised, _uncontrolled
    return [sentence for part in parts for sentence in part(comparison)]


def _why_keep(comparison: Comparison) -> str:
    """Why the base is kept, and what would decide the arm that promises most."""
    family = comparison.tables[-1].beside(BASE)
    beside = [found for found in family if found.first not in comparison.outside]
    small = [found for found in beside if found.word == "better" and found.small]
    turned = [found.first for found in beside if found.turned]
    open_arms = [found for found in beside if found.word == "undecided" and not found.turned]
    if small:
        best = max(small, key=lambda found: found.estimate.mean)
        why = f"`{best.first}` is {best.said}, but by less than {comparison.margin:g} ({best.estimate.mean:+.4f})"
    elif beside and all(found.word == "worse" for found in beside):
        word = "worse in this training" if any(found.estimate.seeds == 1 for found in beside) else "certainly worse"
        why = f"{_arms(beside)} {'are' if len(beside) > 1 else 'is'} {word}"
    elif refuted := [found for found in beside if found.word == "better"]:
        why = f"{_arms(refuted)} by the exam alone, and worse by people's own queries"
    else:
        why = f"nothing {'that the exam was validated for ' if comparison.outside else ''}is certainly better"
    if alike := [found for found in beside if found.word == "equivalent"]:
        why += f"; equivalent within {comparison.margin:g}: {_arms(alike)}"
    if turned:
        why += f"; the order of {listed([f'`{arm}`' for arm in turned])} and the base depends on the queries' wording"
    if not open_arms:
        return why
    best = max(open_arms, key=lambda found: found.estimate.mean)
    decider = _decider(comparison, best.estimate, len(family))
    takes = f"{decider} would" if decider else f"it takes more than {_MOST_SEEDS} more seeds to"
    here = " as it was trained here" if best.estimate.seeds == 1 else ""
    return f"{why}; {takes} decide `{best.first}`{here} ({best.estimate.mean:+.3f} so far)"


def _arms(some: Sequence[Verdict]) -> str:
    """Arms with their differences."""
    return listed([f"`{found.first}` ({found.estimate.mean:+.3f})" for found in some])


def _decider(comparison: Comparison, found: Estimate, pairs: int) -> str:
    """The queries and seeds that would decide a difference, with known time and money; empty where none does."""
    ways, asked = [], "exam queries" if comparison.exam == comparison.tables[-1].task else "queries"
    for queries, seeds in needed(found, comparison.margin, pairs)[0]:
        more = ((queries - found.queries, asked), (seeds - found.seeds, "seeds"))
        if more[1][0] > _MOST_SEEDS:
            continue
        took = more[0][0] * comparison.query_seconds + more[1][0] * comparison.seed_seconds
        is_known = comparison.query_seconds or not more[0][0]
        counts = " and ".join(f"about {rounded(count):,} more {what}" for count, what in more if count)
        money = more[0][0] * comparison.query_money
        price = f" for about {three_digits(money)} {comparison.currency}" if money else ""
        ways.append(counts + price + (_time(took) if is_known else ""))
    return " or ".join(ways)


def _time(seconds: float) -> str:
    return f", about {duration(seconds)}," if seconds else ""


def _earlier(comparison: Comparison) -> Iterator[str]:
    if comparison.version < VERSION:
        yield (
            "An earlier version wrote this record: its verdicts are corrected over all pairs together, and what the "
            "arms share was kept in another form and is left out here; run eval.compare again."
        )


def _saturated(comparison: Comparison) -> Iterator[str]:
    for table in comparison.tables:
        base = table.rows[0].metrics[MAIN_METRIC]
        if base > SATURATED and table.revision:
            remedy = (
                "let a better LLM write it (exam.llm), with harder types of queries, or add people's own (exam.source)"
                if table.task == comparison.exam
                else "name a harder task"
            )
            yield (
                f"{table.task} is saturated: the untouched base has {base:.3f} {MAIN_METRIC} (above {SATURATED:g}), so "
                f"that differences can hardly show; {remedy}."
            )


def _turned(comparison: Comparison) -> Iterator[str]:
    for table in comparison.tables:
        turned = [f"{found.first}/{found.second}" for found in table.verdicts if found.turned]
        if turned:
            yield (
                f"{table.task}: {listed(turned)} change their order with the words that a query shares with its "
                f"passage, and are not decided{_bm25(*table.halves)}."
            )


def _bm25(least: Half, most: Half) -> str:
    """Whether a task favours word matching, and by how much; empty where BM25 was not measured."""
    if least.bm25 is None or most.bm25 is None:
        return ""
    low, high = least.bm25 - least.base, most.bm25 - most.base
    found = "it favours word matching" if high > low else "BM25 gains nothing by such words"
    return (
        f": {found}: BM25 less the base is {high:+.3f} on the half of the queries that shares most words "
        f"({most.overlap:.0%}) and {low:+.3f} on the half that shares fewest ({least.overlap:.0%})"
    ).replace("%", " %")


def _contradicted(comparison: Comparison) -> Iterator[str]:
    said = {(found.first, found.second): found.word for found in comparison.tables[-1].verdicts}
    for table in [table for table in comparison.tables if table.task == comparison.own]:
        odd = [
            found for found in table.verdicts if {found.word, said[found.first, found.second]} == {"better", "worse"}
        ]
        if odd:
            pairs = listed([f"{found.first}/{found.second}" for found in odd])
            yield f"{table.task}: people's own queries decide {pairs} the other way round; take their word."


def _outsiders(comparison: Comparison) -> Iterator[str]:
    if comparison.outside:
        arms = [f"`{arm}` ({why})" for arm, why in comparison.outside.items()]
        yield (
            f"{listed(arms)}: outside what a generated exam was validated for, which is trainings of one base; check "
            "against people's queries before taking it."
        )


def _recognised(comparison: Comparison) -> Iterator[str]:
    areas = {cost.arm: cost.separability for cost in comparison.costs if (cost.separability or 0) >= RECOGNISED}
    if areas:
        arms = listed([f"`{arm}` ({area:.3f})" for arm, area in areas.items()])
        yield (
            f"{arms}: before any training, a classifier recognised what the LLM wrote (area under its ROC curve; "
            " .5 is chance), so a model may learn where a text comes from in place of what it says."
        )


def _uncontrolled(comparison: Comparison) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for pair in comparison.pairs:
        if pair.unnamed:
            by_reason.setdefault(", ".join(pair.unnamed), []).append(f"{pair.first}/{pair.second}")
    for reason, pairs in by_reason.items():
        yield f"Not controlled: {listed(pairs, 3)} differ in more than the recipe names: {reason}."
