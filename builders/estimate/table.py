"""A forecast in words and figures for a terminal: the table, and the lines under it."""

import math
from collections.abc import Iterator, Sequence

from builders import queries
from builders.estimate.forecast import CALLS, ROWS, TOKENS_IN, TOKENS_OUT, Estimate, Forecast, at_most
from builders.estimate.rehearsal import ACCEPTED, ROUND_TRIP, TRAINING, Rehearsal, Tally, writers_of
from builders.llm.config import LlmConfig
from builders.llm.ledger import HOUR_S
from builders.recipe import BuildRecipe
from foils.errors import UserError

Cell = tuple[str, str]
"""A figure, and its interval in brackets."""
UNITS = (("s", 1.0), ("min", 60.0), ("h", HOUR_S), ("days", 24 * HOUR_S))
LONG = 120
"""Of a unit of time; from there on the next is used."""
SIGNIFICANT = 3
TOP_REASONS = 3
AMPLE = 4
"""Sampled rows per place in flight that show what an endpoint can do."""
PER_ROWS = 1000


def report(config: BuildRecipe, rehearsal: Rehearsal, forecast: Forecast, stored: int, new: Tally) -> str:
    """All that a dry run tells.

    Args:
        config: the recipe.
        rehearsal: of the sample.
        forecast: of the whole build.
        stored: the build's first calls for queries that the store can answer.
        new: over the calls that this run made.
    """
    sampled, population = len(rehearsal.measured.figures), rehearsal.measured.population
    asked = population * config.queries.per_passage
    lines = [
        f"{config.name}: measured on {sampled:,} of {population:,} seed passages"
        + ("; below each figure its 90 % interval" if sampled < population else ", which is all of it"),
        "",
        *_table(config, rehearsal, forecast),
        "",
        f"in the store: {stored:,} of {asked:,} first calls for queries, the sample's included: not paid again",
        *_of_sample(config, rehearsal, new),
        *_of_money(config.llm, forecast, rehearsal),
        *_notes(config, rehearsal),
    ]
    return "\n".join(lines)


def check_budget(llm: LlmConfig, forecast: Forecast) -> None:
    """Refuses a build that its budget cannot pay.

    Raises:
        UserError: even the lower end of the estimate is above `llm.budget`.
    """
    money = forecast.money()
    if llm.budget is not None and money.low > llm.budget:
        raise UserError(
            f"llm.budget {llm.budget:g} {llm.prices.currency}: the whole build costs about {in_words(money, least=0)}, "
            "so it would stop on its way; raise llm.budget, or ask for fewer rows (corpus.sample)"
        )


def _table(config: BuildRecipe, rehearsal: Rehearsal, forecast: Forecast) -> Iterator[str]:
    prices = config.llm.prices
    names = ["stage", "rows", "calls", "tokens in", "tokens out"]
    names += [f"money ({prices.currency})", "wall"] if prices.known else ["wall"]
    rows = [[(name, "") for name in names]]
    has_accepted = rehearsal.outcomes[1].accepted > 0
    for stage in (queries.STAGE, ROUND_TRIP, *writers_of(config)):
        if stage not in (queries.STAGE, ROUND_TRIP) and not has_accepted:
            cells = [("no estimate", "")] * (len(names) - 1)
        else:
            cells = [_cell(forecast.total(ROWS, stage)), *_costs(forecast, stage, with_money=prices.known)]
        if stage == ROUND_TRIP:
            cells[1:] = [("-", "")] * (len(names) - 2)
        rows.append([(stage, ""), *cells])
    total = "total" if has_accepted or not writers_of(config) else "total without negatives"
    rows.append([(total, ""), ("", ""), *_costs(forecast, None, with_money=prices.known)])
    shown = [line for row in rows for line in _two_lines(row)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for line, *columns in shown:
        figures = (f"{figure:>{width}}" for figure, width in zip(columns, widths[1:], strict=True))
        yield "  ".join([f"{line:{widths[0]}}", *figures]).rstrip()


def _two_lines(row: Sequence[Cell]) -> list[list[str]]:
    """A row's figures, and below them their intervals, where there are any."""
    intervals = [bracket.strip(" ()") for _, bracket in row]
    return [[value for value, _ in row], *([intervals] if any(intervals) else [])]


def _costs(forecast: Forecast, stage: str | None, *, with_money: bool) -> list[Cell]:
    counts = [_cell(forecast.total(figure, stage)) for figure in (CALLS, TOKENS_IN, TOKENS_OUT)]
    money = [_cell(forecast.money(stage), least=0)] if with_money else []
    return [*counts, *money, _wall_cell(forecast.wall(stage))]


def _of_sample(config: BuildRecipe, rehearsal: Rehearsal, new: Tally) -> Iterator[str]:
    """What the sample cost, and what came of it."""
    measured, prices = rehearsal.measured, config.llm.prices
    calls = int(measured.figures[:, :, CALLS].sum() + measured.once[:, CALLS].sum())
    made, read, written = (int(new.figures[figure]) for figure in (CALLS, TOKENS_IN, TOKENS_OUT))
    paid = prices.of_tokens(read, written) + prices.hour * new.busy.seconds / HOUR_S
    money = f", {paid:,.4f} {prices.currency}" if prices.known else ""
    yield f"this sample: {calls:,} calls, {made:,} of them new: {read:,} tokens in, {written:,} out{money}"
    yield "accepted in the sample:"
    for stage, asked, accepted, reasons in rehearsal.outcomes:
        share = f" ({100 * accepted / asked:.0f} %)" if asked else ""
        what = "dropped" if stage == ROUND_TRIP else "rejected answers"
        top = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(TOP_REASONS))
        yield f"  {stage}: {accepted:,} of {asked:,}{share}" + (f"; {what}: {top}" if top else "")
    if rehearsal.outcomes[1].accepted == 0:
        most = at_most(len(measured.figures))
        left = (measured.population - len(measured.figures)) * config.queries.per_passage
        yield (
            "  no sampled query was accepted, so there is no estimate for negatives; at most "
            f"{100 * most:.1f} % of the other {left:,} queries, {most * left:,.0f}, would be accepted (95 %); "
            "try another model or a larger queries.round_trip_k"
        )


def _of_money(llm: LlmConfig, forecast: Forecast, rehearsal: Rehearsal) -> Iterator[str]:
    """What a row costs, and whether the budget will do."""
    prices, money = llm.prices, forecast.money()
    if not prices.known:
        return
    for stage, name, rows in ((ACCEPTED, "accepted query", 1), (TRAINING, "1,000 training rows of a kind", PER_ROWS)):
        each = forecast.money_per(stage)
        if math.isfinite(each.value):
            scaled = Estimate(*(rows * end for end in each))
            yield f"money per {name}: {in_words(scaled, least=0)} {prices.currency}"
    if llm.budget is None:
        return
    without = "" if rehearsal.outcomes[1].accepted else " without negatives"
    verdict = "stays under it" if money.high <= llm.budget else "passes it: the build may stop on its way"
    told = in_words(money, least=0)
    yield f"llm.budget {llm.budget:g} {prices.currency}: estimated {told}{without}; the upper end {verdict}"


def _notes(config: BuildRecipe, rehearsal: Rehearsal) -> Iterator[str]:
    """What the figures hold for."""
    measured, most = rehearsal.measured, config.llm.concurrency
    reached = {stage: measured.concurrency[measured.stages.index(stage)] for stage, *_ in rehearsal.outcomes}
    told = ", ".join(f"{calls:.1f} ({stage})" for stage, calls in reached.items() if stage != ROUND_TRIP)
    yield f"wall: the time in calls, if as many are in flight at once as in the sample: {told}, of {most} allowed;"
    yield "  retrieval, mining and training on this machine come on top"
    if len(measured.figures) < min(AMPLE * most, measured.population):
        yield f"  few rows cannot keep an endpoint full: a build may be faster; --sample-rows {AMPLE * most} tells more"
    if len(measured.figures) < measured.population:
        yield "not foreseen: queries asked for again because a passage outside the sample has the same one"


def in_words(estimate: Estimate, least: float = 1.0) -> str:
    """An estimate with its interval; all to the same digit, the interval's ends rounded outwards.

    Args:
        estimate: `high` may be infinite.
        least: nothing is told more finely, if above 0.

    >>> in_words(Estimate(12_288.2, 11_912.0, 12_760.3))
    '12,300 (11,900 to 12,800)'
    >>> in_words(Estimate(5_123_456.0, 4_987_654.0, 5_271_111.0))
    '5,120,000 (4,980,000 to 5,280,000)'
    >>> in_words(Estimate(24.0, 24.0, 24.0)), in_words(Estimate(1.0, 0.5, math.inf), least=0)
    ('24', '1.00 (0.50 or more)')
    >>> in_words(Estimate(0.01234, 0.01201, 0.0131), least=0)
    '0.0123 (0.0120 to 0.0131)'
    """
    return "".join(_cell(estimate, least))


def _cell(estimate: Estimate, least: float = 1.0) -> Cell:
    value, low, high = estimate
    largest = high if math.isfinite(high) else value
    exponent = math.floor(math.log10(largest)) - SIGNIFICANT + 1 if largest > 0 else 0
    unit = max(10.0**exponent, least)
    if low == high:
        unit = least or min(unit, 0.01)  # what is known is told in full
    decimals = max(0, -round(math.log10(unit)))

    def told(end: float) -> str:
        return f"{end * unit:,.{decimals}f}"

    parts = round(value / unit, 6), round(low / unit, 6)
    if low == high:
        return told(parts[0]), ""
    upper = f"to {told(math.ceil(round(high / unit, 6)))}" if math.isfinite(high) else "or more"
    return told(round(parts[0])), f" ({told(math.floor(parts[1]))} {upper})"


def _wall_cell(seconds: Estimate) -> Cell:
    """A time in the unit that suits it.

    >>> "".join(_wall_cell(Estimate(5400.0, 5000.0, 6000.0)))
    '90 min (83 to 100)'
    """
    name, scale = next(((name, scale) for name, scale in UNITS if seconds.high < LONG * scale), UNITS[-1])
    value, bracket = _cell(Estimate(*(end / scale for end in seconds)), least=0.1 if seconds.high >= 1 else 0)
    return f"{value} {name}", bracket
