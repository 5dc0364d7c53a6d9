"""`--dry-run`: what a build will cost, before it is paid for, from real calls for a few of its rows."""

import math
from collections.abc import Iterator
from pathlib import Path

from builders.context import Context
from builders.corpus import Corpus, sample
from builders.estimate.sample import CALLS, MONEY, ROWS, TOKENS_IN, TOKENS_OUT, WALL, Estimate, Sample
from builders.estimate.trial import ROUND_TRIP, paid_before
from builders.exam import STAGE as EXAM
from builders.exam.answered import DEPTH
from builders.exam.setting import set_aside
from builders.llm.client import identified, llm_session
from builders.llm.ledger import Ledger
from builders.recipe import LLM_JUDGE, BuildRecipe
from foils.errors import UserError
from foils.words import duration, table

FEWEST = 2
TOP_REASONS = 3
SMALLEST, SEED_SHARE, STUDY = 0.013, 0.15, (300, 3)
"""The smallest difference in nDCG@10 that the first study (`eval/studies/scifact`) could find for two kinds (median;
.005 to .032), the share of seeds in its variance, and its queries and seeds."""


LARGER = 4
"""How many times larger the exam is that a dry run compares with the recipe's."""


def dry_run(config: BuildRecipe, corpus: Corpus, store_file: Path, sample_rows: int) -> None:
    """Prints an estimate of the whole build; writes nothing but answers, into the call store.

    Args:
        config: the recipe, checked.
        corpus: cleaned.
        store_file: the build's call store.
        sample_rows: how many of the build's seed passages are tried.

    Raises:
        UserError: the queries are labelled ones, or an LLM judges candidates; `sample_rows` is too small; the endpoint
            cannot be used; the budget is spent by the sample, or even the lower end of the estimate is above it.
    """
    if config.queries.source is not None:
        raise UserError(
            f"--dry-run: queries.source {config.queries.source} names labelled queries, and the estimate is of builds "
            "whose queries an LLM writes; to try a few, build with --set queries.sample=24 into another --out"
        )
    if LLM_JUDGE in config.scorers:
        raise UserError(
            "--dry-run: selection has a rule on the scorer llm-judge, whose calls the estimate does not know; leave "
            "the rule out to estimate the rest, and expect as many calls more, a query and kind, as rank_max allows"
        )
    if sample_rows < FEWEST:
        raise UserError(f"--sample-rows {sample_rows}: wanted {FEWEST} or more, since one row shows no spread")
    exam_queries, unjudged, passages = set_aside(config.exam, corpus)
    seeds = sample(passages, config.corpus.sample, config.seed)
    llm = config.llm
    with llm_session(identified(llm), store_file) as session:
        context = Context(corpus.passages, corpus.language, config.seed, session.run, store_file.with_name("cache"))
        sampled = sample(seeds, sample_rows, config.seed)
        measured = Sample(config, session, sampled, seeds.num_rows)
        measured.run(context)
        paid = paid_before(session, config, seeds, context)
    shown = _shown(exam_queries, unjudged, _more(config, measured))
    print("\n".join([*report(config, measured, session.ledger, paid), *shown]))
    money = measured.budgeted()
    if llm.budget is not None and money.value - money.margin > llm.budget:
        raise UserError(
            f"llm.budget {llm.budget:g} {llm.prices.currency}: the whole build costs about {in_words(money, 3)}, so it "
            "would stop on its way; raise llm.budget, or ask for fewer rows (corpus.sample)"
        )


def report(config: BuildRecipe, measured: Sample, ledger: Ledger, paid: Ledger) -> Iterator[str]:
    """All that a dry run prints, line by line; `paid` has the answers of the whole build that the store has now."""
    size, population, prices = measured.size, measured.population, config.llm.prices
    intervals = "with 90 % intervals" if size < population else "which is all of it"
    yield f"{config.name}: measured on {size:,} of {population:,} seed passages, {intervals}"
    yield ""
    yield from _table(config, measured)
    yield ""
    calls, read, written = ledger.sums("calls", "prompt_tokens", "completion_tokens")
    tokens = f"{read:,.0f} tokens in, {written:,.0f} out"
    yield f"this sample: {calls:,.0f} calls, {ledger.new_calls:,} of them new: {tokens}"
    yield f"in the store now: {paid.sums('calls')[0]:,.0f} calls of the build, which it does not pay for again"
    if prices.known:
        whole = measured.total(MONEY)
        left = Estimate(max(0.0, whole.value - paid.money), whole.margin)
        yield f"  they cost {paid.cost()}; left to pay: {in_words(left, 3)} {prices.currency}"
    yield "accepted in the sample:"
    for (stage, asked, found, _), reasons in measured.outcomes:
        accepted = found.num_rows
        share = f" ({100 * accepted / asked:.0f} %)" if asked else ""
        what = "dropped" if stage == ROUND_TRIP else "rejected answers"
        top = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(TOP_REASONS))
        yield f"  {stage}: {accepted:,} of {asked:,}{share}" + (f"; {what}: {top}" if top else "")
    if config.llm.budget is not None:
        money = measured.budgeted()
        within = money.value + money.margin <= config.llm.budget
        verdict = "stays under it" if within else "passes it: the build may stop on its way"
        budget = f"{config.llm.budget:g} {prices.currency}"
        yield f"llm.budget {budget}: estimated {in_words(money, 3)}; the upper end {verdict}"
    stages = [stage for stage in measured.figures if stage != EXAM]
    at_once = ", ".join(f"{measured.concurrency(stage):.1f} ({stage})" for stage in stages)
    yield f"wall: the time in calls, with as many in flight at once as in the sample: {at_once}, of"
    yield f"  {config.llm.concurrency} allowed; retrieval, mining and training on this machine come on top"


def _more(config: BuildRecipe, measured: Sample) -> str:
    """What an exam of `LARGER` times as many queries costs more; empty where no LLM writes it."""
    if EXAM not in measured.figures:
        return ""
    calls, wall, money = ((LARGER - 1) * measured.total(figure, EXAM).value for figure in (CALLS, WALL, MONEY))
    prices = ((config.exam and config.exam.llm) or config.llm).prices
    price = f", {in_words(Estimate(money, 0), 2)} {prices.currency}" if prices.known else ""
    return f" (about {calls:,.0f} more calls, {duration(wall)}{price})"


def _shown(exam_queries: int, unjudged: int, more: str) -> Iterator[str]:
    """Which differences an exam of n queries can be expected to show, and what is not estimated of it."""
    if unjudged:
        yield f"not in the estimate: the calls, about {unjudged * DEPTH:,} or twice as many, that judge the hits of"
        yield f"  {unjudged:,} queries of exam.source, which has no judgements"
    if exam_queries:
        larger = LARGER * exam_queries
        few, many, most = found(exam_queries, 1), found(exam_queries, 3), found(larger, 3)
        yield f"exam of {exam_queries:,} queries: with three seeds it can be expected to show a difference of"
        yield f"  {many:.3f} nDCG@10, with one of {few:.3f}; {larger:,} queries with three seeds: {most:.3f}{more}"


def found(queries: int, seeds: int) -> float:
    """The smallest difference in nDCG@10 between two trainings that an exam finds in four of five cases.

    >>> round(found(300, 3), 4), found(300, 1) > found(300, 3) > found(1200, 3)
    (0.013, True)
    """
    by_queries, by_seeds = (1 - SEED_SHARE) * STUDY[0] / queries, SEED_SHARE * STUDY[1] / seeds
    return SMALLEST * math.sqrt(by_queries + by_seeds)


def _table(config: BuildRecipe, measured: Sample) -> list[str]:
    prices = config.llm.prices
    columns = {"rows": ROWS, "calls": CALLS, "tokens in": TOKENS_IN, "tokens out": TOKENS_OUT}
    columns |= {f"money ({prices.currency})": MONEY} if prices.known else {}
    rows = [["stage", *columns, "wall"]]
    for stage in (*measured.figures, None):
        of = [stage] if stage else []
        cells = [in_words(measured.total(figure, *of), 3 * (figure == MONEY)) for figure in columns.values()]
        value, margin = measured.total(WALL, *of)
        cells.append(duration(value, 1) + (f" ± {duration(margin, 1)}" if margin else ""))
        rows.append([stage, *cells] if stage else ["total", "", *cells[1:]])
    return table(rows)


def in_words(estimate: Estimate, significant: int = 0) -> str:
    """An estimate with its margin, with at least `significant` digits; in whole numbers if that is 0.

    >>> in_words(Estimate(12_288.2, 412.6)), in_words(Estimate(24.0, 0.0)), in_words(Estimate(0.01234, 0.0005), 3)
    ('12,288 ± 413', '24', '0.0123 ± 0.0005')
    """
    value, margin = estimate
    decimals = max(0, significant - 1 - math.floor(math.log10(value))) if significant and value > 0 else 0
    return f"{value:,.{decimals}f}" + (f" ± {margin:,.{decimals}f}" if margin else "")
