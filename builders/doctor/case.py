"""What a recipe will ask of its LLM: its first requests, and the largest that it can make."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Literal

import msgspec
import pyarrow as pa

from builders import queries
from builders.corpus import load, sample
from builders.doctor.visit import Case
from builders.llm.chat import ChatRequest
from builders.llm.ledger import BYTES_PER_TOKEN, bytes_of
from builders.negatives.llm import Ask, LlmNegativesConfig, NegativesTask, Writing, prompt_of
from builders.negatives.material import Material
from builders.prompts import in_language, load_prompt
from builders.recipe import BuildRecipe, QueriesConfig

MOST_TASKS = 160
JSON_TOKENS = 128


def case_of(recipe: BuildRecipe) -> Case:
    """The requests of a recipe, from the passages that get a query.

    Raises:
        UserError: the corpus cannot be read, or a prompt is missing.
    """
    corpus = load(recipe.corpus)
    seeds = sample(corpus.passages, recipe.corpus.sample, recipe.seed)
    material = Material(corpus.passages, recipe.corpus.language, recipe.seed, _ask_nobody)
    few = seeds.slice(0, MOST_TASKS)
    tasks = list(islice(queries.query_tasks(few.to_batches(), recipe.queries, material), MOST_TASKS))
    as_text, as_json = (
        next(queries.query_tasks(few.to_batches(), _written_as(output, recipe), material)).request(0)
        for output in ("text", "json")
    )
    passage = _longest(seeds, recipe.queries.passage_chars)
    shown = queries.shown(passage["title"], passage["text"], recipe.queries.passage_chars)
    candidates = [*_query_requests(recipe, tasks[0].request(0), shown), *_negative_requests(recipe, passage)]
    stage, longest = max(candidates, key=lambda one: bytes_of(one[1].messages) / BYTES_PER_TOKEN + one[1].max_tokens)
    return Case(recipe, tasks, as_text, as_json, longest, stage, len(shown) if stage == queries.STAGE else 0)


def _longest(seeds: pa.Table, chars: int) -> dict[str, Any]:
    """The passage of which an LLM is shown most, in bytes."""
    rows: Iterator[dict[str, Any]] = (row for batch in seeds.to_batches() for row in batch.to_pylist())
    return max(rows, key=lambda row: len(queries.shown(row["title"], row["text"], chars).encode()))


def _query_requests(recipe: BuildRecipe, like: ChatRequest, shown: str) -> Iterator[tuple[str, ChatRequest]]:
    as_json = recipe.queries.output == "json"
    for name in recipe.queries.weights():
        prompt = load_prompt(in_language(name, recipe.corpus.language))
        yield queries.STAGE, msgspec.structs.replace(like, messages=prompt.messages(shown, as_json=as_json))


def _negative_requests(recipe: BuildRecipe, passage: dict[str, Any]) -> Iterator[tuple[str, ChatRequest]]:
    """A request of each kind of written negatives, with as long a query as the recipe allows."""
    prompts = [load_prompt(in_language(name, recipe.corpus.language)) for name in recipe.queries.weights()]
    most_words = max(queries.word_range(recipe.queries, prompt)[1] for prompt in prompts)
    query = " ".join(["question"] * most_words)
    if "llm" in recipe.negatives.kinds:
        yield "llm", _negative_request(recipe, recipe.negatives.llm, "llm", query)
    if "llm-with-positive" in recipe.negatives.kinds:
        config = recipe.negatives.llm_with_positive
        text = " ".join(f"{passage['title']} {passage['text']}".split())[: config.passage_chars]
        asked = f"{query}\nPassage: {text}"
        yield "llm-with-positive", _negative_request(recipe, config, "llm-with-positive", asked)


def _negative_request(recipe: BuildRecipe, config: LlmNegativesConfig, kind: str, shown: str) -> ChatRequest:
    prompt = prompt_of(config, recipe.corpus.language, kind)
    primed = None if prompt.priming is None else " ".join(["word"] * 2 * config.max_tokens)
    numbers = range(1, min(config.per_call, config.count) + 1)
    return NegativesTask(
        Ask("longest", "", shown), numbers, Writing(kind, prompt, primed, recipe.seed, config)
    ).request(0)


def _written_as(output: Literal["text", "json"], recipe: BuildRecipe) -> QueriesConfig:
    """The recipe's `[queries]` for another form of answers, with room for JSON."""
    tokens = max(recipe.queries.max_tokens, JSON_TOKENS)
    return msgspec.structs.replace(recipe.queries, output=output, max_tokens=tokens)


def _ask_nobody(stage: str, tasks: Iterable[Any], **_: Any) -> None:
    """Stands for the LLM where requests are made and not sent."""
    raise AssertionError(stage, tasks)
