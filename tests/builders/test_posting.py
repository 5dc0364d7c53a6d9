"""What a real HTTP server sees of the client: what arrives, what is made of its answer, whose key it gets."""

import asyncio
import json

import pytest
from huggingface_hub import AsyncInferenceClient, constants

from builders.llm.client import Llm
from builders.llm.completion import parsed
from builders.llm.config import FieldsConfig, LlmConfig
from builders.llm.messages import ChatRequest, Endpoint, answer_of, body_of
from builders.llm.posting import PostingClient
from builders.llm.store import CallStore
from foils.errors import UserError
from tests.builders.asking import ask as ask_all
from tests.chat_server import completion
from tests.conftest import CANARY

MESSAGES = [
    {"role": "system", "content": "Write queries."},
    {"role": "user", "content": "Passage: owls"},
    {"role": "assistant", "content": "what are owls?"},
    {"role": "user", "content": "Passage: eels"},
]
THINKS_NOT = {"chat_template_kwargs": {"enable_thinking": False}}

SAMPLING = {"max_tokens": 9, "temperature": 0.5, "seed": 7}
CHAT = {"model": "scripted", "messages": MESSAGES, **SAMPLING, "stop": ["\n"], "stream": False, "top_p": 0.9}
PATH = "/v1/chat/completions"


def request(**changes):
    asked = {"messages": tuple(MESSAGES), "max_tokens": 9, "temperature": 0.5, "seed": 7, "stop": ("\n",), **changes}
    return ChatRequest(**asked)


def answered(text, finish_reason="stop", **message):
    """A server's whole answer."""
    value = completion(text, finish_reason)
    value["choices"][0]["message"].update(message)
    return 200, {"Content-Type": "application/json"}, json.dumps(value)


@pytest.fixture
def send(chat_server):
    """Sends one request, and returns what the store would keep."""

    def run(asked, heard=None, **settings):
        config = LlmConfig(**{"base_url": chat_server.url, "model": "scripted", **settings})

        async def exchange():
            endpoint = Endpoint(config.base_url, config.model)
            async with PostingClient(endpoint, config, heard or (lambda *_: None)) as client:
                return await client.complete(body_of(asked, config))

        return asyncio.run(exchange())

    return run


def test_what_arrives(send, chat_server):
    chat_server.script = lambda *_: answered("what are eels?")
    heard = []
    kept = send(request(), lambda *about: heard.append(about), thinking=False, extra_body={"top_p": 0.9})
    assert (chat_server.paths, chat_server.bodies) == ([PATH], [{**CHAT, **THINKS_NOT}])
    assert {name.lower(): value for name, value in chat_server.headers[0].items()}["content-type"] == "application/json"
    ((status, headers),) = heard
    assert (status, headers["content-type"]) == (200, "application/json")
    assert kept == {
        "text": "what are eels?",
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "model": "scripted",
    }


def test_what_is_not_asked_for_does_not_arrive(send, chat_server):
    send(request(stop=(), temperature=0.0))
    (body,) = chat_server.bodies
    assert set(body) == {"model", "messages", "stream"} | set(SAMPLING)
    assert body["temperature"] == 0.0


@pytest.mark.parametrize(
    ("fields", "changed", "roles"),
    [
        ({"max_tokens": "max_completion_tokens", "seed": False}, {"max_completion_tokens": 9}, "system"),
        ({"max_tokens": False, "temperature": False, "stop": False, "stream": False}, {}, "system"),
        ({"seed": "random_seed", "system": "developer"}, {"random_seed": 7}, "developer"),
        ({"system": False}, {}, "user"),
    ],
)
def test_fields_have_the_names_that_the_endpoint_takes(send, chat_server, fields, changed, roles):
    send(request(), fields=FieldsConfig(**fields))
    (body,) = chat_server.bodies
    messages = body.pop("messages")
    usual = {name: value for name, value in CHAT.items() if name not in {*fields, "messages", "top_p"}}
    assert body == usual | changed
    assert messages[0]["role"] == roles
    if roles == "user":
        assert messages[0]["content"] == "Write queries.\n\nPassage: owls"
    assert messages[-3:] == MESSAGES[-3:] if roles != "user" else messages[1:] == MESSAGES[2:]


def test_what_is_left_out_and_not_what_is_renamed_makes_other_keys():
    keys = [
        body_of(request(), LlmConfig(model="m", fields=FieldsConfig(**fields)))
        for fields in ({}, {"seed": "random_seed"}, {"seed": False})
    ]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("end", ["/v1", "/v1/", "", "/", "/v1/chat/completions"])
def test_the_end_of_the_address_changes_nothing(send, chat_server, end):
    send(request(), base_url=chat_server.root + end)
    assert chat_server.paths == [PATH]


def kept(message, finish_reason="stop", stop=(), **about):
    """What the store keeps of an answer."""
    completion = {"choices": [{"message": message, "finish_reason": finish_reason}], **about}
    return parsed(("\ufeff" + json.dumps(completion)).encode(), stop)


def test_what_comes_after_a_stop_string_is_no_answer():
    """`transformers serve` does not look for them, others leave them in."""
    answer = kept({"content": " what are eels?\nPassage: bees"}, "length", stop=["\n"])
    assert (answer["text"], answer["finish_reason"]) == (" what are eels?", "stop")


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
PARTS = [{"type": "text", "text": "what are "}, {"type": "text", "text": "eels?"}]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": PARTS}, "what are eels?"),
        ({"content": [THOUGHT, *PARTS]}, "what are eels?"),
        ({"content": ["what are ", "eels?"]}, "what are eels?"),
        (
            {"content": [{"type": "reasoning", "text": "Hm."}, {"type": "output_text", "text": "what are eels?"}]},
            "what are eels?",
        ),
        ({"content": {"type": "text", "text": {"value": "what are eels?"}}}, "what are eels?"),
        ({"content": {"text_1": "what are eels?"}}, '{"text_1": "what are eels?"}'),
        ({"content": [THOUGHT]}, ""),
        ({"content": None, "reasoning_content": "Let me think about eels."}, ""),
        ({"content": "\n", "reasoning": "Let me think about eels."}, ""),
        ({"content": "<think>\nEels, then.\n</think>\n\nwhat are eels?"}, "what are eels?"),
        ({"content": "\n<thinking>Eels.</thinking>what are eels?"}, "what are eels?"),
        ({"content": "<think>\nEels are"}, ""),
        ({"content": None, "refusal": "I can't help with that."}, "I can't help with that."),
    ],
)
def test_the_text_of_an_answer_is_what_the_model_says_and_not_what_it_thinks(message, said):
    answer = answer_of("key", {**kept(message, stop=["\n"]), "seconds": 0.1})
    assert (answer.text.strip(), answer.only_reasoning) == (said, not said)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 70.0, "completion_tokens": "12"}, (70, 12)),
        ({"prompt_tokens": 70, "completion_tokens": "many"}, (70, None)),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, (None, None)),
        ({"prompt_tokens": None, "completion_tokens": [12]}, (None, None)),
        ("none", (None, None)),
        (None, (None, None)),
    ],
)
def test_what_is_not_needed_spoils_no_answer(usage, tokens):
    message = {"content": "what are eels?", "reasoning": {"effort": "low"}, "reasoning_content": ["Hm."], "refusal": 0}
    expected = {"text": "what are eels?", "finish_reason": "stop", "prompt_tokens": tokens[0]}
    assert kept(message, 3, usage=usage, model=["scripted"], id=7) == {**expected, "completion_tokens": tokens[1]}


# Keys


def authorizations(server):
    return [{name.lower(): value for name, value in sent.items()}.get("authorization") for sent in server.headers]


def test_without_a_key_of_ours_the_hub_token_would_reach_it(chat_server):
    """So the test above can fail."""

    async def careless():
        async with AsyncInferenceClient(base_url=chat_server.url) as client:
            await client.chat_completion(MESSAGES, model="scripted")

    asyncio.run(careless())
    assert authorizations(chat_server) == [f"Bearer {CANARY}"]


# Hosted by a provider

KEY = "hf_keyOfTheRecipe"


@pytest.fixture
def hosted(chat_server, tmp_path, monkeypatch):
    """The Hub, its router and an LLM, all on one scripted server; asks the LLM one thing."""
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setattr(constants, "ENDPOINT", chat_server.root)
    monkeypatch.setattr(constants, "INFERENCE_PROXY_TEMPLATE", f"{chat_server.root}/{{provider}}")

    def ask(asked=None, **settings):
        config = LlmConfig(**{"api_key_env": "MY_KEY", "answers_as": "scripted", "attempts": 1, **settings})
        with CallStore(tmp_path / "calls.sqlite") as store:
            llm = Llm(config, store, lambda: Endpoint(None, config.model, config.provider))
            return ask_all(llm, "test", [asked or request()])[0]

    return ask


def serve_by(server, model, provider, task="conversational"):
    """Puts on the Hub who serves a model; each test needs a model of its own, the client remembers them."""
    mapping = {provider: {"status": "live", "providerId": f"inside/{model.partition('/')[2]}-turbo", "task": task}}
    server.pages[f"/api/models/{model}"] = (200, {"id": model, "inferenceProviderMapping": mapping})


def test_a_provider_is_asked_through_the_router_with_the_recipes_key(hosted, chat_server):
    serve_by(chat_server, "acme/one", "together")
    assert hosted(model="acme/one", provider="together").text == "an answer"
    assert chat_server.paths == ["/together/v1/chat/completions"]
    assert chat_server.bodies[0]["model"] == "inside/one-turbo"
    assert authorizations(chat_server) == [f"Bearer {KEY}"]
    assert CANARY not in json.dumps([chat_server.headers, chat_server.bodies])


@pytest.mark.parametrize(
    ("model", "provider", "words"),
    [
        ("acme/two", "groq", "acme/two is not supported by provider groq"),
        ("acme/two", "nobody", "'nobody' not supported"),
        ("acme/image", "together", "not supported for task conversational"),
        ("acme/unserved", "together", "No provider mapping found for model acme/unserved"),
    ],
)
def test_a_model_that_a_provider_does_not_serve(hosted, chat_server, model, provider, words):
    serve_by(chat_server, "acme/two", "together")
    serve_by(chat_server, "acme/image", "together", "text-to-image")
    chat_server.pages["/api/models/acme/unserved"] = (200, {"id": "acme/unserved"})
    with pytest.raises(UserError, match=rf"llm\.provider: .*{words}.*see the model's page on the Hub"):
        hosted(model=model, provider=provider)
    assert not chat_server.bodies


def test_a_model_that_the_hub_does_not_know(hosted, chat_server):
    with pytest.raises(UserError, match=r"provider together, model acme/none: answered 404.*check .*llm\.model"):
        hosted(model="acme/none", provider="together")
    assert not chat_server.bodies
