"""The endpoint doctor: tries what a build will ask of its LLM.

    python -m builders.build RECIPE --doctor [--set llm.base_url=http://127.0.0.1:8080/v1]

It prints a row a check. It builds and stores nothing, and says first how many calls it makes at most.
"""

import asyncio
import textwrap
from collections.abc import Callable
from typing import Any

import msgspec

from builders.doctor.checks import FIRST_TRIES, LONGEST_PROBE_S, MOST_AT_ONCE, Finding, Probe
from builders.doctor.first_requests import requests_of
from builders.llm.config import LlmConfig, api_key
from builders.llm.ledger import Account
from builders.llm.posting import PostingClient
from builders.llm.session import endpoint_of
from builders.recipe import BuildRecipe, asks_llm
from builders.recipe_checks import check
from foils.errors import UserError, scrub

WIDTH, NAME_WIDTH, STATUS_WIDTH = 100, 16, 11
Say = Callable[[str], Any]


def examine(recipe: BuildRecipe, print_line: Say = print) -> None:
    """Tries the recipe's LLM and prints what it finds.

    Args:
        recipe: the recipe; its corpus is read, for real requests.
        print_line: takes the lines.

    Raises:
        UserError: the recipe cannot run as it is; or recipe, corpus, key or embedded LLM are not as they must be.
    """
    check(recipe)
    if not asks_llm(recipe):
        raise UserError(
            "the recipe asks nothing of an LLM: its queries are labelled (queries.source) and no kind of negatives is "
            "written; there is nothing to examine"
        )
    llm, key = recipe.llm, api_key(recipe.llm)

    def say(text: str) -> None:
        """Prints without the key, whatever put it there: servers have been seen to repeat it."""
        print_line(scrub(text.replace(key, "***")))

    most = FIRST_TRIES + 2 + 2 * min(llm.concurrency, MOST_AT_ONCE)
    say(f"The doctor makes at most {most} calls; it stores nothing.")
    requests = requests_of(recipe)
    llm = msgspec.structs.replace(llm, timeout_s=min(llm.timeout_s, LONGEST_PROBE_S))
    with endpoint_of(llm) as endpoint:
        say(f"\n{endpoint.place}, model {llm.model}\n\n{'check':<{NAME_WIDTH}}{'status':<{STATUS_WIDTH}}found")

        async def examined() -> list[Finding]:
            async with PostingClient(endpoint, key, llm.timeout_s, lambda *_: None) as client:
                probe, findings = Probe(client, llm, requests), []
                async for finding in probe.findings():
                    findings.append(finding)
                    say(row(finding))
            say(row(_cost(llm, probe.account)))
            return findings

        findings = asyncio.run(examined())
    failed = [finding.name for finding in findings if finding.status == "failed"]
    if failed:
        raise UserError(
            f"the recipe cannot run as it is: failed: {', '.join(failed)}; the table says what to do about it, then "
            "run the same command again"
        )
    warnings = sum(finding.status == "warning" for finding in findings)
    say(f"\nThe recipe can run as it is; {warnings} warning{'s' * (warnings != 1)}.")


def _cost(llm: LlmConfig, account: Account) -> Finding:
    figures = account.summary()
    calls, read, written = (figures[name] for name in ("calls", "prompt_tokens", "completion_tokens"))
    found = f"{calls} answers, {read:,} tokens read, {written:,} written"
    price = f": {account.money:.4f} {llm.prices.currency}" if llm.prices.known else "; llm.prices has no price"
    return Finding("cost", "ok", found + price)


def row(finding: Finding) -> str:
    """A finding as a row of the table.

    >>> print(row(Finding("key", "failed", "answered 401 -> set llm.api_key_env")))
    key             failed     answered 401
                               -> set llm.api_key_env
    """
    indent = NAME_WIDTH + STATUS_WIDTH
    lines = [
        line
        for part in finding.found.replace(" -> ", "\n-> ").splitlines()
        for line in textwrap.wrap(part, WIDTH - indent, break_on_hyphens=False)
    ]
    head = f"{finding.name:<{NAME_WIDTH}}{finding.status:<{STATUS_WIDTH}}{lines[0] if lines else ''}".rstrip()
    return "\n".join([head, *(" " * indent + line for line in lines[1:])])
