"""The LLM as a judge: one call a pair, answered with one word; no call is paid twice, since all are stored.

An answer that is neither yes nor no is asked for again, and then counts as no verdict: never as either. Where the LLM
must quote the words that answer the query, a quote that is not in the passage counts as no.
"""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Meta, Struct
from msgspec.structs import replace

from builders import schema
from builders.answers import SHORTENED, bare_of, objects_in, plain, problem_of, texts_of
from builders.context import Context
from builders.hashing import keyed_hash
from builders.llm.messages import ChatAnswer, ChatRequest
from builders.meta_talk import refusals
from builders.passages import Passages
from builders.prompts import Prompt, in_language, load_prompt
from builders.scores.pairs import Pairs, locate
from builders.wrapping import is_lead_in
from foils.texts import is_quote

STAGE, EXAM_STAGE = "llm-judge", "exam-judge"
"""The stages that judge candidates, and hits for an exam's queries: each has a bill of its own."""
BATCH = 500
NO_VERDICT = "no-verdict"
QUOTING, QUOTE_TOKENS = "relevance-judge-quote-v1", 128
"""The prompt that asks for no, or for yes with a quote, and the room that this takes."""
_VERDICT = re.compile(r"\W*(yes|no)(?=\W*\Z|\s*[.,;:!(\u2013\u2014-])", re.IGNORECASE)
_OPENS, _CLOSES = '"\u201c\u201d\u201e\u00ab\u300c', '"\u201c\u201d\u00bb\u300d'
_QUOTED = re.compile(
    rf"\W*(?:(?:answer|verdict)\W+)?(yes|no)(?=\W*\Z|\s*[.,;:!(\u2013\u2014*<'{_OPENS}-]|\s*\n)"
    rf"[^\w{_OPENS}]*(?:quote\s*:)?(.*)",
    re.IGNORECASE | re.DOTALL,
)
_MARKED = tuple(re.compile(f"[{_OPENS}](.{times})[{_CLOSES}]", re.DOTALL) for times in ("+", "+?"))


class LlmJudgeConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How the LLM is asked.

    Attributes:
        prompt: a file of `builders/prompts/`, without its ending, that asks for yes or no; with
            `relevance-judge-quote-v1` a yes must quote the words that answer the query, and these are looked up.
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


def quoting(config: LlmJudgeConfig) -> LlmJudgeConfig:
    """The same for a prompt that asks for a quote, which takes more tokens."""
    return replace(config, prompt=QUOTING, max_tokens=max(config.max_tokens, QUOTE_TOKENS))


def rule_of(config: LlmJudgeConfig) -> str:
    """When a judge that quotes calls a passage relevant, in words."""
    return f"it answers yes to the prompt {config.prompt}, and its quote is in the passage"


class How(NamedTuple):
    """How all pairs are asked about."""

    prompt: Prompt
    seed: int
    config: LlmJudgeConfig

    @property
    def quotes(self) -> bool:
        """Whether the LLM must quote the words that answer the query."""
        return self.config.prompt == QUOTING


class JudgeTask:
    """A pair that is judged.

    Attributes:
        place: its row.
        verdict: 1.0 relevant, 0.0 not relevant, None without a verdict.
        quote: the words that it was asked to quote, also those that are not in the passage; empty without any.
    """

    def __init__(self, place: int, query: str, passage: str, how: How) -> None:
        self.place = place
        self.verdict: float | None = None
        self.quote = ""
        self._stops = True
        self._how = how
        # On one line each, so that no passage can go on as another query.
        self._read = " ".join(passage.split())[: how.config.passage_chars]
        self._shown = f"Query: {' '.join(query.split())}\nPassage: {self._read}"

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
        """Reads the verdict, and the quote where one is asked for."""
        if self._how.quotes:
            texts, problem = [plain(answer.text)], problem_of(answer)
            self.verdict, self.quote = quoted_in(texts[0], self._read)
        else:
            texts, problem = texts_of(answer, 1)
            self.verdict = verdict_in(texts[0]) if texts else None
        may_be_cut = self._how.quotes or problem in SHORTENED or (texts and is_lead_in(texts[0]))
        self._stops = self._stops and not may_be_cut
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


def quoted_in(text: str, passage: str) -> tuple[float | None, str]:
    """Returns 1.0 with the words that an answer quotes, 0.0 for no or for words that the passage does not have.

    None for what is neither, and for a yes without a quote, or with one that says too little.

    >>> [quoted_in(text, "Owls hunt at night.") for text in ('yes: "hunt at night"', "No.", "yes: owls", "hm")]
    [(1.0, 'hunt at night'), (0.0, ''), (None, ''), (None, '')]
    >>> quoted_in('Yes: "owls hunt by day"', "Owls hunt at night.")
    (0.0, 'owls hunt by day')
    """
    for each in objects_in(text):  # some answer in JSON, whatever they are asked for
        verdict = next((value for value in each.values() if verdict_in(value) is not None), None)
        if verdict is not None:
            others = [value for value in each.values() if value is not verdict]
            quote = next((value for key, value in each.items() if "quot" in key.lower()), *others[:1] or [""])
            return _of_quote(verdict_in(verdict), [quote] if quote else [], passage)
    found = _QUOTED.match(bare_of(text))
    if found is None or (found[1].lower() == "no" and refusals("en").used_in(found[2])):
        return None, ""
    if found[1].lower() == "no":
        return 0.0, ""
    quotes = [marked[1] for marks in _MARKED if (marked := marks.search(found[2]))]
    if not quotes:  # what has no marks may be a remark
        rest = found[2].strip().partition("\n")[0].strip(f" \t*_'<>\u2013\u2014-{_OPENS}")
        return (1.0, rest) if is_quote(rest, passage) else (None, "")
    return _of_quote(1.0, quotes, passage)


def _of_quote(verdict: float | None, quotes: Sequence[str], passage: str) -> tuple[float | None, str]:
    """A verdict by readings of a quote; none of a yes without one, or with one that says too little."""
    if verdict == 0.0 or not quotes:
        return (0.0, "") if verdict == 0.0 else (None, "")
    quote = next((each for each in quotes if is_quote(each, passage)), quotes[-1])
    stands = is_quote(quote, passage)
    return (None, "") if stands is None else (float(stands), quote)


def judge(
    located: Pairs, context: Context, config: LlmJudgeConfig, stage: str = STAGE
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Returns the LLM's verdicts on pairs, 1 (relevant), 0 (not) or NaN (none), and what it quoted of each passage.

    Raises:
        UserError: the prompt does not exist, or the endpoint fails.
    """
    how = How(load_prompt(in_language(config.prompt, context.language)), context.seed, config)
    verdicts, quoted = np.full(len(located), np.nan), [""] * len(located)

    def done(task: JudgeTask) -> None:
        quoted[task.place] = task.quote
        if task.verdict is not None:
            verdicts[task.place] = task.verdict

    texts = (pair for block in located.blocks(BATCH) for pair in block.texts())
    tasks = (JudgeTask(place, query, passage, how) for place, (query, passage) in enumerate(texts))
    context.converse(stage, tasks, total=len(located), attempts=config.attempts, done=done)
    return verdicts, quoted


def score(pairs: pa.Table, queries: pa.Table, passages: Passages, context: Context, config: LlmJudgeConfig) -> pa.Table:
    """Has the LLM judge pairs: a scorer of `builders.mining.SCORERS`.

    Scores are 1 (relevant), 0 (not) or null (no verdict).

    Raises:
        UserError: as `judge`, or a pair names what is not there.
    """
    settings = quoting(config) if config.prompt == QUOTING else config  # a quote takes more room
    verdicts, _ = judge(locate(pairs, queries, passages), context, settings)
    scores = pa.array(verdicts, pa.float64(), from_pandas=True)
    return pa.table([pairs["query-id"], pairs["corpus-id"], scores], schema=schema.SCORES)
