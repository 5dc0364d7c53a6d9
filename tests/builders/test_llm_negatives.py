"""Negatives that the LLM writes: what it is shown, and what is made of its answers."""

import pyarrow as pa
import pytest

from builders import queries as queries_module
from builders import schema
from builders.llm.chat import ChatAnswer
from builders.negatives import llm, llm_with_positive
from builders.negatives.material import Material
from builders.prompts import load_prompt
from cards.errors import UserError
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


def scripted(*texts):
    """An LLM that gives these answers in turn."""
    waiting = list(texts)
    return ScriptedLlm(lambda _: ChatAnswer(f"key{len(waiting)}", waiting.pop(0), "stop", 1, 1, 0.0))


SEVERAL = llm.LlmNegativesConfig(prompt="hard-negatives-v1", count=3, per_call=2)
OTHERS = [
    f"{animal} rest by day in hollow trees and hunt along the hedges at dusk." for animal in ("Bats", "Cats", "Rats")
]


def test_several_negatives_come_in_one_answer():
    asked = scripted(f"1. {OTHERS[0]}\n\n2. {OTHERS[1]}", OTHERS[2])
    mined = llm.mine(QUERIES.slice(0, 1), Material(CORPUS, "en", 42, asked.converse), SEVERAL)
    assert [(row["_id"], row["text"]) for row in mined.generated.to_pylist()] == [
        (f"a/q1/llm{number}", text) for number, text in enumerate(OTHERS, start=1)
    ]
    assert [row["rank"] for row in mined.candidates.to_pylist()] == [1, 2, 3]
    assert [request.messages[-1]["content"] for request in asked.asked] == [
        f"Write {count} hard negatives for this query: what do owls hunt?" for count in (2, 1)
    ]
    assert [request.max_tokens for request in asked.asked] == [256, 128]
    assert {request.stop for request in asked.asked} == {()}


def test_only_what_is_missing_is_asked_for_again():
    asked = scripted(f"{OTHERS[0]}\nToo short.", OTHERS[0], OTHERS[1], OTHERS[2])
    mined = llm.mine(QUERIES.slice(0, 1), Material(CORPUS, "en", 42, asked.converse), SEVERAL)
    assert [row["text"] for row in mined.generated.to_pylist()] == OTHERS
    counts = [request.messages[-1]["content"].split()[1] for request in asked.asked]
    assert counts == ["2", "1", "1", "1"]  # too short, then a repetition, then good; the third by itself
    assert len({request.seed for request in asked.asked}) == 4


def test_json_holds_the_server_to_the_form():
    text = '{"text": "%s"}'
    asked = scripted(text % OTHERS[0], "no JSON", text % OTHERS[1])
    config = llm.LlmNegativesConfig(output="json", attempts=2)
    mined = llm.mine(QUERIES, Material(CORPUS, "en", 42, asked.converse), config)
    assert [row["text"] for row in mined.generated.to_pylist()] == OTHERS[:2]
    assert all(request.schema["required"] == ["text"] for request in asked.asked)
    assert all(request.stop == () for request in asked.asked)


def test_one_text_a_prompt_and_several_a_call_do_not_go_together():
    config = llm.LlmNegativesConfig(count=2, per_call=2)
    with pytest.raises(UserError, match=r"negatives\.llm\.per_call 2: prompt 'hard-negative-v1' asks for one text"):
        llm.mine(QUERIES, Material(CORPUS, "en", 42, scripted().converse), config)


def test_the_corpus_language_chooses_the_prompt():
    asked = scripted(OTHERS[0])
    llm.mine(QUERIES.slice(0, 1), Material(CORPUS, "de", 42, asked.converse), llm.LlmNegativesConfig())
    assert asked.asked[0].messages[0]["content"] == load_prompt("hard-negative-v1.de").system
