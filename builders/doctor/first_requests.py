"""What a recipe will ask of its LLM: its first requests, and the largest that it can make."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from builders.context import Context, no_llm
from builders.corpus import load, sample
from builders.llm.ledger import BYTES_PER_TOKEN, bytes_of
from builders.llm.messages import ChatRequest, Task
from builders.negatives import config_of
from builders.negatives.written import Ask, LlmNegativesConfig, NegativesTask, Writing, asks_of, prompt_of
from builders.prompts import in_language, load_prompt
from builders.queries import STAGE, labelled
from builders.queries.written import query_tasks, shown, word_range
from builders.recipe import LLM_JUDGE, WRITTEN, BuildRecipe
from builders.scores.llm_judge import How, JudgeTask

MOST_TASKS = 128
Staged = tuple[str, ChatRequest]
"""A stage, and a request that it makes."""


class Requests(NamedTuple):
    """What the recipe asks of an endpoint.

    Attributes:
        table: the recipe's table that says how the tasks are asked for, such as `queries`.
        tasks: the first tasks of the build, one at least: queries, or negatives or pairs for labelled queries.
        requests: what each of them asks first.
        longest: the largest request that the build can make.
        longest_stage: which stage makes that.
    """

    table: str
    tasks: Sequence[Task]
    requests: Sequence[ChatRequest]
    longest: ChatRequest
    longest_stage: str


def requests_of(recipe: BuildRecipe) -> Requests:
    """The requests of a recipe, from the passages that get a query, or from the queries that are given.

    Raises:
        UserError: the corpus or the queries cannot be read, or a prompt is missing.
    """
    corpus = load(recipe.corpus)
    recipe = msgspec.structs.replace(recipe, corpus=msgspec.structs.replace(recipe.corpus, language=corpus.language))
    context = Context(corpus.passages, corpus.language, recipe.seed, no_llm)
    if recipe.queries.source is None:
        table, (tasks, staged) = STAGE, _of_passages(recipe, context)
    else:
        given = labelled.read(recipe.queries, corpus, recipe.seed).queries
        kind = next((kind for kind in recipe.negatives.kinds if kind in WRITTEN), LLM_JUDGE)
        table, (tasks, staged) = f"negatives.{kind}", _of_labelled(recipe, kind, given, context)
    stage, longest = max(staged, key=_tokens)
    return Requests(table, tasks, [task.request(0) for task in tasks], longest, stage)


def _of_passages(recipe: BuildRecipe, context: Context) -> tuple[list[Task], list[Staged]]:
    """The first tasks for queries, and the largest request of each stage."""
    asking, language = recipe.queries, str(recipe.corpus.language)
    seeds = sample(context.passages, recipe.corpus.sample, recipe.seed)
    few = seeds.slice(0, MOST_TASKS).to_batches()
    tasks: list[Task] = list(islice(query_tasks(few, asking, context), MOST_TASKS))
    passage = _longest(seeds, asking.passage_chars)
    seen = shown(passage["title"], passage["text"], asking.passage_chars)
    prompts = [load_prompt(in_language(name, language)) for name in asking.weights()]
    query = " ".join(["question"] * max(word_range(asking, prompt)[1] for prompt in prompts))
    messages = [prompt.messages(seen) for prompt in prompts]
    written = [msgspec.structs.replace(tasks[0].request(0), messages=each) for each in messages]
    staged = [(STAGE, request) for request in written]
    return tasks, [*staged, *_of_negatives(recipe, passage, query)]


def _of_labelled(recipe: BuildRecipe, kind: str, given: pa.Table, context: Context) -> tuple[list[Task], list[Staged]]:
    """The first tasks of a build whose queries are given: for negatives, or for verdicts where none is written."""
    asking = config_of(recipe.negatives, kind)
    asks = list(asks_of(given.slice(0, MOST_TASKS), context))
    query = max(given["text"].to_pylist(), key=lambda text: len(text.encode()))
    passage = _longest(context.passages, recipe.negatives.llm_judge.passage_chars)
    staged = list(_of_negatives(recipe, passage, query))
    if LLM_JUDGE in recipe.scorers:
        ask = Ask("longest", query, f"{passage['title']} {passage['text']}")
        staged.append((LLM_JUDGE, _task(recipe, LLM_JUDGE, ask, recipe.negatives.llm_judge).request(0)))
    tasks = [_task(recipe, kind, ask, asking) for ask in asks]
    return tasks, staged


def _task(recipe: BuildRecipe, kind: str, ask: Ask, asking: Any, primed: str | None = None) -> Task:
    """The first task of a query."""
    language = str(recipe.corpus.language)
    if kind == LLM_JUDGE:
        how = How(load_prompt(in_language(asking.prompt, language)), recipe.seed, asking)
        return JudgeTask(0, ask.query, ask.positive, how)
    writing = Writing(kind, prompt_of(asking, language, kind), primed, recipe.seed, asking)
    numbers = range(1, min(asking.per_call, asking.count) + 1)
    return NegativesTask(ask, numbers, writing)


def _of_negatives(recipe: BuildRecipe, passage: dict[str, Any], query: str) -> Iterator[Staged]:
    """A request of each kind of written negatives, with as long a query as the build may have."""
    ask = Ask("longest", query, f"{passage['title']} {passage['text']}")
    for kind in recipe.negatives.kinds:
        if kind in WRITTEN:
            config: LlmNegativesConfig = config_of(recipe.negatives, kind)
            has_priming = prompt_of(config, str(recipe.corpus.language), kind).priming is not None
            primed = " ".join(["word"] * 2 * config.max_tokens) if has_priming else None
            yield kind, _task(recipe, kind, ask, config, primed).request(0)


def _tokens(staged: Staged) -> float:
    """About how many tokens a request and its answer are."""
    return bytes_of(staged[1].messages) / BYTES_PER_TOKEN + staged[1].max_tokens


def _longest(seeds: pa.Table, chars: int) -> dict[str, Any]:
    """The passage of which an LLM is shown most, in bytes."""
    rows: Iterator[dict[str, Any]] = (row for batch in seeds.to_batches() for row in batch.to_pylist())
    return max(rows, key=lambda row: len(shown(row["title"], row["text"], chars).encode()))
