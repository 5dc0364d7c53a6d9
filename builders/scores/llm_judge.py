"""The LLM as a judge: one call a pair, answered with one word; no call is paid twice, since all are stored.

An answer that is neither yes nor no is asked for again, and then counts as no verdict: never as either.
"""

import re
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from msgspec import Meta, Struct

from builders import schema
from builders.answers import SHORTENED, texts_of
from builders.context import Context
from builders.hashing import keyed_hash
from builders.llm.messages import ChatAnswer, ChatRequest
from builders.passages import Passages
from builders.prompts import Prompt, in_language, load_prompt
from builders.scores.pairs import locate
from builders.wrapping import is_lead_in

STAGE = "llm-judge"
BATCH = 500
NO_VERDICT = "no-verdict"
_VERDICT = re.compile(r"\W*(yes|no)(?=\W*\Z|\s*[.,;:!(\u2013\u2014-])", re.IGNORECASE)


class LlmJudgeConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How the LLM is asked.

    Attributes:
        prompt: a file of `builders/prompts/`, without its ending, that asks for yes or no.
        attempts: how often a pair is asked about, the first time included, while there is no verdict.
        temperature: sampling temperature of the first try; each further try adds 0.3, at most 1.
        max_tokens: length limit of an answer in tokens; more for models that think aloud.
        passage_chars: how much of a passage the LLM sees, in characters.
    """

    prompt: str = "relevance-judge-v1"
    attempts: Annotated[int, Meta(ge=1)] = 2
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, Meta(ge=1)] = 16
    passage_chars: Annotated[int, Meta(ge=1)] = 2000


class How(NamedTuple):
    """How all pairs are asked about."""

    prompt: Prompt
    seed: int
    config: LlmJudgeConfig


class JudgeTask:
    """A pair that is judged.

    Attributes:
        place: its row.
        verdict: 1.0 relevant, 0.0 not relevant, None without a verdict.
    """

    def __init__(self, place: int, query: str, passage: str, how: How) -> None:
        self.place = place
        self.verdict: float | None = None
        self._stops = True
        self._how = how
        # On one line each, so that no passage can go on as another query.
        read = " ".join(passage.split())[: how.config.passage_chars]
        self._shown = f"Query: {' '.join(query.split())}\nPassage: {read}"

    def request(self, attempt: int) -> ChatRequest:
        """Asks for one word; the seed is the same for all pairs, so that equal texts are judged once."""
        prompt, seed, config = self._how
        return ChatRequest(
            messages=prompt.messages(self._shown, shift=attempt),
            max_tokens=config.max_tokens,
            temperature=max(config.temperature, min(config.temperature + 0.3 * attempt, 1.0)),
            seed=keyed_hash(seed, STAGE, str(attempt)) % 2**31,
            stop=("\n",) if self._stops else (),
        )

    def take(self, answer: ChatAnswer) -> str | None:
        """Reads the verdict."""
        texts, problem = texts_of(answer, 1)
        self.verdict = verdict_in(texts[0]) if texts else None
        self._stops = self._stops and not (problem in SHORTENED or (texts and is_lead_in(texts[0])))
        return None if self.verdict is not None else problem or NO_VERDICT

    def refused(self, detail: str) -> None:
        """The endpoint will not answer: there is no verdict."""


def verdict_in(text: str) -> float | None:
    """Returns 1.0 for yes, 0.0 for no, None for what is neither.

    >>> [verdict_in(text) for text in ("Yes.", '"no"', "No, it is about rye.", "No doubt it is.", "yes and no", "7")]
    [1.0, 0.0, 0.0, None, None, None]
    """
    found = _VERDICT.match(text)
    return float(found[1].lower() == "yes") if found else None


def score(pairs: pa.Table, queries: pa.Table, passages: Passages, context: Context, config: LlmJudgeConfig) -> pa.Table:
    """Has the LLM judge pairs: a scorer of `builders.mining.SCORERS`.

    Scores are 1 (relevant), 0 (not) or null (no verdict).

    Raises:
        UserError: the prompt does not exist, a pair names what is not there, or the endpoint fails.
    """
    how = How(load_prompt(in_language(config.prompt, context.language)), context.seed, config)
    located = locate(pairs, queries, passages)
    verdicts = np.full(len(located), np.nan)

    def done(task: JudgeTask) -> None:
        if task.verdict is not None:
            verdicts[task.place] = task.verdict

    texts = (pair for block in located.blocks(BATCH) for pair in block.texts())
    tasks = (JudgeTask(place, query, passage, how) for place, (query, passage) in enumerate(texts))
    context.converse(STAGE, tasks, total=len(located), attempts=config.attempts, done=done)
    scores = pa.array(verdicts, pa.float64(), from_pandas=True)
    return pa.table([pairs["query-id"], pairs["corpus-id"], scores], schema=schema.SCORES)
