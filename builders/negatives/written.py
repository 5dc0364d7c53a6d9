"""Negatives that the LLM writes: how they are asked for, and what is made of the answers."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from builders import schema
from builders.answers import texts_of
from builders.context import Context
from builders.hashing import keyed_hash
from builders.llm.messages import REFUSED, ChatAnswer, ChatRequest
from builders.negatives import Mined, written_checks
from builders.negatives.counterfactual import asked_for, in_parts, room_for, usual_length
from builders.negatives.priming import primed_by
from builders.negatives.sentences import tidy
from builders.negatives.written_checks import MAX_REPEATS, Style, are_copies, style_of, without_talk
from builders.prompts import UNSPACED, Prompt, prompt_in
from builders.rounds import Settled, in_rounds
from builders.spool import BATCH
from builders.texts import Shingles, shingles
from foils.errors import UserError
from foils.languages import length
from foils.texts import normalised, passage_text

logger = logging.getLogger(__name__)


class LlmNegativesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How negatives are written.

    Attributes:
        prompt: a file of `builders/prompts/`, without its ending; one with a `priming` question has the LLM answer
            that first (`hard-negative-primed-v1`).
        count: candidates written per query.
        per_call: how many of them one request asks for; above 1 with a prompt for several, `hard-negatives-v1`.
        attempts: how often a negative is asked for until an answer is accepted.
        temperature: sampling temperature of the first try; each further try adds 0.2, at most 1.
        max_tokens: length limit of one negative in tokens; a whole passage has room for its length in any case.
        length: the fewest and the most words of a passage, for prompts that ask for whole ones (`counterfactual-v1`);
            without it, those of the middle half of the corpus's passages, 300 at most.
        style: what a whole passage reads like, such as `the abstract of a scientific paper`.
        stop: strings that end an answer, such as a line feed for small models that go on with an example of their own;
            each answer is then one paragraph. It is not sent for several texts a call, or for whole passages.
        min_words: shorter answers are rejected; characters count where no spaces stand between words.
    """

    prompt: str = "hard-negative-v1"
    count: Annotated[int, Meta(ge=1)] = 1
    per_call: Annotated[int, Meta(ge=1)] = 1
    attempts: Annotated[int, Meta(ge=1)] = 3
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    max_tokens: Annotated[int, Meta(ge=1)] = 128
    length: tuple[int, int] | UnsetType = UNSET
    style: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    stop: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    min_words: Annotated[int, Meta(ge=1)] = 8

    def __post_init__(self) -> None:
        """Refuses a length that no passage can have."""
        if self.length and not 1 <= self.length[0] <= self.length[1]:
            raise ValueError(f"length {list(self.length)}; wanted the fewest and the most words, such as [80, 160]")

    def shown(self, query: str, positive: str) -> str:  # noqa: ARG002 - `llm-with-positive` shows it
        """What the LLM sees of a query and the passage that answers it."""
        return query


@dataclass(frozen=True)
class Ask:
    """A query that gets negatives. All its tasks share it.

    Attributes:
        query_id: its id.
        query: its text.
        positive: the passage that answers it, as models read it.
        kept: shingles of its negatives that have passed all checks.
    """

    query_id: str
    query: str
    positive: str = ""
    kept: list[Shingles] = field(default_factory=list)


def asks_of(queries: pa.Table, context: Context) -> Iterator[Ask]:
    """Queries (`queries.TABLE`) with their positives, a thousand at once in memory."""
    corpus, at = context.corpus, 0
    positions = corpus.positions(queries["corpus-id"])
    for batch in queries.to_batches(max_chunksize=BATCH):
        positives = corpus.texts(positions[at : at + batch.num_rows]).to_pylist()
        at += batch.num_rows
        yield from map(Ask, batch["_id"].to_pylist(), batch["text"].to_pylist(), positives)


class Writing(NamedTuple):
    """How all negatives of a kind are asked for.

    Attributes:
        kind: names the negatives' ids.
        prompt: in the corpus's language.
        primed: the LLM's answer to the prompt's priming question.
        seed: the recipe's.
        config: prompt, counts and sampling.
        style: how the corpus is written.
    """

    kind: str
    prompt: Prompt
    primed: str | None
    seed: int
    config: LlmNegativesConfig
    style: Style = Style()


class NegativesTask:
    """Some negatives of one query, asked for together; those that cannot be used are asked for again.

    Attributes:
        query_id: of the query.
        attempt: how often they have been asked for, over all rounds.
    """

    def __init__(self, ask: Ask, numbers: Sequence[int], writing: Writing) -> None:
        self.query_id = ask.query_id
        self.attempt = 0
        self._ask = ask
        self._shown = writing.config.shown(ask.query, ask.positive)
        self._numbers = numbers
        self._writing = writing
        self._written: dict[int, tuple[str, str, str | None]] = {}  # number -> text, key of its call, what it breaks
        self._rejected: dict[int, tuple[str, str]] = {}  # number -> reason and text of the last try
        self._kept: set[int] = set()

    @property
    def missing(self) -> list[int]:
        """The numbers of the negatives that are still to be written."""
        return [number for number in self._numbers if number not in self._written]

    def request(self, attempt: int) -> ChatRequest:
        """Asks for the negatives that are still missing, hotter each time."""
        writing, config, missing, attempt = self._writing, self._writing.config, self.missing, self.attempt
        count, shift = len(missing), missing[0] - 1 + attempt
        return ChatRequest(
            writing.prompt.messages(self._shown, writing.primed, count=count, shift=shift),
            max_tokens=config.max_tokens * count,
            temperature=min(config.temperature + 0.2 * attempt, 1.0),
            seed=keyed_hash(writing.seed, self._id(missing[0]), str(attempt)) % 2**31,
            stop=() if writing.prompt.several or writing.prompt.parts else config.stop,
        )

    def take(self, answer: ChatAnswer) -> str | None:
        """Keeps the negatives that can be used; returns why the first of the others cannot."""
        self.attempt += 1
        writing, wanted, title, broken = self._writing, self.missing, "", None
        if writing.prompt.parts is not None and answer.text.strip():
            found = in_parts(answer, writing.prompt.parts)
            if isinstance(found, str):
                self._rejected[wanted[0]] = ("cut" if answer.is_cut else found, answer.text)
                return self._rejected[wanted[0]][0]
            answer, title, broken = found
            title = title if writing.style.titled else ""
        texts, problem = texts_of(answer, len(wanted), prompt=writing.prompt, source=self._shown, passages=True)
        for number, raw in zip(wanted, [*texts, *[""] * (len(wanted) - len(texts))], strict=True):
            body = tidy(without_talk(raw, writing.style), is_cut=answer.is_cut and len(wanted) == 1)
            text = passage_text(title, body) if body else ""
            reason = (self._reject(text) if text else "cut") if raw else problem
            if reason is None:
                self._written[number] = (text, answer.key, broken)
                self._rejected.pop(number, None)
            else:
                self._rejected[number] = (reason, text)
        return next((self._rejected[number][0] for number in self.missing), None)

    def refused(self, detail: str) -> None:
        """The endpoint will not answer: the negatives that are still missing stay so."""
        self.attempt = self._writing.config.attempts
        self._rejected |= dict.fromkeys(self.missing, (REFUSED, detail))

    def settle(self, stock: Counter[int]) -> Settled | None:
        """The rows of the task, or None while negatives are missing and an attempt is left.

        A negative is missing again if it is nearly another one of its query, or a stock answer: the text that
        `MAX_REPEATS` queries have already (`stock`).
        """
        for number in sorted(self._written.keys() - self._kept):
            text, reason = self._written[number][0], None
            own, same = shingles(text), hash(normalised(text))
            if any(are_copies(own, other) for other in self._ask.kept):
                reason = "near-copy"
            elif stock[same] == MAX_REPEATS:
                reason = "stock-answer"
            if reason is None:
                stock[same] += 1
                self._kept.add(number)
                self._ask.kept.append(own)
            else:
                del self._written[number]
                self._rejected[number] = (reason, text)
        if self.missing and self.attempt < self._writing.config.attempts:
            return None
        kind, query_id, written = self._writing.kind, self.query_id, sorted(self._written.items())
        generated = [(self._id(number), text, query_id, key, broken) for number, (text, key, broken) in written]
        return generated, [(kind, self._id(number), *rejected) for number, rejected in self._rejected.items()]

    def _id(self, number: int) -> str:
        return f"{self.query_id}/{self._writing.kind}{number}"

    def _reject(self, text: str) -> str | None:
        config, ask = self._writing.config, self._ask
        if length(text) < config.min_words:
            return "too-short"
        if normalised(text).rstrip(".?! ") == normalised(ask.query).rstrip(".?! "):
            return "query-echo"
        if self._writing.prompt.leaks(text):
            return "prompt-echo"
        return written_checks.reject(text, ask.positive, self._writing.style)


def write(queries: pa.Table, context: Context, config: LlmNegativesConfig, kind: str) -> Mined:
    """Has negatives written for queries (`queries.TABLE`); one that cannot be used is asked for again, hotter.

    The kind names the negatives' ids, the stage in the ledger of drops, and the account.
    """
    prompt = prompt_of(config, context.language, kind)
    if prompt.parts:
        config = replace(config, max_tokens=room_for(config.length, config.max_tokens))
    style = style_of(context.corpus.table, context.language, context.seed, config.max_tokens)
    words, unspaced = None, context.language in UNSPACED
    if prompt.parts:
        words = config.length or usual_length(*style.usual, unspaced=unspaced)
        prompt = asked_for(prompt, words, config.style or "", unspaced=unspaced)
        style = style._replace(fewest=min(style.fewest, words[0]), most=max(style.most, words[1]))
    if style.lifted:
        lifted = ", ".join(style.lifted)
        logger.warning("%s: negatives are not checked for what the corpus itself breaks: %s", kind, lifted)
    primed = primed_by(prompt, context, config.max_tokens, kind)
    writing = Writing(kind, prompt, primed, context.seed, config, style)
    starts = range(1, config.count + 1, config.per_call)
    groups = [range(start, min(start + config.per_call, config.count + 1)) for start in starts]
    tasks = (NegativesTask(ask, numbers, writing) for ask in asks_of(queries, context) for numbers in groups)
    stock: Counter[int] = Counter()

    def settle(task: NegativesTask) -> Settled | None:
        return task.settle(stock)

    generated, drops = in_rounds(
        context.converse,
        kind,
        tasks,
        total=queries.num_rows * len(groups),
        attempts=config.attempts,
        settle=settle,
        columns=schema.GENERATED,
    )
    record: dict[str, object] = {"checks lifted": list(style.lifted)} if style.lifted else {}
    record |= {"words": words, "unspaced": unspaced} if words else {}
    return Mined(_candidates(generated), generated, drops, record=record)


def _candidates(generated: pa.Table) -> pa.Table:
    """Written negatives as candidates, ranked by their number; those of one query stand together."""
    ends = pc.run_end_encode(generated["query-id"].combine_chunks()).run_ends.to_numpy()
    sizes = np.diff(ends, prepend=0)
    ranks = np.arange(generated.num_rows) - np.repeat(ends - sizes, sizes) + 1
    scores = pa.nulls(generated.num_rows, pa.float64())
    return pa.table([generated["query-id"], generated["_id"], pa.array(ranks, pa.int32()), scores], schema.CANDIDATES)


def prompt_of(config: LlmNegativesConfig, language: str, kind: str) -> Prompt:
    """The prompt in the corpus's language.

    Raises:
        UserError: there is no prompt of that name, it asks for another number of texts, or it sets their length.
    """
    prompt = prompt_in(config.prompt, language)
    for key in ("length", "style"):
        if getattr(config, key) and not prompt.parts:
            raise UserError(
                f"negatives.{kind}.{key}: prompt {config.prompt!r} asks for a few sentences; leave {key} out, or set "
                f"negatives.{kind}.prompt to one for whole passages, such as counterfactual-v1"
            )
    if config.per_call > 1 and not prompt.several:
        raise UserError(
            f"negatives.{kind}.per_call {config.per_call}: prompt {config.prompt!r} asks for one text an answer; set "
            f"negatives.{kind}.prompt to one for several, such as hard-negatives-v1, or per_call to 1"
        )
    return prompt
