"""Negatives that the LLM writes: what it is shown, and what is made of its answers."""

import pyarrow as pa
import pytest

from builders import queries as queries_module
from builders import schema
from builders.chat import ChatAnswer
from builders.negatives import llm, llm_with_positive
from builders.negatives.material import Material
from builders.prompts import load_prompt
from tests.scripted_llm import ScriptedLlm

CORPUS = pa.Table.from_pylist(
    [
        {"_id": "a", "title": "Owls", "text": "Owls hunt mice at night and turn their heads far around."},
        {"_id": "b", "title": "Bees", "text": "Honey bees dance to tell their sisters where flowers bloom."},
    ],
    schema.CORPUS,
)
QUERIES = pa.Table.from_pylist(
    [
        {"_id": "a/q1", "text": "what do owls hunt?", "corpus-id": "a"},
        {"_id": "b/q1", "text": "how do bees talk?", "corpus-id": "b"},
    ],
    queries_module.TABLE,
)
NEGATIVE = "Barn owls nest in church towers and raise their young on what both parents bring home."


@pytest.fixture
def material():
    """The corpus with an LLM that always gives the same good answer; it records what it was asked."""
    llm_that_answers = ScriptedLlm(lambda _: ChatAnswer("key", NEGATIVE, "stop", 1, 1, 0.0))
    made = Material(CORPUS, "en", 42, llm_that_answers.converse)
    made.asked = llm_that_answers.asked
    return made


def test_the_query_is_all_that_is_shown(material):
    mined = llm.mine(QUERIES, material, llm.LlmNegativesConfig(count=2))
    assert [row["_id"] for row in mined.generated.to_pylist()] == ["a/q1/llm1", "a/q1/llm2", "b/q1/llm1", "b/q1/llm2"]
    assert {row["query-id"] for row in mined.candidates.to_pylist()} == {"a/q1", "b/q1"}
    assert [request.messages[-1]["content"] for request in material.asked[::2]] == [
        "Query: what do owls hunt?",
        "Query: how do bees talk?",
    ]
    assert len({request.seed for request in material.asked}) == 4


def test_the_positive_is_shown_where_the_kind_says_so(material):
    mined = llm_with_positive.mine(QUERIES, material, llm_with_positive.LlmWithPositiveConfig(passage_chars=24))
    # The prompt has a priming question, so the LLM is asked that once, before the first query.
    assert material.asked[0].messages[-1]["content"] == load_prompt("hard-negative-with-positive-v1").priming
    assert len(material.asked) == 3
    shown = material.asked[1].messages[-1]["content"]
    assert shown == "Query: what do owls hunt?\nPassage: Owls Owls hunt mice at n"
    assert material.asked[1].messages[2] == {"role": "assistant", "content": NEGATIVE}
    assert [row["_id"] for row in mined.generated.to_pylist()] == ["a/q1/llm-with-positive1", "b/q1/llm-with-positive1"]


def test_priming_comes_first_and_only_once(material):
    llm.mine(QUERIES, material, llm.LlmNegativesConfig(prompt="hard-negative-primed-v1", count=2))
    first, *others = material.asked
    assert first.temperature == 0
    assert len(others) == 4
    for request in others:
        roles = [message["role"] for message in request.messages]
        assert roles[:3] == ["system", "user", "assistant"]
        assert request.messages[1]["content"] == first.messages[0]["content"]


def test_without_a_priming_question_nothing_is_asked_before(material):
    llm.mine(QUERIES, material, llm.LlmNegativesConfig())
    assert len(material.asked) == 2


def test_an_answer_that_repeats_its_instructions_is_dropped():
    leak = "It shares the topic and many words, although it does not answer the query."
    leaking = ScriptedLlm(lambda _: ChatAnswer("k", leak, "stop", 1, 1, 0.0))
    mined = llm.mine(QUERIES, Material(CORPUS, "en", 42, leaking.converse), llm.LlmNegativesConfig())
    assert mined.generated.num_rows == 0
    assert [(row["stage"], row["reason"]) for row in mined.drops.to_pylist()] == [("llm", "prompt-echo")] * 2
