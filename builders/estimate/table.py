"""A trial's measurements as an estimate of the whole build, for a terminal: the table, and the lines under it."""

import math
from collections.abc import Iterator

from builders import queries
from builders.estimate.forecast import CALLS, ROWS, TOKENS_IN, TOKENS_OUT, Estimate, Measured, at_most
from builders.estimate.trial import ACCEPTED, ROUND_TRIP, Tally, Trial, writers_of
from builders.llm.config import LlmConfig
from builders.llm.ledger import HOUR_S
from builders.recipe import BuildRecipe
from foils.errors import UserError
from foils.words import table

UNITS = (("s", 1.0), ("min", 60.0), ("h", HOUR_S), ("days", 24 * HOUR_S))
LONG = 120
"""Of a unit of time; from there on the next is used."""
TOP_REASONS = 3
AMPLE = 4
"""Sampled rows per request in flight that show what an endpoint can do."""


def report(config: BuildRecipe, trial: Trial, stored: int, new: Tally) -> str:
    """All that a dry run prints.

    Args:
        config: the recipe.
        trial: of the sample.
        stored: the build's first calls for queries that the store can answer.
        new: over the calls that this run made.
    """
    sampled, population = trial.measured.sampled, trial.measured.population
    asked = population * config.queries.per_passage
    lines = [
        f"{config.name}: measured on {sampled:,} of {population:,} seed passages"
        + (", with 90 % intervals" if sampled < population else ", which is all of it"),
        "",
        *_table(config, trial),
        "",
        f"in the store: {stored:,} of {asked:,} first calls for queries, the sample's included: not paid again",
        *_of_sample(config, trial, new),
        *_of_money(config.llm, trial),
        *_notes(config, trial),
    ]
    return "\n".join(lines)


def check_budget(llm: LlmConfig, measured: Measured) -> None:
    """Refuses a build that its budget cannot pay.

    Raises:
        UserError: even the lower end of the estimate is above `llm.budget`.
    """
    money = measured.money(llm.prices)
    if llm.budget is not None and money.value - money.margin > llm.budget:
        raise UserError(
            f"llm.budget {llm.budget:g} {llm.prices.currency}: the whole build costs about {in_words(money, 3)}, so it "
            "would stop on its way; raise llm.budget, or ask for fewer rows (corpus.sample)"
        )


def _table(config: BuildRecipe, trial: Trial) -> Iterator[str]:
    prices, measured = config.llm.prices, trial.measured
    money = [f"money ({prices.currency})"] if prices.known else []
    rows = [["stage", "rows", "calls", "tokens in", "tokens out", *money, "wall"]]
    has_accepted = trial.outcomes[1].accepted > 0
    for stage in (queries.STAGE, ROUND_TRIP, *writers_of(config), None):
        if stage in writers_of(config) and not has_accepted:
            rows.append([stage, *["no estimate"] * (len(rows[0]) - 1)])
            continue
        figures = [measured.total(figure, stage) for figure in (CALLS, TOKENS_IN, TOKENS_OUT)]
        costs = [*map(in_words, figures), *([in_words(measured.money(prices, stage), 3)] if prices.known else [])]
        costs.append(_duration(measured.wall(stage)))
        without = "" if has_accepted or not writers_of(config) else " without negatives"
        name, count = (f"total{without}", "") if stage is None else (stage, in_words(measured.total(ROWS, stage)))
        rows.append([name, count, *(["-"] * len(costs) if stage == ROUND_TRIP else costs)])
    yield from table(rows)


def _of_sample(config: BuildRecipe, trial: Trial, new: Tally) -> Iterator[str]:
    """What the sample cost, and what came of it."""
    measured, prices = trial.measured, config.llm.prices
    calls = int(measured.figures[:, :, CALLS].sum())
    made, read, written = (int(new.figures[figure]) for figure in (CALLS, TOKENS_IN, TOKENS_OUT))
    paid = prices.of_tokens(read, written) + prices.hour * new.busy.seconds / HOUR_S
    money = f", {paid:,.4f} {prices.currency}" if prices.known else ""
    yield f"this sample: {calls:,} calls, {made:,} of them new: {read:,} tokens in, {written:,} out{money}"
    yield "accepted in the sample:"
    for stage, asked, accepted, reasons in trial.outcomes:
        share = f" ({100 * accepted / asked:.0f} %)" if asked else ""
        what = "dropped" if stage == ROUND_TRIP else "rejected answers"
        top = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(TOP_REASONS))
        yield f"  {stage}: {accepted:,} of {asked:,}{share}" + (f"; {what}: {top}" if top else "")
    if trial.outcomes[1].accepted == 0:
        yield (
            f"  no sampled query was accepted; of all others at most {100 * at_most(measured.sampled):.1f} % "
            "would be (95 %); try another model or a larger queries.round_trip_k"
        )


def _of_money(llm: LlmConfig, trial: Trial) -> Iterator[str]:
    """What an accepted query costs, and whether the budget will do."""
    prices, money = llm.prices, trial.measured.money(llm.prices)
    accepted = trial.measured.total(ROWS, ACCEPTED).value
    if prices.known and accepted:
        yield f"money per accepted query: {in_words(Estimate(money.value / accepted, 0), 3)} {prices.currency}"
    if llm.budget is not None:
        within = money.value + money.margin <= llm.budget
        verdict = "stays under it" if within else "passes it: the build may stop on its way"
        yield f"llm.budget {llm.budget:g} {prices.currency}: estimated {in_words(money, 3)}; the upper end {verdict}"


def _notes(config: BuildRecipe, trial: Trial) -> Iterator[str]:
    """What the figures hold for."""
    measured, most = trial.measured, config.llm.concurrency
    sampled = measured.sampled
    reached = {stage: measured.concurrency[measured.stages.index(stage)] for stage, *_ in trial.outcomes}
    words = ", ".join(f"{calls:.1f} ({stage})" for stage, calls in reached.items() if stage != ROUND_TRIP)
    yield f"wall: the time in calls, if as many are in flight at once as in the sample: {words}, of {most} allowed;"
    yield "  retrieval, mining and training on this machine come on top"
    if sampled < min(AMPLE * most, measured.population):
        yield f"  few rows cannot keep an endpoint full: a build may be faster; --sample-rows {AMPLE * most} says more"
    if sampled < measured.population:
        share = 100 * at_most(sampled)
        yield f"not foreseen: what no sampled passage showed, though up to {share:.1f} % of all may do it (95 %);"
        yield "  and queries asked for again because a passage outside the sample has the same one"


def in_words(estimate: Estimate, significant: int = 0) -> str:
    """An estimate with its margin.

    Args:
        estimate: the figure.
        significant: digits of the value that are shown at least; without them, whole numbers.

    >>> in_words(Estimate(12_288.2, 412.6)), in_words(Estimate(24.0, 0.0)), in_words(Estimate(0.01234, 0.0005), 3)
    ('12,288 ± 413', '24', '0.0123 ± 0.0005')
    """
    value, margin = estimate
    decimals = max(0, significant - 1 - math.floor(math.log10(value))) if significant and value > 0 else 0
    return f"{value:,.{decimals}f}" + (f" ± {margin:,.{decimals}f}" if margin else "")


def _duration(seconds: Estimate) -> str:
    """A time in the unit that suits it.

    >>> _duration(Estimate(5400.0, 600.0))
    '90.0 ± 10.0 min'
    """
    name, scale = next(((name, scale) for name, scale in UNITS if seconds.value < LONG * scale), UNITS[-1])
    return f"{in_words(Estimate(*(part / scale for part in seconds)), 3)} {name}"
