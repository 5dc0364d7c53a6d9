"""Queries: the LLM writes one for each sampled passage; those that would not serve are dropped with a reason.

written, drops = write(seeds, total, config, material)
kept, more_drops = round_trip(written, retrieve, k)
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pyarrow as pa

from builders import schema
from builders.answers import SHORTENED, texts_of
from builders.columns import BATCH, Columns, Hashes, hash_of, in_places
from builders.corpus import drops_table
from builders.hashing import keyed_hash
from builders.llm.messages import CUT, REFUSED, ChatAnswer, ChatRequest, Converse
from builders.meta_talk import folded, refusals, uses
from builders.prompts import Prompt, answer_schema, in_language, load_prompt
from builders.wrapping import is_lead_in
from builders.writing_systems import script
from foils.texts import normalised

if TYPE_CHECKING:
    from builders.recipe import QueriesConfig

Retrieve = Callable[[Sequence[str], int], list[list[str]]]

_ECHO_WORDS = 8
_LONGEST_WORD = 50
"""Characters; what has no space for longer is a URL, data, or in a script without spaces, and is cut anywhere."""
MAX_TEMPERATURE = 1.0
MIN_WORDS, MAX_WORDS = 3, 32
STAGE = "queries"
ROUND_TRIP_BATCH = 50_000
"""Queries whose hits are in memory at once."""


class Queries(NamedTuple):
    """Accepted queries with their positives.

    Attributes:
        table: `_id`, `text`, `corpus-id` of the passage it was written for; in the passages' order.
        drops: `schema.DROPS`.
    """

    table: pa.Table
    drops: pa.Table


TABLE = pa.schema([("_id", pa.string()), ("text", pa.string()), ("corpus-id", pa.string())])
_PLACE = pa.field("place", pa.int64())
_ACCEPTED, _REJECTED = TABLE.insert(0, _PLACE), schema.DROPS.insert(0, _PLACE)


class Asking(Protocol):
    """What writing queries needs of `negatives.material.Material`: its seed, its language and the LLM."""

    seed: int
    language: str
    converse: Converse


class QueryTask:
    """One query for one passage, asked for until an answer passes the checks.

    Attributes:
        query_id: `PASSAGE/qN`.
        passage: `_id`, `title`, `text`.
        attempt: how often it has been asked for; goes on counting when a duplicate is asked for again.
        text: the query, or None.
        rejected: reason and text of the last try.
    """

    __slots__ = ("_number", "_prompt", "_stops", "_writing", "attempt", "passage", "query_id", "rejected", "text")

    def __init__(self, query_id: str, passage: Mapping[str, str], writing: "_Writing") -> None:
        self.query_id = query_id
        self.passage = passage
        self.attempt = 0
        self.text: str | None = None
        self.rejected = ("", "")
        self._stops = True
        self._writing = writing
        self._number = int(query_id.rpartition("/q")[2])
        self._prompt = writing.prompts[assign(writing.weights, writing.seed, query_id)]

    def request(self, attempt: int) -> ChatRequest:  # noqa: ARG002 - its own count goes on over rounds
        """Asks for the query, hotter each time."""
        config, as_json = self._writing.config, self._writing.config.output == "json"
        text = shown(self.passage["title"], self.passage["text"], config.passage_chars)
        return ChatRequest(
            messages=self._prompt.messages(text, as_json=as_json, shift=self._number - 1 + self.attempt),
            max_tokens=config.max_tokens,
            temperature=min(config.temperature + 0.3 * self.attempt, MAX_TEMPERATURE),
            seed=keyed_hash(self._writing.seed, self.query_id, str(self.attempt)) % 2**31,
            stop=("\n",) if self._stops and not as_json else (),
            schema=answer_schema(1) if as_json else None,
        )

    def take(self, answer: ChatAnswer) -> str | None:
        """Judges an answer by itself; whether another passage has the same query shows later."""
        self.attempt += 1
        as_json = self._writing.config.output == "json"
        beside = f"{self.passage['title']} {self.passage['text']}"
        texts, problem = texts_of(answer, 1, as_json=as_json, prompt=self._prompt, beside=beside)
        text = texts[0] if texts else ""
        reason = problem or self._reject(text, answer.finish_reason)
        self._stops = self._stops and reason not in SHORTENED
        self.text, self.rejected = (text, ("", "")) if reason is None else (None, (reason, text))
        return reason

    def refused(self, detail: str) -> None:
        """The endpoint will not answer."""
        self.rejected = (REFUSED, detail)

    def is_duplicate(self) -> None:
        """Another passage has this query."""
        self.text, self.rejected = None, ("duplicate", self.text or "")

    def _reject(self, text: str, finish_reason: str) -> str | None:
        writing = self._writing
        reason = reject(
            text, finish_reason, self.passage, word_range(writing.config, self._prompt), refusals(writing.language)
        )
        return "prompt-echo" if reason is None and self._prompt.leaks(text) else reason


class _Writing(NamedTuple):
    """How all queries are asked for: the recipe's settings, and its prompts by name."""

    config: "QueriesConfig"
    seed: int
    language: str
    weights: Mapping[str, float]
    prompts: Mapping[str, Prompt]


def query_tasks(batches: Iterable[pa.RecordBatch], config: "QueriesConfig", material: "Asking") -> Iterator[QueryTask]:
    """The tasks of all seed passages, in their order, a batch at a time."""
    seed, language = material.seed, material.language
    prompts = {name: load_prompt(in_language(name, language)) for name in config.weights()}
    writing = _Writing(config, seed, language, config.weights(), prompts)
    for batch in batches:
        for row in batch.to_pylist():
            for number in range(1, config.per_passage + 1):
                yield QueryTask(f"{row['_id']}/q{number}", row, writing)


def write(
    seeds: pa.Table | Iterable[pa.RecordBatch],
    total: int,
    config: "QueriesConfig",
    material: "Asking",
) -> Queries:
    """Has the queries of all seed passages written; a rejected one is asked for again, hotter, a few times.

    A query serves one passage: if another passage, earlier in the order, has it already, it is asked for again in a
    further round.

    Args:
        seeds: `schema.CORPUS`, as a table or in batches.
        total: how many passages they are.
        config: the recipe's `[queries]`.
        material: seed, language and LLM.
    """
    batches = seeds.to_batches(max_chunksize=BATCH) if isinstance(seeds, pa.Table) else seeds
    rows = _Rows(config.attempts)
    tasks: Iterable[QueryTask] = query_tasks(batches, config, material)
    number, attempts = total * config.per_passage, config.attempts
    while number:
        material.converse(STAGE, tasks, total=number, attempts=attempts, done=rows.add)
        tasks = rows.again
        number, attempts, rows.again = len(rows.again), 1, []  # how many tries each has left, `_Rows.add` knows
    return rows.queries()


class _Rows:
    """Collects settled tasks in their order and finds the duplicates among their queries."""

    def __init__(self, attempts: int) -> None:
        self.again: list[QueryTask] = []
        self._attempts = attempts
        self._taken = Hashes()
        self._accepted, self._rejected = Columns(_ACCEPTED), Columns(_REJECTED)
        self._late: dict[str, int] = {}  # query id -> place, of those that are asked for again
        self._late_accepted: list[tuple[object, ...]] = []
        self._late_rejected: list[tuple[object, ...]] = []
        self._next = 0

    def add(self, task: QueryTask) -> None:
        """Takes a settled task."""
        place = self._late.pop(task.query_id, None)
        is_late = place is not None
        if place is None:
            place, self._next = self._next, self._next + 1
        if task.text is not None and not self._taken.add(hash_of(normalised(task.text))):
            task.is_duplicate()
        if task.text is not None:
            row = (place, task.query_id, task.text, task.passage["_id"])
            self._late_accepted.append(row) if is_late else self._accepted.add(*row)
        elif task.attempt < self._attempts and task.rejected[0] != REFUSED:
            self._late[task.query_id] = place
            self.again.append(task)
        else:
            drop = (place, STAGE, task.query_id, *task.rejected)
            self._late_rejected.append(drop) if is_late else self._rejected.add(*drop)

    def queries(self) -> Queries:
        """All of it, in the tasks' order."""
        return Queries(
            in_places(self._accepted.table(), self._late_accepted),
            in_places(self._rejected.table(), self._late_rejected),
        )


def round_trip(queries: pa.Table, retrieve: Retrieve, k: int) -> Queries:
    """Keeps a query only if its own passage is among the top `k` that it retrieves (Promptagator, arXiv 2209.11755).

    Args:
        queries: `TABLE`.
        retrieve: `(query texts, k)` to ranked passage ids, one list per query.
        k: 0 keeps all.
    """
    if k == 0:
        return Queries(queries, drops_table("round-trip", []))
    keep, drops = Columns(pa.schema([("kept", pa.bool_())])), Columns(schema.DROPS)
    for start in range(0, queries.num_rows, ROUND_TRIP_BATCH):
        rows = queries.slice(start, ROUND_TRIP_BATCH).to_pylist()
        found = retrieve([row["text"] for row in rows], k)
        for row, ids in zip(rows, found, strict=True):
            keep.add(row["corpus-id"] in ids)
            if row["corpus-id"] not in ids:
                drops.add("round-trip", row["_id"], "own-passage-not-found", f"not in the top {k}: {row['text']}")
    return Queries(queries.filter(keep.table()["kept"]), drops.table())


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
    """The prompt of a query, drawn by weight; the query's id and the seed alone decide.

    >>> assign({"question-v1": 1.0}, 42, "a/q1")
    'question-v1'
    """
    if len(weights) == 1:
        return next(iter(weights))
    drawn = keyed_hash(seed, "type", query_id) / 2**64 * sum(weights.values())
    for name, weight in sorted(weights.items()):  # in whatever order the recipe has them
        drawn -= weight
        if drawn < 0:
            return name
    return max(weights)


def word_range(config: "QueriesConfig", prompt: Prompt) -> tuple[int, int]:
    """The fewest and most words that a query may have: the recipe's, else the prompt's, else the usual."""
    return (config.min_words or prompt.min_words or MIN_WORDS, config.max_words or prompt.max_words or MAX_WORDS)


def reject(
    text: str,
    finish_reason: str,
    passage: Mapping[str, str],
    words_allowed: tuple[int, int],
    phrases: Sequence[re.Pattern[str]] = (),
) -> str | None:
    """The reason why a query cannot be used, or None.

    Args:
        text: the query.
        finish_reason: of its answer.
        passage: `title` and `text` of what it was written for.
        words_allowed: the fewest and the most.
        phrases: those of an LLM that declines; one that the passage has too gives nothing away.

    >>> passage = {"title": "", "text": "Sort the list in place."}
    >>> reject("how do I sort a list?", "stop", passage, (3, 32))
    >>> reject("sort", "stop", passage, (3, 32))
    'too-short'
    """
    words = len(text.split())
    if not any(map(str.isalnum, text)):
        return "empty"
    if finish_reason in CUT:
        return "cut"
    if is_lead_in(text):
        return "lead-in"
    if not words_allowed[0] <= words <= words_allowed[1]:
        return "too-short" if words < words_allowed[0] else "too-long"
    if _echoes(text, passage["text"]):
        return "passage-echo"
    return _foreign(text, passage, phrases)


def _foreign(text: str, passage: Mapping[str, str], phrases: Sequence[re.Pattern[str]]) -> str | None:
    """Why a text of any length is not a query for a passage: it speaks of the task, or is in another script."""
    plain = folded(text)
    used = [phrase for phrase in phrases if phrase.search(plain)]
    if used and not uses(f"{passage['title']} {passage['text']}", used):
        return "meta-talk"
    scripts = {script(passage["title"]), script(passage["text"])} - {""}
    return "other-script" if scripts and script(text) not in {"", *scripts} else None


def _echoes(text: str, passage: str) -> bool:
    """Whether a query of `_ECHO_WORDS` words or more stands in the passage as it is."""
    query = normalised(text).rstrip("?.! ")
    return len(query.split()) >= _ECHO_WORDS and query in normalised(passage)
