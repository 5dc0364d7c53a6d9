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
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from builders.context import Context
from builders.corpus import sample
from builders.doctor.endpoint import Probe, Show, Status
from builders.estimate.trial import ROUND_TRIP, Tried, try_exam, try_stages
from builders.llm.client import Llm, endpoint_of, identified
from builders.llm.config import LlmConfig, api_key
from builders.llm.ledger import Ledger
from builders.llm.messages import ChatAnswer, ChatRequest
from builders.llm.rejections import Rejections, with_remedies
from builders.llm.store import CallStore
from builders.prompts import in_language, load_prompt
from builders.recipe import LLM_JUDGE, BuildRecipe, asks_llm
from foils.errors import UserError, scrub
from foils.words import shortened

WIDTH, NAME_WIDTH, STATUS_WIDTH = 100, 18, 9
FEWEST, MOST = 8, 64
"""Rows that are tried: as many as are asked for at once."""
QUOTE = 90
_ABOUT_LENGTH = re.compile(r"context|token|length|too (?:long|large)", re.IGNORECASE)
Say = Callable[[str], Any]


def examine(
    recipe: BuildRecipe,
    context: Context,
    labelled: pa.Table | None,
    own: pa.Table | None,
    print_line: Say = print,
) -> None:
    """Tries the recipe's LLM and prints what it finds.

    Args:
        recipe: the recipe.
        context: has the corpus; gets the doctor's cache and LLM.
        labelled: `queries.TABLE`; None where the LLM writes the training queries.
        own: people's own queries of the exam, without judgements; None where there are none.
        print_line: takes the lines.

    Raises:
        UserError: the build would fail.
    """
    of_exam = recipe.exam.llm if recipe.exam else None
    used = [*([recipe.llm] if asks_llm(recipe, judges=own is not None) else []), *([of_exam] if of_exam else [])]
    llms, keys, statuses = [*map(identified, used)], [*map(api_key, used)], list[str]()

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
        by_bm25 = recipe.queries.round_trip_model is None
        stages = try_stages(recipe, some, context, None if labelled is None else some, retrieves=by_bm25)
        exam_rows = _some_rows(recipe, context.passages) if recipe.exam else some.slice(0, 0)
        asked = None if own is None else sample(own, some.num_rows, recipe.seed)
        exam, rows = try_exam(recipe, exam_rows, context, asked), max(some.num_rows, exam_rows.num_rows)
        request = _first_request(recipe, context.language)
        for each in llms:
            tried = exam if of_exam and each is llms[-1] else stages if of_exam else chain(stages, exam)
            statuses += _try_llm(each, request, context, tried, rows, say)
    if "failed" in statuses:
        raise UserError("the recipe cannot run as it is: see what failed, and behind -> what to do about it")
    say(f"\nThe recipe can run as it is; warnings: {statuses.count('warning')}.")


def _try_llm(
    llm: LlmConfig, request: ChatRequest, context: Context, stages: Iterable[Tried], rows: int, say: Say
) -> list[str]:
    """Tries an LLM by itself and in its stages; returns the status of each finding."""
    statuses, ledger = list[str](), Ledger(llm.prices)

    def show(name: str, status: Status, found: str) -> None:
        statuses.append(status)
        say(row(name, status, found))

    with endpoint_of(llm) as endpoint, TemporaryDirectory(dir=context.cache) as folder:
        say(f"\n{llm.place}, model {llm.model}\n\n{'check':<{NAME_WIDTH}}{'status':<{STATUS_WIDTH}}found")
        passing = asyncio.run(Probe(endpoint, llm, request, ledger.account("probe"), show).run())
        if passing is not None:
            with CallStore(Path(folder) / "calls") as store:
                session = Llm(passing, store, lambda: endpoint, ledger)
                context.converse = session.run
                _try(session, stages, show)
                _show_calls(min(llm.concurrency, rows), ledger, store, show)
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


def _try(session: Llm, stages: Iterable[Tried], show: Show) -> None:
    """Shows what comes of each stage; ends with the first that gets nowhere."""
    first: dict[str, ChatAnswer] = {}
    session.watch = lambda stage, _, __, answer: first.setdefault(stage, answer)
    try:
        for tried in stages:
            show(tried.stage, *_found(tried, session.rejections.get(tried.stage), first.get(tried.stage)))
    except UserError as error:
        stage = next(reversed(session.rejections), "answers")
        text = first[stage].text if stage in first else ""
        said = f"; the first answer: {shortened(text, QUOTE)!r}" if text else ""
        show(stage, "failed", f"{error}{said}")


def _found(tried: Tried, rejections: Rejections | None, first: ChatAnswer | None) -> tuple[Status, str]:
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
        return "failed", found
    has_most = 2 * usable >= tried.asked and not (rejections and rejections.unanswered)
    return "ok" if has_most else "warning", found


def _show_calls(at_once: int, ledger: Ledger, store: CallStore, show: Show) -> None:
    """Shows how fast the recipe's concurrency was served, and what it cost."""
    names = ("calls", "failed_tries", "prompt_tokens", "completion_tokens", "busy_seconds")
    calls, again, read, written, seconds = ledger.sums(*names)
    cost = ledger.cost() or "llm.prices has no price"
    found = f"{calls:.0f}, up to {at_once} at once: {calls / max(seconds, 1e-3):.2f} calls/s, "
    found += f"{written / max(seconds, 1e-3):.1f} tokens/s; {read:,.0f} tokens read, {written:,.0f} written: {cost}"
    if not again:
        return show("calls", "ok", found)
    ((problem,),) = store.rows("SELECT problem FROM failures GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
    return show("calls", "warning", f"{found}; {again:.0f} failed tries, {problem} -> try a lower llm.concurrency")


def row(name: str, status: Status, found: str) -> str:
    """A row of the table.

    >>> print(row("key", "failed", "answered 401 -> set llm.api_key_env"))
    key               failed   answered 401
                               -> set llm.api_key_env
    """
    indent = NAME_WIDTH + STATUS_WIDTH
    lines = [
        line
        for part in found.replace(" -> ", "\n-> ").splitlines()
        for line in textwrap.wrap(part, WIDTH - indent, break_on_hyphens=False)
    ]
    head = f"{name:<{NAME_WIDTH}}{status:<{STATUS_WIDTH}}{lines[0] if lines else ''}".rstrip()
    return "\n".join([head, *(" " * indent + line for line in lines[1:])])
