"""`llm`: hard negatives that the LLM writes from the query's text alone; the corpus is never shown to it.

The idea is arXiv 2504.21015's first version: the LLM is told what a hard negative is and then gets the query.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import pyarrow as pa
from msgspec import Meta, Struct

from builders import schema
from builders.chat import ChatAnswer, ChatRequest
from builders.corpus import drops_table, keyed_hash
from builders.negatives.material import Material, Mined, ranked
from builders.prompts import Prompt, load_prompt


class LlmNegativesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How negatives are written.

    Attributes:
        prompt: a file of `builders/prompts/`, without its ending; one with a `priming` question has the LLM answer
            that first (`hard-negative-primed-v1`).
        count: candidates written per query.
        attempts: how often a rejected one is asked for again, the first time included.
        temperature: sampling temperature of the first try; each further try adds 0.2, at most 1.
        max_tokens: length limit of an answer in tokens.
        min_words: shorter answers are rejected.
    """

    prompt: str = "hard-negative-v1"
    count: Annotated[int, Meta(ge=1)] = 1
    attempts: Annotated[int, Meta(ge=1)] = 3
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    max_tokens: Annotated[int, Meta(ge=1)] = 128
    min_words: Annotated[int, Meta(ge=1)] = 8


def mine(queries: pa.Table, material: Material, config: LlmNegativesConfig) -> Mined:
    """Has `count` negatives written for each query (`queries.TABLE`), seeing its `text` and nothing else."""
    inputs = {row["_id"]: row["text"] for row in queries.to_pylist()}
    return write(inputs, inputs, material, config, "llm")


def write(
    inputs: Mapping[str, str], queries: Mapping[str, str], material: Material, config: LlmNegativesConfig, kind: str
) -> Mined:
    """Has negatives written, and asks again for those that cannot be used.

    Args:
        inputs: query id -> what the LLM is shown.
        queries: query id -> the query itself; a negative that only repeats it is rejected.
        material: its seed and its LLM.
        config: prompt, counts and sampling.
        kind: names the negatives' ids and the stage in the ledger of drops.
    """
    prompt = load_prompt(config.prompt)
    primed = prime(prompt, material, config)
    order = [f"{query_id}/{kind}{number}" for query_id in inputs for number in range(1, config.count + 1)]
    waiting = dict.fromkeys(order)
    written: dict[str, tuple[str, str]] = {}
    rejected: dict[str, tuple[str, str]] = {}
    for attempt in range(config.attempts):
        requests = [
            ChatRequest(
                messages=prompt.messages(inputs[_query_of(negative_id)], primed),
                max_tokens=config.max_tokens,
                temperature=min(config.temperature + 0.2 * attempt, 1.0),
                seed=keyed_hash(material.seed, negative_id, str(attempt)) % 2**31,
                stop=("\n",),
            )
            for negative_id in waiting
        ]
        for negative_id, answer in zip(list(waiting), material.ask(requests), strict=True):
            text = tidy(answer)
            reason = reject(text, queries[_query_of(negative_id)], config.min_words)
            if reason is None and prompt.leaks(text):
                reason = "prompt-echo"
            if reason is None:
                written[negative_id] = (text, answer.key)
                rejected.pop(negative_id, None)
                del waiting[negative_id]
            else:
                rejected[negative_id] = (reason, text)
        if not waiting:
            break
    return _mined(list(inputs), order, written, rejected, kind)


def prime(prompt: Prompt, material: Material, config: LlmNegativesConfig) -> str | None:
    """The LLM's own answer to the prompt's priming question, asked once a build; None without one."""
    if prompt.priming is None:
        return None
    messages = ({"role": "user", "content": prompt.priming},)
    seed = keyed_hash(material.seed, "priming") % 2**31
    request = ChatRequest(messages=messages, max_tokens=2 * config.max_tokens, temperature=0.0, seed=seed)
    (answer,) = material.ask([request])
    return " ".join(answer.text.split()) or None


def _query_of(negative_id: str) -> str:
    return negative_id.rpartition("/")[0]


def tidy(answer: ChatAnswer) -> str:
    """The passage in an answer: its first line, up to where it was cut or began to repeat itself."""
    line = next((line.strip() for line in answer.text.strip().splitlines() if line.strip()), "")
    sentences = re.split(r"(?<=[.!?])\s+", line)
    if answer.finish_reason == "length" and not sentences[-1].endswith((".", "!", "?")):
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


def _mined(
    query_ids: Sequence[str],
    order: Sequence[str],
    written: Mapping[str, tuple[str, str]],
    rejected: Mapping[str, tuple[str, str]],
    kind: str,
) -> Mined:
    by_query: dict[str, list[str]] = {query_id: [] for query_id in query_ids}
    generated = []
    for negative_id in order:
        if negative_id in written:
            query_id = _query_of(negative_id)
            text, call_key = written[negative_id]
            by_query[query_id].append(negative_id)
            generated.append({"_id": negative_id, "text": text, "query-id": query_id, "call-key": call_key})
    rows = [row for query_id, ids in by_query.items() for row in ranked(query_id, [(i, None) for i in ids])]
    drops = [(negative_id, *rejected[negative_id]) for negative_id in order if negative_id in rejected]
    return Mined(
        pa.Table.from_pylist(rows, schema.CANDIDATES),
        pa.Table.from_pylist(generated, schema.GENERATED),
        drops_table(kind, drops),
    )
