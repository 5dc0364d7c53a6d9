"""The endpoint doctor: tries what a build will ask of its LLM, and checks the answers as the build does.

    python -m builders.build RECIPE --doctor [--set llm.base_url=http://127.0.0.1:8080/v1]

It prints a row a check. It builds and stores nothing.
"""

import asyncio
import re
import textwrap
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from builders.context import Context
from builders.corpus import sample
from builders.doctor.endpoint import Finding, Probe
from builders.estimate.trial import ROUND_TRIP, Tried, try_exam, try_stages
from builders.llm.client import Llm
from builders.llm.config import LlmConfig, api_key
from builders.llm.ledger import Ledger
from builders.llm.messages import ChatAnswer, ChatRequest
from builders.llm.rejections import Rejections, with_remedies
from builders.llm.session import endpoint_of, identified
from builders.llm.store import CallStore
from builders.prompts import in_language, load_prompt
from builders.queries.round_trip import Retrieve
from builders.recipe import LLM_JUDGE, BuildRecipe, asks_llm
from foils.errors import UserError, scrub
from foils.words import shortened

WIDTH, NAME_WIDTH, STATUS_WIDTH = 100, 18, 9
FEWEST, MOST = 8, 64
"""Rows that are tried: as many as are asked for at once."""
QUOTE = 90
_ABOUT_LENGTH = re.compile(r"context|token|length|too (?:long|large)", re.IGNORECASE)
Say = Callable[[str], Any]


class Given(NamedTuple):
    """Queries that no LLM writes, `queries.TABLE`; None where there are none.

    Attributes:
        queries: labelled ones, for training.
        own: people's own of the exam, without judgements.
    """

    queries: pa.Table | None = None
    own: pa.Table | None = None


def examine(
    recipe: BuildRecipe,
    llm: LlmConfig,
    context: Context,
    given: Given,
    retriever: Callable[[Context], Retrieve],
    print_line: Say = print,
) -> None:
    """Tries the recipe's LLM and prints what it finds.

    Args:
        recipe: the recipe.
        llm: the recipe's, identified.
        context: has the corpus; gets the doctor's cache and LLM.
        given: the queries that the LLM does not write.
        retriever: the build's own, for the round trip.
        print_line: takes the lines.

    Raises:
        UserError: the build would fail.
    """
    own, labelled = recipe.exam.llm if recipe.exam else None, given.queries
    llms = [*([llm] if asks_llm(recipe, judges=given.own is not None) else []), *([identified(own)] if own else [])]
    keys, statuses = [*map(api_key, llms)], list[str]()

    def say(text: str) -> None:
        """Prints without a key, whatever put it there: servers have been seen to repeat it."""
        for key in keys:
            text = text.replace(key, "***")
        print_line(scrub(text))

    some = _some_rows(
        recipe, sample(context.passages, recipe.corpus.sample, recipe.seed) if labelled is None else labelled
    )
    say(f"The doctor tries {some.num_rows} rows in each stage of the build that asks the LLM; it stores nothing.")
    with TemporaryDirectory(prefix="foils-doctor-") as folder:
        context.cache = Path(folder)
        retrieve = retriever(context) if recipe.queries.round_trip_model is None and labelled is None else None
        stages = try_stages(recipe, some, context, retrieve, None if labelled is None else some)
        exam_rows = _some_rows(recipe, context.passages) if recipe.exam else some.slice(0, 0)
        asked = None if given.own is None else sample(given.own, some.num_rows, recipe.seed)
        of_exam, rows = try_exam(recipe, exam_rows, context, asked), max(some.num_rows, exam_rows.num_rows)
        request = _first_request(recipe, context.language)
        for each in llms:
            tried = of_exam if own and each is llms[-1] else stages if own else chain(stages, of_exam)
            statuses += _try_llm(each, request, context, tried, rows, say)
    if "failed" in statuses:
        raise UserError("the recipe cannot run as it is: see what failed, and behind -> what to do about it")
    say(f"\nThe recipe can run as it is; warnings: {statuses.count('warning')}.")


def _try_llm(
    llm: LlmConfig, request: ChatRequest, context: Context, stages: Iterable[Tried], rows: int, say: Say
) -> list[str]:
    """Tries an LLM by itself and in its stages; returns the status of each finding."""
    statuses, ledger = list[str](), Ledger(llm.prices)

    def show(finding: Finding) -> None:
        statuses.append(finding.status)
        say(row(finding))

    with endpoint_of(llm) as endpoint, TemporaryDirectory(dir=context.cache) as folder:
        say(f"\n{llm.place}, model {llm.model}\n\n{'check':<{NAME_WIDTH}}{'status':<{STATUS_WIDTH}}found")
        passing = asyncio.run(Probe(endpoint, llm, request, ledger.account("probe"), show).run())
        if passing is not None:
            with CallStore(Path(folder) / "calls") as store:
                session = Llm(passing, store, lambda: endpoint, ledger)
                context.converse = session.run
                _try(session, stages, show)
                show(_calls(min(llm.concurrency, rows), ledger, store))
    return statuses


def _first_request(recipe: BuildRecipe, language: str) -> ChatRequest:
    """A request in the form of the build's own, with each field that they have."""
    prompt = load_prompt(in_language(next(iter(recipe.queries.weights())), language))
    has_exam = recipe.exam is not None and recipe.exam.wanted > 0
    has_stop = recipe.queries.source is None or has_exam or LLM_JUDGE in recipe.scorers
    return ChatRequest(
        prompt.messages("Eels. They swim across the ocean to spawn in the Sargasso Sea."),
        max_tokens=recipe.queries.max_tokens,
        temperature=recipe.queries.temperature,
        seed=1,
        stop=("\n",) if has_stop else (),
    )


def _some_rows(recipe: BuildRecipe, rows: pa.Table) -> pa.Table:
    """As many rows as are asked for at once, and the longest one, which shows whether prompts fit."""
    sizes = pc.binary_length(rows["text"])
    longest = pc.index(sizes, pc.max(sizes)).as_py()
    some = sample(rows, min(max(FEWEST, recipe.llm.concurrency), MOST), recipe.seed)
    return some if rows["_id"][longest] in some["_id"] else pa.concat_tables([some, rows.slice(longest, 1)])


def _try(session: Llm, stages: Iterable[Tried], show: Callable[[Finding], None]) -> None:
    """Shows what comes of each stage; ends with the first that gets nowhere."""
    first: dict[str, ChatAnswer] = {}

    session.watch = lambda stage, _, __, answer: first.setdefault(stage, answer)
    try:
        for tried in stages:
            show(_finding(tried, session.rejections.get(tried.stage), first.get(tried.stage)))
    except UserError as error:
        stage = next(reversed(session.rejections), "answers")
        text = first[stage].text if stage in first else ""
        said = f"; the first answer: {shortened(text, QUOTE)!r}" if text else ""
        show(Finding(stage, "failed", f"{error}{said}"))


def _finding(tried: Tried, rejections: Rejections | None, first: ChatAnswer | None) -> Finding:
    """What a stage made of its rows."""
    usable = tried.found.num_rows
    found = f"{usable} of {tried.asked} usable"
    if tried.stage == ROUND_TRIP:
        found = f"{usable} of {tried.asked} queries find their passage"
        found += "" if usable else " -> a larger queries.round_trip_k, or another llm.model"
    if first is not None:
        found += f", the first: {shortened(first.text, QUOTE)!r}; "
        counts = (first.prompt_tokens, first.completion_tokens)
        uncounted = "tokens are not counted, so cost and budget are guessed from bytes"
        found += uncounted if None in counts else f"{counts[0]} tokens read, {counts[1]} written"
    if rejections is not None and rejections.reasons:
        found += f"; rejected answers: {with_remedies(tried.stage, rejections.reasons)}"
    if rejections is not None and rejections.unanswered:
        found += f"; the endpoint: {rejections.said()}"
        if _ABOUT_LENGTH.search(rejections.said()):
            found += " -> lower passage_chars or max_tokens, or start the server with a larger context"
    if not usable:
        return Finding(tried.stage, "failed", found)
    has_most = 2 * usable >= tried.asked and not (rejections and rejections.unanswered)
    return Finding(tried.stage, "ok" if has_most else "warning", found)


def _calls(at_once: int, ledger: Ledger, store: CallStore) -> Finding:
    """How fast the recipe's concurrency was served, and what it cost."""
    names = ("calls", "failed_tries", "prompt_tokens", "completion_tokens", "busy_seconds")
    calls, again, read, written, seconds = ledger.sums(*names)
    cost = ledger.cost() or "llm.prices has no price"
    found = f"{calls:.0f}, up to {at_once} at once: {calls / max(seconds, 1e-3):.2f} calls/s, "
    found += f"{written / max(seconds, 1e-3):.1f} tokens/s; {read:,.0f} tokens read, {written:,.0f} written: {cost}"
    if not again:
        return Finding("calls", "ok", found)
    ((problem,),) = store.rows("SELECT problem FROM failures GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
    return Finding("calls", "warning", f"{found}; {again:.0f} failed tries, {problem} -> try a lower llm.concurrency")


def row(finding: Finding) -> str:
    """A finding as a row of the table.

    >>> print(row(Finding("key", "failed", "answered 401 -> set llm.api_key_env")))
    key               failed   answered 401
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
