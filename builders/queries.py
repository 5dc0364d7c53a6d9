"""Queries: the LLM writes one for each sampled passage; those that would not serve are dropped with a reason.

written, drops = write(seeds, config, seed, ask)
kept, more_drops = round_trip(written, retrieve, k)
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from builders import schema
from builders.chat import ChatAnswer, ChatRequest
from builders.corpus import drops_table, keyed_hash
from builders.prompts import Prompt, load_prompt

if TYPE_CHECKING:
    from builders.recipe import QueriesConfig

Ask = Callable[[Sequence[ChatRequest]], list[ChatAnswer]]
Retrieve = Callable[[Sequence[str], int], list[list[str]]]

_LABEL = re.compile(r"^\s*(?:[-*\d.)]+\s+)?(?:(?:search )?(?:query|question)\s*:\s*)?", re.IGNORECASE)
_ECHO_WORDS = 8
MAX_TEMPERATURE = 1.0
MIN_WORDS, MAX_WORDS = 3, 32


class Queries(NamedTuple):
    """Accepted queries with their positives.

    Attributes:
        table: `_id`, `text`, `corpus-id` of the passage it was written for; in the passages' order.
        drops: `schema.DROPS`.
    """

    table: pa.Table
    drops: pa.Table


TABLE = pa.schema([("_id", pa.string()), ("text", pa.string()), ("corpus-id", pa.string())])


def write(seeds: pa.Table, config: "QueriesConfig", seed: int, ask: Ask) -> Queries:
    """Asks for the queries of all seed passages; a rejected one is asked for again, hotter, a bounded number of times.

    Args:
        seeds: `schema.CORPUS`.
        config: the recipe's `[queries]`.
        seed: shapes each request's sampling seed together with the query's id.
        ask: answers many requests at once, in order.
    """
    prompts = {name: load_prompt(name) for name in config.weights()}
    examples = {schema.normalised(turn.answer) for prompt in prompts.values() for turn in prompt.turns}
    waiting = {
        f"{row['_id']}/q{number}": row for row in seeds.to_pylist() for number in range(1, config.per_passage + 1)
    }
    order = list(waiting)
    assigned = {query_id: prompts[assign(config.weights(), seed, query_id)] for query_id in order}
    accepted: dict[str, str] = {}
    rejected: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for attempt in range(config.attempts):
        temperature = min(config.temperature + 0.3 * attempt, MAX_TEMPERATURE)
        requests = [
            ChatRequest(
                messages=assigned[query_id].messages(shown(row["title"], row["text"], config.passage_chars)),
                max_tokens=config.max_tokens,
                temperature=temperature,
                seed=keyed_hash(seed, query_id, str(attempt)) % 2**31,
                stop=("\n",),
            )
            for query_id, row in waiting.items()
        ]
        for (query_id, row), answer in zip(list(waiting.items()), ask(requests), strict=True):
            text = tidy(answer.text)
            reason = reject(text, answer.finish_reason, row["text"], word_range(config, assigned[query_id]))
            folded = schema.normalised(text)
            if reason is None and (folded in examples or assigned[query_id].leaks(text)):
                reason = "prompt-echo"
            if reason is None and folded in taken:
                reason = "duplicate"
            if reason is None:
                taken.add(folded)
                accepted[query_id] = text
                rejected.pop(query_id, None)
                del waiting[query_id]
            else:
                rejected[query_id] = (reason, text)
        if not waiting:
            break
    rows = [
        {"_id": query_id, "text": accepted[query_id], "corpus-id": query_id.rpartition("/q")[0]}
        for query_id in order
        if query_id in accepted
    ]
    drops = [(query_id, *rejected[query_id]) for query_id in order if query_id in rejected]
    return Queries(pa.Table.from_pylist(rows, TABLE), drops_table("queries", drops))


def round_trip(queries: pa.Table, retrieve: Retrieve, k: int) -> Queries:
    """Keeps a query only if its own passage is among the top `k` that it retrieves (Promptagator, arXiv 2209.11755).

    Args:
        queries: `TABLE`.
        retrieve: `(query texts, k)` to ranked passage ids, one list per query.
        k: 0 keeps all.
    """
    if k == 0:
        return Queries(queries, drops_table("round-trip", []))
    found = retrieve(queries["text"].to_pylist(), k)
    keep, drops = [], []
    for row, ids in zip(queries.to_pylist(), found, strict=True):
        keep.append(row["corpus-id"] in ids)
        if not keep[-1]:
            drops.append((row["_id"], "own-passage-not-found", f"not in the top {k}: {row['text']}"))
    return Queries(queries.filter(pa.array(keep, pa.bool_())), drops_table("round-trip", drops))


def shown(title: str, text: str, limit: int) -> str:
    """What the LLM sees of a passage: title and text on one line, cut at a word's end.

    >>> shown("A title", "Some words of" + chr(10) + "the text.", 22)
    'A title. Some words of'
    """
    line = " ".join(f"{title}. {text}".split() if title else text.split())
    return line if len(line) <= limit else line[: limit + 1].rpartition(" ")[0]


def tidy(answer: str) -> str:
    """The query in an answer: its first line without a label, list mark or quotes around it.

    >>> tidy('Query: "how do I sort a list?"' + chr(10) + "More.")
    'how do I sort a list?'
    """
    line = next((line for line in answer.strip().splitlines() if line.strip()), "")
    return _LABEL.sub("", line, count=1).strip().strip("\"'`“”").strip()


def assign(weights: Mapping[str, float], seed: int, query_id: str) -> str:
    """The prompt of a query, drawn by weight; the query's id and the seed alone decide.

    >>> assign({"question-v1": 1.0}, 42, "a/q1")
    'question-v1'
    """
    drawn = keyed_hash(seed, "type", query_id) / 2**64 * sum(weights.values())
    for name, weight in weights.items():
        drawn -= weight
        if drawn < 0:
            return name
    return list(weights)[-1]


def word_range(config: "QueriesConfig", prompt: Prompt) -> tuple[int, int]:
    """The fewest and most words that a query may have: the recipe's, else the prompt's, else the usual."""
    return (config.min_words or prompt.min_words or MIN_WORDS, config.max_words or prompt.max_words or MAX_WORDS)


def reject(text: str, finish_reason: str, passage: str, words_allowed: tuple[int, int]) -> str | None:
    """The reason why a query cannot be used, or None.

    >>> reject("how do I sort a list?", "stop", "Sort the list in place.", (3, 32))
    >>> reject("sort", "stop", "Sort the list in place.", (3, 32))
    'too-short'
    """
    words = len(text.split())
    problems = {
        "empty": words == 0,
        "cut": finish_reason == "length",
        "too-short": words < words_allowed[0],
        "too-long": words > words_allowed[1],
        "passage-echo": _echoes(text, passage),
        "other-script": script(text) != script(passage),
    }
    return next((reason for reason, found in problems.items() if found), None)


def script(text: str) -> str:
    """The script that most letters of a text are in, as Unicode names it.

    >>> script("Привет, world"), script("how?"), script("42")
    ('CYRILLIC', 'LATIN', '')
    """
    scripts = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""


def _echoes(text: str, passage: str) -> bool:
    """Whether a query of `_ECHO_WORDS` words or more stands in the passage as it is."""
    query = schema.normalised(text).rstrip("?.! ")
    return len(query.split()) >= _ECHO_WORDS and query in schema.normalised(passage)
