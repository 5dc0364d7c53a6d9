"""The endpoint doctor: tries what a build will ask of its LLM, and advises settings.

    python -m builders.build RECIPE --doctor [--set llm.base_url=http://127.0.0.1:8080/v1]

It prints a row a check, then the settings to change. It builds and stores nothing, and says first how many calls it
makes at most.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from builders.doctor.answers import answer, context, seed, structured, usage
from builders.doctor.case import case_of
from builders.doctor.findings import NAME_WIDTH, STATUS_WIDTH, Finding, row, snippet
from builders.doctor.server import FIRST_TRIES, key, kind, meet, model, reachable
from builders.doctor.speed import MOST_AT_ONCE, MOST_SECONDS, calls_at, concurrency, levels_up_to, limits, speed
from builders.doctor.visit import Case, Visit
from builders.llm import embedded
from builders.llm.chat import Endpoint
from builders.llm.config import LlmConfig
from builders.llm.ledger import Account
from builders.llm.lines import NO_KEY, api_key, endpoints_of
from builders.recipe import BuildRecipe, asks_llm
from builders.recipe_checks import check
from foils.errors import UserError, scrub

# Three first requests twice over, two against mere reasoning, four for JSON, three for the seed, the longest prompt.
CALLS_BEFORE_SPEED = 2 * FIRST_TRIES + 2 + 4 + 3 + 1

Say = Callable[[str], Any]


def examine(recipe: BuildRecipe, print_line: Say = print) -> None:
    """Tries the recipe's LLM and prints what it finds.

    Args:
        recipe: the recipe; its corpus is read, for real requests.
        print_line: takes the lines.

    Raises:
        UserError: the recipe cannot run as it is; or recipe, corpus or embedded LLM are not as they must be.
    """
    check(recipe)
    if not asks_llm(recipe):
        raise UserError(
            "the recipe asks nothing of an LLM: its queries are labelled (queries.source) and no kind of negatives is "
            "written; there is nothing to examine"
        )
    say = _discreet(recipe.llm, print_line)
    places = max(1, len(recipe.llm.base_urls))
    most = places * (CALLS_BEFORE_SPEED + sum(map(calls_at, levels_up_to(_share(recipe.llm, places)))))
    say(f"The doctor makes at most {most} calls, the most of them within {MOST_SECONDS:.0f} s; it stores nothing.")
    case = case_of(recipe)
    with ExitStack() as stack:
        llm = recipe.llm
        served = [stack.enter_context(embedded.serve_embedded())] if llm.is_embedded else endpoints_of(llm)
        visits, findings = asyncio.run(_examined(case, served, say))
    changes = snippet(findings, recipe)
    say(f"\nSettings to change in the recipe:\n\n{changes}\n" if changes else "\nNo setting has to be changed.\n")
    _conclude(visits, findings, say)


async def _examined(case: Case, endpoints: Sequence[Endpoint], say: Say) -> tuple[list[Visit], list[Finding]]:
    """Visits one address after the other, and prints each row as soon as it is known."""
    account = Account(case.recipe.llm.prices)
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        say(row(finding))

    async with AsyncExitStack() as stack:
        visits = [await stack.enter_async_context(Visit(case, endpoint, account)) for endpoint in endpoints]
        for visit in visits:
            say(f"\n{visit.endpoint.place}, model {visit.llm.model}\n")
            say(f"{'check':<{NAME_WIDTH}}{'status':<{STATUS_WIDTH}}found")
            async for finding in _looked_at(visit, len(visits)):
                visit.failed += [finding.name] * (finding.status == "failed")
                tell(finding)
    tell(concurrency(visits))
    tell(_cost(case.recipe.llm, account))
    return visits, findings


async def _looked_at(visit: Visit, places: int) -> AsyncIterator[Finding]:
    """All checks of one address, in the order of the table."""
    await meet(visit)
    for look in (reachable, key, model, kind):
        yield look(visit)
    yield await answer(visit)
    yield await structured(visit)
    yield await seed(visit)
    yield usage(visit)
    yield await context(visit)
    yield await speed(visit, _share(visit.llm, places), MOST_SECONDS / places)
    yield limits(visit)


def _share(llm: LlmConfig, places: int) -> int:
    """The most requests at once that one of several addresses is tried with."""
    return max(1, min(-(-llm.concurrency // places), MOST_AT_ONCE // places))


def _cost(llm: LlmConfig, account: Account) -> Finding:
    figures = account.summary()
    told = f"{figures['calls']} answers, {figures['prompt_tokens']:,} tokens read, "
    told += f"{figures['completion_tokens']:,} written"
    if not llm.prices.known:
        return Finding("cost", "ok", f"{told}; llm.prices says no price")
    return Finding("cost", "ok", f"{told}: {account.money:.4f} {llm.prices.currency}")


def _conclude(visits: Sequence[Visit], findings: Sequence[Finding], say: Say) -> None:
    """Says whether the recipe can run: an address of several may be away, all others must be fit.

    Raises:
        UserError: it cannot.
    """
    there = [visit for visit in visits if not visit.is_away]
    failed = sorted({name for visit in there or visits for name in visit.failed})
    if failed:
        raise UserError(
            f"the recipe cannot run as it is: failed: {', '.join(failed)}; the table says what to do about it, then "
            "run the same command again"
        )
    warnings = sum(finding.status == "warning" for finding in findings)
    away = [visit.endpoint.place for visit in visits if visit.is_away]
    without = f", without {', '.join(away)}" if away else ""
    say(f"The recipe can run as it is{without}; {warnings} warning{'s' * (warnings != 1)}.")


def _discreet(llm: LlmConfig, print_line: Say) -> Say:
    """Prints without the key, whatever put it there: servers have been seen to repeat it."""
    try:
        secret = api_key(llm)
    except UserError:
        secret = NO_KEY

    def say(text: str) -> None:
        print_line(scrub(text if secret == NO_KEY else text.replace(secret, "***")))

    return say
