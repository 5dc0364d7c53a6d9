"""Queries that the LLM writes, one or more for each sampled passage.

written = write(passages, config, context)
"""

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from builders.answers import SHORTENED, texts_of
from builders.context import Context
from builders.hashing import keyed_hash
from builders.llm.messages import REFUSED, ChatAnswer, ChatRequest
from builders.meta_talk import refusals
from builders.prompts import CHARACTERS, Prompt, prompt_in
from builders.queries import STAGE, TABLE, Queries
from builders.queries.checks import reject
from builders.queries.config import QueriesConfig
from builders.queries.style import in_style, is_shown, read_style
from builders.rounds import Settled, in_rounds
from builders.spool import BATCH
from foils.languages import is_unspaced
from foils.texts import normalised

MAX_TEMPERATURE = 1.0
MIN_WORDS, MAX_WORDS = 3, 32
_LONGEST_WORD = 50
"""Characters; what has no space for longer is a URL, data, or in a script without spaces, and is cut anywhere."""


class QueryTask:
    """One query for one passage, asked for until an answer passes the checks.

    Attributes:
        query_id: `PASSAGE/qN`.
        passage: `_id`, `title`, `text`.
        attempt: how often it has been asked for, over all rounds.
        text: the query, or None.
        rejected: reason and text of the last try.
    """

    def __init__(
        self, number: int, passage: dict[str, str], prompts: dict[str, Prompt], config: QueriesConfig, context: Context
    ) -> None:
        self.query_id = f"{passage['_id']}/q{number}"
        self.passage = passage
        self.attempt = 0
        self.text: str | None = None
        self.rejected = ("", "")
        self._stops = True
        self._number = number
        self._prompt = prompts[assign(config.weights(), context.seed, self.query_id)]
        self._examples: list[str] = []
        if config.like:
            self._examples = read_style(config.like, context.language).some(context.seed, self.query_id)
            self._prompt = in_style(self._prompt, self._examples)
        self._config, self._context = config, context

    def request(self, attempt: int) -> ChatRequest:  # noqa: ARG002 - its own count goes on over rounds
        """Asks for the query, hotter each time."""
        config = self._config
        text = shown(self.passage["title"], self.passage["text"], config.passage_chars)
        return ChatRequest(
            messages=self._prompt.messages(text, shift=self._number - 1 + self.attempt),
            max_tokens=config.max_tokens,
            temperature=min(config.temperature + 0.3 * self.attempt, MAX_TEMPERATURE),
            seed=keyed_hash(self._context.seed, self.query_id, str(self.attempt)) % 2**31,
            stop=("\n",) if self._stops else (),
        )

    def take(self, answer: ChatAnswer) -> str | None:
        """Judges an answer by itself; `write` finds out whether another passage has the same query."""
        self.attempt += 1
        config, passage = self._config, self.passage
        source = f"{passage['title']} {passage['text']}"
        texts, reason = texts_of(answer, 1, prompt=self._prompt, source=source)
        text = texts[0] if texts else ""
        if reason is None:
            limits = word_range(config, self._prompt, in_characters=is_unspaced(text))
            reason = reject(text, answer.finish_reason, passage, limits, refusals(self._context.language))
        if reason is None and self._prompt.leaks(text):
            reason = "prompt-echo"
        self._stops = self._stops and reason not in SHORTENED
        if self._examples and (reason == "prompt-echo" or is_shown(text, self._examples)):
            reason, text = "prompt-echo", ""  # drops are published, and people's own queries are not
        self.text, self.rejected = (text, ("", "")) if reason is None else (None, (reason, text))
        return reason

    def refused(self, detail: str) -> None:
        """The endpoint will not answer."""
        self.rejected = (REFUSED, detail)


def query_tasks(batches: Iterable[pa.RecordBatch], config: QueriesConfig, context: Context) -> Iterator[QueryTask]:
    """The tasks of all sampled passages, in their order, a batch at a time."""
    prompts = {name: prompt_in(name, context.language) for name in config.weights()}
    for batch in batches:
        for passage in batch.to_pylist():
            for number in range(1, config.per_passage + 1):
                yield QueryTask(number, passage, prompts, config, context)


def write(passages: pa.Table, config: QueriesConfig, context: Context, stage: str = STAGE) -> Queries:
    """Has the queries of passages (`schema.CORPUS`) written; a rejected one is asked for again, hotter.

    A query serves one passage. If an earlier passage has it already, it is asked for again in a further round.
    """
    taken: set[int] = set()

    def settle(task: QueryTask) -> Settled | None:
        same = hash(normalised(task.text or ""))
        if task.text is not None and same in taken:
            task.rejected, task.text = ("duplicate", task.text), None
        if task.text is not None:
            taken.add(same)
            return [(task.query_id, task.text, task.passage["_id"])], []
        if task.attempt < config.attempts and task.rejected[0] != REFUSED:
            return None
        return [], [(stage, task.query_id, *task.rejected)]

    tasks = query_tasks(passages.to_batches(max_chunksize=BATCH), config, context)
    total = passages.num_rows * config.per_passage
    return Queries(
        *in_rounds(context.converse, stage, tasks, total=total, attempts=config.attempts, settle=settle, columns=TABLE)
    )


def shown(title: str, text: str, limit: int) -> str:
    r"""What the LLM sees of a passage: title and text on one line, cut at a word's end if there is one nearby.

    >>> shown("A title", "Some words of" + chr(10) + "the text.", 22)
    'A title. Some words of'
    >>> shown("", "0123456789" * 3, 12), len(shown("A title", "\u7a7a" * 3000, 1000))
    ('012345678901', 1000)
    """
    line = " ".join(f"{title}. {text}".split() if title and text else (title or text).split())
    if len(line) <= limit:
        return line
    end = line.rfind(" ", limit - min(_LONGEST_WORD, limit // 2), limit + 1)
    return line[: limit if end < 1 else end]


def assign(weights: Mapping[str, float], seed: int, query_id: str) -> str:
    """Draws the prompt of a query by weight; the query's id and the seed alone decide.

    >>> assign({"question-v1": 1.0}, 42, "a/q1")
    'question-v1'
    """
    if len(weights) == 1:
        return next(iter(weights))
    drawn = keyed_hash(seed, "type", query_id) / 2**64 * sum(weights.values())
    for name, weight in sorted(weights.items()):  # whatever order the recipe has them in
        drawn -= weight
        if drawn < 0:
            return name
    return max(weights)


def word_range(config: QueriesConfig, prompt: Prompt, *, in_characters: bool = False) -> tuple[int, int]:
    """The fewest and most words of a query: the recipe's, else the prompt's, else the usual.

    A query in a script without spaces is as long as it has characters, several a word.
    """
    most = (prompt.max_words or MAX_WORDS) * (CHARACTERS[1] if in_characters else 1)
    return (config.min_words or prompt.min_words or MIN_WORDS, config.max_words or most)
