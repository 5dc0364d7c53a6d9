"""What a recipe will ask of its LLM: its first requests, and the largest that it can make."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Literal, TypeVar

import msgspec
import pyarrow as pa

from builders import labelled, queries
from builders.corpus import load, sample
from builders.doctor.visit import Case
from builders.llm.chat import ChatRequest, Task
from builders.llm.ledger import BYTES_PER_TOKEN, bytes_of
from builders.negatives import config_of
from builders.negatives.llm import Ask, LlmNegativesConfig, NegativesTask, Writing, prompt_of, rows_of
from builders.negatives.llm_with_positive import shown
from builders.negatives.material import Material
from builders.prompts import in_language, load_prompt
from builders.recipe import LLM_JUDGE, WRITTEN, BuildRecipe, QueriesConfig
from builders.scores.llm_judge import How, JudgeTask, LlmJudgeConfig

ConfigT = TypeVar("ConfigT", QueriesConfig, LlmNegativesConfig, LlmJudgeConfig)

MOST_TASKS = 160
JSON_TOKENS = 128


def case_of(recipe: BuildRecipe) -> Case:
    """The requests of a recipe, from the passages that get a query, or from the queries that are given.

    Raises:
        UserError: the corpus or the queries cannot be read, or a prompt is missing.
    """
    corpus = load(recipe.corpus)
    material = Material(corpus.passages, recipe.corpus.language, recipe.seed, _ask_nobody)
    if recipe.queries.source is not None:
        return _labelled_case(recipe, labelled.read(recipe.queries, corpus, recipe.seed).queries, material)
    seeds = sample(corpus.passages, recipe.corpus.sample, recipe.seed)
    few = seeds.slice(0, MOST_TASKS)
    tasks = list(islice(queries.query_tasks(few.to_batches(), recipe.queries, material), MOST_TASKS))
    requests = [task.request(0) for task in tasks]
    as_text, as_json = (
        next(queries.query_tasks(few.to_batches(), _written_as(recipe.queries, output), material)).request(0)
        for output in ("text", "json")
    )
    passage = _longest(seeds, recipe.queries.passage_chars)
    seen = queries.shown(passage["title"], passage["text"], recipe.queries.passage_chars)
    prompts = [load_prompt(in_language(name, recipe.corpus.language)) for name in recipe.queries.weights()]
    query = " ".join(["question"] * max(queries.word_range(recipe.queries, prompt)[1] for prompt in prompts))
    candidates = [*_query_requests(recipe, requests[0], seen), *_negative_requests(recipe, passage, query)]
    stage, longest = max(candidates, key=_size)
    asking = (queries.STAGE, recipe.queries)
    length = len(seen) if stage == queries.STAGE else 0
    return Case(recipe, tasks, requests, *asking, as_text, as_json, longest, stage, length)


def _labelled_case(recipe: BuildRecipe, given: pa.Table, material: Material) -> Case:
    """The requests of a build whose queries are given: for negatives, or for verdicts where none is written."""
    kind = next((kind for kind in recipe.negatives.kinds if kind in WRITTEN), LLM_JUDGE)
    asking = config_of(recipe.negatives, kind)
    rows = list(rows_of(given.slice(0, MOST_TASKS), material))
    tasks = [_task(recipe, kind, row, asking) for row in rows]
    as_text, as_json = (
        _task(recipe, kind, rows[0], _written_as(asking, output)).request(0) for output in ("text", "json")
    )
    query = max(given["text"].to_pylist(), key=lambda text: len(text.encode()))
    passage = _longest(material.passages, recipe.negatives.llm_judge.passage_chars)
    candidates = list(_negative_requests(recipe, passage, query))
    if LLM_JUDGE in recipe.scorers:
        row = {"_id": "longest", "text": query, "positive": f"{passage['title']} {passage['text']}"}
        candidates.append((LLM_JUDGE, _task(recipe, LLM_JUDGE, row, recipe.negatives.llm_judge).request(0)))
    stage, longest = max(candidates, key=_size)
    requests = [task.request(0) for task in tasks]
    return Case(recipe, tasks, requests, f"negatives.{kind}", asking, as_text, as_json, longest, stage, 0)


def _task(recipe: BuildRecipe, kind: str, row: dict[str, str], asking: Any) -> Task:
    """The first task of a labelled query."""
    language = recipe.corpus.language
    if kind == LLM_JUDGE:
        how = How(load_prompt(in_language(asking.prompt, language)), recipe.seed, asking)
        return JudgeTask(0, row["text"], row["positive"], how)
    seen = shown(row["text"], row["positive"], asking) if kind == "llm-with-positive" else row["text"]
    writing = Writing(kind, prompt_of(asking, language, kind), None, recipe.seed, asking)
    numbers = range(1, min(asking.per_call, asking.count) + 1)
    return NegativesTask(Ask(row["_id"], row["text"], seen, row["positive"]), numbers, writing)


def _size(candidate: tuple[str, ChatRequest]) -> float:
    """About how many tokens a request and its answer are."""
    return bytes_of(candidate[1].messages) / BYTES_PER_TOKEN + candidate[1].max_tokens


def _longest(seeds: pa.Table, chars: int) -> dict[str, Any]:
    """The passage of which an LLM is shown most, in bytes."""
    rows: Iterator[dict[str, Any]] = (row for batch in seeds.to_batches() for row in batch.to_pylist())
    return max(rows, key=lambda row: len(queries.shown(row["title"], row["text"], chars).encode()))


def _query_requests(recipe: BuildRecipe, like: ChatRequest, seen: str) -> Iterator[tuple[str, ChatRequest]]:
    as_json = recipe.queries.output == "json"
    for name in recipe.queries.weights():
        prompt = load_prompt(in_language(name, recipe.corpus.language))
        yield queries.STAGE, msgspec.structs.replace(like, messages=prompt.messages(seen, as_json=as_json))


def _negative_requests(recipe: BuildRecipe, passage: dict[str, Any], query: str) -> Iterator[tuple[str, ChatRequest]]:
    """A request of each kind of written negatives, with as long a query as the build may have."""
    if "llm" in recipe.negatives.kinds:
        yield "llm", _negative_request(recipe, recipe.negatives.llm, "llm", query)
    if "llm-with-positive" in recipe.negatives.kinds:
        config = recipe.negatives.llm_with_positive
        asked = shown(query, f"{passage['title']} {passage['text']}", config)
        yield "llm-with-positive", _negative_request(recipe, config, "llm-with-positive", asked)


def _negative_request(recipe: BuildRecipe, config: LlmNegativesConfig, kind: str, seen: str) -> ChatRequest:
    prompt = prompt_of(config, recipe.corpus.language, kind)
    primed = None if prompt.priming is None else " ".join(["word"] * 2 * config.max_tokens)
    numbers = range(1, min(config.per_call, config.count) + 1)
    return NegativesTask(Ask("longest", "", seen), numbers, Writing(kind, prompt, primed, recipe.seed, config)).request(
        0
    )


def _written_as(asking: ConfigT, output: Literal["text", "json"]) -> ConfigT:
    """The settings for another form of answers, with room for JSON."""
    tokens = max(asking.max_tokens, JSON_TOKENS)
    return msgspec.structs.replace(asking, output=output, max_tokens=tokens)


def _ask_nobody(stage: str, tasks: Iterable[Any], **_: Any) -> None:
    """Stands for the LLM where requests are made and not sent."""
    raise AssertionError(stage, tasks)
