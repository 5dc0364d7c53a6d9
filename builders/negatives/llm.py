"""`llm`: hard negatives that the LLM writes from the query's text alone; the corpus is never shown to it.

The idea is arXiv 2504.21015's first version: the LLM is told what a hard negative is and then gets the query.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

import pyarrow as pa
from msgspec import Meta, Struct

from builders import schema
from builders.answers import texts_of
from builders.columns import BATCH, Columns
from builders.corpus import keyed_hash
from builders.llm.chat import REFUSED, ChatAnswer, ChatRequest
from builders.negatives.material import Material, Mined
from builders.prompts import Prompt, answer_schema, in_language, load_prompt
from cards.errors import UserError


class LlmNegativesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How negatives are written.

    Attributes:
        prompt: a file of `builders/prompts/`, without its ending; one with a `priming` question has the LLM answer
            that first (`hard-negative-primed-v1`).
        count: candidates written per query.
        per_call: how many of them one request asks for; above 1 with a prompt for several, `hard-negatives-v1`.
        output: `json` asks for a JSON object, and holds the server to it where `llm.server` has a way.
        attempts: how often a rejected one is asked for again, the first time included.
        temperature: sampling temperature of the first try; each further try adds 0.2, at most 1.
        max_tokens: length limit of one negative in tokens.
        min_words: shorter answers are rejected.
    """

    prompt: str = "hard-negative-v1"
    count: Annotated[int, Meta(ge=1)] = 1
    per_call: Annotated[int, Meta(ge=1)] = 1
    output: Literal["text", "json"] = "text"
    attempts: Annotated[int, Meta(ge=1)] = 3
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    max_tokens: Annotated[int, Meta(ge=1)] = 128
    min_words: Annotated[int, Meta(ge=1)] = 8


class Ask(NamedTuple):
    """A query that gets negatives: its id, its text, and what the LLM is shown of it."""

    query_id: str
    query: str
    shown: str


class Writing(NamedTuple):
    """How all negatives of a kind are asked for.

    Attributes:
        kind: names the negatives' ids.
        prompt: in the corpus's language.
        primed: the LLM's answer to the prompt's priming question.
        seed: the recipe's.
        config: prompt, counts and sampling.
    """

    kind: str
    prompt: Prompt
    primed: str | None
    seed: int
    config: LlmNegativesConfig


class NegativesTask:
    """Some negatives of one query, asked for together; those that cannot be used are asked for again.

    Attributes:
        written: negative id -> text and the call it comes from.
        rejected: negative id -> reason and text of the last try.
    """

    def __init__(self, ask: Ask, numbers: Sequence[int], writing: Writing) -> None:
        self.written: dict[str, tuple[str, str]] = {}
        self.rejected: dict[str, tuple[str, str]] = {}
        self.query_id = ask.query_id
        self._ask = ask
        self._writing = writing
        self._open = [f"{ask.query_id}/{writing.kind}{number}" for number in numbers]

    def request(self, attempt: int) -> ChatRequest:
        """Asks for the negatives that are still missing, hotter each time."""
        writing, config, count = self._writing, self._writing.config, len(self._open)
        as_json, several = config.output == "json", writing.prompt.several
        shift = _number(self._open[0]) - 1 + attempt
        shown = self._ask.shown
        return ChatRequest(
            messages=writing.prompt.messages(shown, writing.primed, count=count, as_json=as_json, shift=shift),
            max_tokens=config.max_tokens * count,
            temperature=min(config.temperature + 0.2 * attempt, 1.0),
            seed=keyed_hash(writing.seed, self._open[0], str(attempt)) % 2**31,
            stop=() if as_json or several else ("\n",),
            schema=answer_schema(count) if as_json else None,
        )

    def take(self, answer: ChatAnswer) -> str | None:
        """Keeps the negatives that can be used; returns why one of them cannot."""
        config = self._writing.config
        texts, problem = texts_of(answer, len(self._open), as_json=config.output == "json")
        missing = [*texts, *[""] * (len(self._open) - len(texts))]
        first_reason = None
        for negative_id, raw in zip(list(self._open), missing, strict=True):
            text = tidy(raw, is_cut=answer.is_cut and len(missing) == 1)
            reason = self._reject(text) if raw else problem
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
        self.rejected |= dict.fromkeys(self._open, (REFUSED, detail))

    def _reject(self, text: str) -> str | None:
        reason = reject(text, self._ask.query, self._writing.config.min_words)
        if reason is None and self._writing.prompt.leaks(text):
            return "prompt-echo"
        taken = (schema.normalised(other) for other, _ in self.written.values())
        return "repeated" if reason is None and schema.normalised(text) in taken else reason


def mine(queries: pa.Table, material: Material, config: LlmNegativesConfig) -> Mined:
    """Has `count` negatives written for each query (`queries.TABLE`), seeing its `text` and nothing else."""
    asks = (Ask(row["_id"], row["text"], row["text"]) for row in rows_of(queries))
    return write(asks, queries.num_rows, material, config, "llm")


def write(asks: Iterator[Ask], total: int, material: Material, config: LlmNegativesConfig, kind: str) -> Mined:
    """Has negatives written, and asks again for those that cannot be used.

    Args:
        asks: the queries.
        total: how many they are.
        material: its seed and its LLM.
        config: prompt, counts and sampling.
        kind: names the negatives' ids, the stage in the ledger of drops, and the account.
    """
    prompt = prompt_of(config, material.language, kind)
    writing = Writing(kind, prompt, prime(prompt, material, config, kind), material.seed, config)
    groups = [range(start, min(start + config.per_call, config.count + 1)) for start in _starts(config)]
    tasks = (NegativesTask(ask, numbers, writing) for ask in asks for numbers in groups)
    rows = _Rows(kind)
    total *= len(groups)
    material.converse(kind, tasks, total=total, attempts=config.attempts, done=rows.add)
    return rows.mined()


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
    return task.text or None


class _Priming:
    """The priming question."""

    def __init__(self, question: str, max_tokens: int, seed: int) -> None:
        self._request = ChatRequest(({"role": "user", "content": question},), max_tokens, 0.0, seed)
        self.text = ""

    def request(self, attempt: int) -> ChatRequest:  # noqa: ARG002
        return self._request

    def take(self, answer: ChatAnswer) -> str | None:
        self.text = " ".join(answer.text.split())
        return None

    def refused(self, detail: str) -> None:
        raise UserError(f"the LLM endpoint refuses the priming question: {detail}; take a prompt without one")


def _starts(config: LlmNegativesConfig) -> range:
    return range(1, config.count + 1, config.per_call)


def rows_of(table: pa.Table) -> Iterator[dict[str, str]]:
    """A table's rows, a thousand at once in memory."""
    for batch in table.to_batches(max_chunksize=BATCH):
        yield from batch.to_pylist()


def tidy(text: str, *, is_cut: bool) -> str:
    """The passage in an answer: its first line, up to where it was cut or began to repeat itself."""
    line = next((line.strip() for line in text.strip().splitlines() if line.strip()), "")
    sentences = re.split(r"(?<=[.!?])\s+", line)
    if is_cut and not sentences[-1].endswith((".", "!", "?")):
        sentences.pop()
    return up_to_repetition(sentences)


def up_to_repetition(sentences: Sequence[str]) -> str:
    """Joins sentences until one occurs again: small models loop, and the text before the loop is as good as any.

    >>> up_to_repetition(["A list holds items.", "It grows.", "A list holds items.", "It grows."])
    'A list holds items. It grows.'
    """
    seen: set[str] = set()
    for count, sentence in enumerate(sentences):
        folded = schema.normalised(sentence)
        if folded in seen:
            return " ".join(sentences[:count])
        seen.add(folded)
    return " ".join(sentences)


def reject(text: str, query: str, min_words: int) -> str | None:
    """The reason why a written negative cannot be used, or None.

    >>> reject("Lists.", "what is a list?", 4)
    'too-short'
    """
    if not text:
        return "empty"
    if len(text.split()) < min_words:
        return "too-short"
    if schema.normalised(text).rstrip(".?! ") == schema.normalised(query).rstrip(".?! "):
        return "query-echo"
    return None


class _Rows:
    """Collects what tasks bring, query by query, as Arrow columns: a hundred thousand texts are no dicts."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._generated = Columns(schema.GENERATED)
        self._candidates = Columns(schema.CANDIDATES)
        self._drops = Columns(schema.DROPS)
        self._query_id = ""
        self._rank = 0

    def add(self, task: NegativesTask) -> None:
        """Takes a settled task; those of one query come one after the other."""
        if task.query_id != self._query_id:
            self._query_id, self._rank = task.query_id, 0
        for negative_id, (text, call_key) in sorted(task.written.items(), key=lambda item: _number(item[0])):
            self._rank += 1
            self._generated.add(negative_id, text, task.query_id, call_key)
            self._candidates.add(task.query_id, negative_id, self._rank, None)
        for negative_id, (reason, text) in task.rejected.items():
            self._drops.add(self._kind, negative_id, reason, text)

    def mined(self) -> Mined:
        """All of it."""
        return Mined(self._candidates.table(), self._generated.table(), self._drops.table())


def _number(negative_id: str) -> int:
    digits = re.search(r"\d+$", negative_id)
    return int(digits[0]) if digits else 0
