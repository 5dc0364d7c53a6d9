"""`llm`: hard negatives that the LLM writes from the query's text alone; the corpus is never shown to it.

The idea is arXiv 2504.21015's first version: the LLM is told what a hard negative is and then gets the query. What it
answers is checked afterwards (`written_checks`), also against the query's own passage.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

import pyarrow as pa
from msgspec import Meta, Struct

from builders.answers import texts_of
from builders.columns import BATCH
from builders.hashing import keyed_hash
from builders.llm.messages import REFUSED, ChatAnswer, ChatRequest
from builders.negatives import written_checks
from builders.negatives.material import Material, Mined
from builders.negatives.sentences import tidy
from builders.negatives.written_checks import Manner, WrittenChecks
from builders.negatives.written_rows import WrittenRows
from builders.prompts import Prompt, answer_schema, in_language, load_prompt
from builders.texts import shingles
from foils.errors import UserError
from foils.texts import normalised

logger = logging.getLogger(__name__)


class LlmNegativesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How negatives are written.

    Attributes:
        prompt: a file of `builders/prompts/`, without its ending; one with a `priming` question has the LLM answer
            that first (`hard-negative-primed-v1`).
        count: candidates written per query.
        per_call: how many of them one request asks for; above 1 with a prompt for several, `hard-negatives-v1`.
        output: `json` asks for a JSON object, and holds the server to it where it can be held.
        attempts: how often a rejected one is asked for again, the first time included.
        temperature: sampling temperature of the first try; each further try adds 0.2, at most 1.
        max_tokens: length limit of one negative in tokens.
        stop: strings that end an answer, such as a line feed for small models that go on with an example of their own;
            each answer is then one paragraph. It is not sent for several texts a call, nor for JSON.
        min_words: shorter answers are rejected.
        checks: what else they must not be.
    """

    prompt: str = "hard-negative-v1"
    count: Annotated[int, Meta(ge=1)] = 1
    per_call: Annotated[int, Meta(ge=1)] = 1
    output: Literal["text", "json"] = "text"
    attempts: Annotated[int, Meta(ge=1)] = 3
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    max_tokens: Annotated[int, Meta(ge=1)] = 128
    stop: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    min_words: Annotated[int, Meta(ge=1)] = 8
    checks: WrittenChecks = WrittenChecks()


class Ask(NamedTuple):
    """A query that gets negatives.

    Attributes:
        query_id: its id.
        query: its text.
        shown: what the LLM is shown of it.
        positive: the passage that answers it, for the checks; part of `shown` only where the kind says so.
    """

    query_id: str
    query: str
    shown: str
    positive: str = ""


class Writing(NamedTuple):
    """How all negatives of a kind are asked for.

    Attributes:
        kind: names the negatives' ids.
        prompt: in the corpus's language.
        primed: the LLM's answer to the prompt's priming question.
        seed: the recipe's.
        config: prompt, counts and sampling.
        manner: how the corpus is written.
    """

    kind: str
    prompt: Prompt
    primed: str | None
    seed: int
    config: LlmNegativesConfig
    manner: Manner = Manner()


class NegativesTask:
    """Some negatives of one query, asked for together; those that cannot be used are asked for again.

    Attributes:
        written: negative id -> text and the call it comes from.
        rejected: negative id -> reason and text of the last try.
        kept: ids of written ones that have passed the checks across tasks (`WrittenRows`).
        query_id: of the query.
        size: how many are wanted.
        attempt: how often they have been asked for; goes on counting when one is taken back.
        place: of the first one among all queries' negatives, once the task has settled.
    """

    def __init__(self, ask: Ask, numbers: Sequence[int], writing: Writing) -> None:
        self.written: dict[str, tuple[str, str]] = {}
        self.rejected: dict[str, tuple[str, str]] = {}
        self.kept: set[str] = set()
        self.query_id = ask.query_id
        self.size = len(numbers)
        self.attempt = 0
        self.place: int | None = None
        self._ask = ask
        self._writing = writing
        self._open = [f"{ask.query_id}/{writing.kind}{number}" for number in numbers]

    def request(self, attempt: int) -> ChatRequest:
        """Asks for the negatives that are still missing, hotter each time."""
        attempt = self.attempt  # which goes on over rounds
        writing, config, count = self._writing, self._writing.config, len(self._open)
        as_json, several = config.output == "json", writing.prompt.several
        shift = _number(self._open[0]) - 1 + attempt
        shown = self._ask.shown
        return ChatRequest(
            messages=writing.prompt.messages(shown, writing.primed, count=count, as_json=as_json, shift=shift),
            max_tokens=config.max_tokens * count,
            temperature=min(config.temperature + 0.2 * attempt, 1.0),
            seed=keyed_hash(writing.seed, self._open[0], str(attempt)) % 2**31,
            stop=() if as_json or several else config.stop,
            schema=answer_schema(count) if as_json else None,
        )

    def take(self, answer: ChatAnswer) -> str | None:
        """Keeps the negatives that can be used; returns why one of them cannot."""
        self.attempt += 1
        writing, as_json = self._writing, self._writing.config.output == "json"
        texts, problem = texts_of(
            answer, len(self._open), as_json=as_json, prompt=writing.prompt, beside=self._ask.shown, passages=True
        )
        missing = [*texts, *[""] * (len(self._open) - len(texts))]
        first_reason = None
        for negative_id, raw in zip(list(self._open), missing, strict=True):
            text = tidy(written_checks.without_talk(raw, writing.manner), is_cut=answer.is_cut and len(missing) == 1)
            reason = (self._reject(text) if text else "cut") if raw else problem
            if reason is None:
                self.written[negative_id] = (text, answer.key)
                self.rejected.pop(negative_id, None)
                self._open.remove(negative_id)
            else:
                self.rejected[negative_id] = (reason, text)
                first_reason = first_reason or reason
        return first_reason

    def refused(self, detail: str) -> None:
        """The endpoint will not answer: the negatives that are still missing stay so."""
        self.attempt = self._writing.config.attempts
        self.rejected |= dict.fromkeys(self._open, (REFUSED, detail))

    def take_back(self, negative_id: str, reason: str) -> None:
        """A written negative cannot be used beside others: it is missing again."""
        text, _ = self.written.pop(negative_id)
        self.rejected[negative_id] = (reason, text)
        self._open = sorted([*self._open, negative_id], key=_number)

    @property
    def may_ask_again(self) -> bool:
        """Whether negatives are missing and another try is left."""
        return bool(self._open) and self.attempt < self._writing.config.attempts

    def _reject(self, text: str) -> str | None:
        config = self._writing.config
        reason = reject(text, self._ask.query, config.min_words)
        if reason is None and self._writing.prompt.leaks(text):
            reason = "prompt-echo"
        reason = reason or written_checks.reject(text, self._ask.positive, self._writing.manner, config.checks)
        if reason is not None:
            return reason
        others = [other for other, _ in self.written.values()]
        if normalised(text) in map(normalised, others):
            return "repeated"
        return written_checks.reject_beside(text, list(map(shingles, others)), config.checks)


def mine(queries: pa.Table, material: Material, config: LlmNegativesConfig) -> Mined:
    """Has `count` negatives written for each query (`queries.TABLE`), seeing its `text` and nothing else."""
    asks = (Ask(row["_id"], row["text"], row["text"], row["positive"]) for row in rows_of(queries, material))
    return write(asks, queries.num_rows, material, config, "llm")


def write(asks: Iterator[Ask], total: int, material: Material, config: LlmNegativesConfig, kind: str) -> Mined:
    """Has negatives written, and asks again for those that cannot be used.

    Those that fail a check across tasks (`WrittenRows`) are asked for again in a further round.

    Args:
        asks: the queries.
        total: how many they are.
        material: its corpus, its seed and its LLM.
        config: prompt, counts and sampling.
        kind: names the negatives' ids, the stage in the ledger of drops, and the account.
    """
    prompt = prompt_of(config, material.language, kind)
    manner = written_checks.manner_of(
        material.corpus.table, material.language, material.seed, config.checks, config.max_tokens
    )
    lifted = written_checks.lifted(manner, material.language, config.checks)
    if lifted:
        logger.warning("%s: negatives are not checked for what the corpus itself breaks: %s", kind, ", ".join(lifted))
    writing = Writing(kind, prompt, prime(prompt, material, config, kind), material.seed, config, manner)
    groups = [range(start, min(start + config.per_call, config.count + 1)) for start in _starts(config)]
    tasks: Iterable[NegativesTask] = (NegativesTask(ask, numbers, writing) for ask in asks for numbers in groups)
    rows: WrittenRows[NegativesTask] = WrittenRows(kind, config.checks)
    number, attempts = total * len(groups), config.attempts
    while number:
        material.converse(kind, tasks, total=number, attempts=attempts, done=rows.add)
        tasks, number, attempts, rows.again = rows.again, len(rows.again), 1, []  # each knows what tries it has left
    return rows.mined()._replace(record={"checks lifted": lifted} if lifted else {})


def prompt_of(config: LlmNegativesConfig, language: str, kind: str) -> Prompt:
    """The prompt in the corpus's language.

    Raises:
        UserError: there is none of that name, or it asks for another number of texts.
    """
    prompt = load_prompt(in_language(config.prompt, language))
    if config.per_call > 1 and not prompt.several:
        raise UserError(
            f"negatives.{kind}.per_call {config.per_call}: prompt {config.prompt!r} asks for one text an answer; set "
            f"negatives.{kind}.prompt to one for several, such as hard-negatives-v1, or per_call to 1"
        )
    return prompt


def prime(prompt: Prompt, material: Material, config: LlmNegativesConfig, kind: str) -> str | None:
    """The LLM's own answer to the prompt's priming question, asked once a kind; None without one."""
    if prompt.priming is None:
        return None
    task = _Priming(prompt.priming, 2 * config.max_tokens, keyed_hash(material.seed, "priming") % 2**31)
    material.converse(kind, [task], total=1, attempts=1, done=lambda _: None)
    if not task.text:
        logger.warning("%s: no usable answer to the priming question (%s); it is left out", kind, task.problem)
    return task.text or None


class _Priming:
    """The priming question."""

    def __init__(self, question: str, max_tokens: int, seed: int) -> None:
        self._request = ChatRequest(({"role": "user", "content": question},), max_tokens, 0.0, seed)
        self.text = ""
        self.problem: str | None = None

    def request(self, attempt: int) -> ChatRequest:  # noqa: ARG002
        return self._request

    def take(self, answer: ChatAnswer) -> str | None:
        texts, self.problem = texts_of(answer, 1, as_json=False, passages=True)
        self.text = " ".join(" ".join(texts).split())
        return self.problem

    def refused(self, detail: str) -> None:
        raise UserError(f"the LLM endpoint refuses the priming question: {detail}; take a prompt without one")


def _starts(config: LlmNegativesConfig) -> range:
    return range(1, config.count + 1, config.per_call)


def rows_of(queries: pa.Table, material: Material) -> Iterator[dict[str, str]]:
    """Queries (`queries.TABLE`) and the `positive` of each as models read it, a thousand at once in memory."""
    corpus, at = material.corpus, 0
    positions = corpus.positions(queries["corpus-id"])
    for batch in queries.to_batches(max_chunksize=BATCH):
        positives = corpus.texts(positions[at : at + batch.num_rows]).to_pylist()
        at += batch.num_rows
        for row, positive in zip(batch.to_pylist(), positives, strict=True):
            yield row | {"positive": positive}


def reject(text: str, query: str, min_words: int) -> str | None:
    """The reason why a written negative cannot be used, or None.

    >>> reject("Lists.", "what is a list?", 4)
    'too-short'
    """
    if not text:
        return "empty"
    if len(text.split()) < min_words:
        return "too-short"
    if normalised(text).rstrip(".?! ") == normalised(query).rstrip(".?! "):
        return "query-echo"
    return None


def _number(negative_id: str) -> int:
    digits = re.search(r"\d+$", negative_id)
    return int(digits[0]) if digits else 0
