"""Every kind of server as a real HTTP server sees it: what arrives, what is made of its answer, whose key it gets."""

import asyncio
import json
import time

import pytest
from huggingface_hub import AsyncInferenceClient, constants

from builders.llm.chat import ChatRequest, Endpoint, Llm, answer_of, body_of
from builders.llm.config import LlmConfig
from builders.llm.lines import endpoints_of, open_line
from builders.llm.pressure import failure_of
from builders.llm.store import CallStore
from builders.llm.wires import WIRES
from builders.prompts import answer_schema
from foils.errors import UserError
from tests.chat_server import completion
from tests.conftest import CANARY

MESSAGES = [
    {"role": "system", "content": "Write queries."},
    {"role": "user", "content": "Passage: owls"},
    {"role": "assistant", "content": "what are owls?"},
    {"role": "user", "content": "Passage: eels"},
]
AS_ONE_TEXT = "Write queries.\n\nPassage: owls\nAnswer: what are owls?\n\nPassage: eels\nAnswer:"
SCHEMA = answer_schema(1)
BY_OPENAI = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
THINKS_NOT = {"chat_template_kwargs": {"enable_thinking": False}}

SAMPLING = {"max_tokens": 9, "temperature": 0.5, "seed": 7}
CHAT = {"model": "scripted", "messages": MESSAGES, **SAMPLING, "stop": ["\n"], "stream": False, "top_p": 0.9}
GENERATE = {
    "inputs": AS_ONE_TEXT,
    "parameters": {
        "details": True,
        "do_sample": True,
        "grammar": {"type": "json", "value": SCHEMA},
        "max_new_tokens": 9,
        "return_full_text": False,
        "seed": 7,
        "stop": ["\n", "\n\n"],
        "temperature": 0.5,
        "top_p": 0.9,
    },
    "stream": False,
}
COMPLETE = {"model": "scripted", "prompt": AS_ONE_TEXT, **SAMPLING, "stop": ["\n", "\n\n"], "top_p": 0.9}
ARRIVES = {
    "openai": ("/v1/chat/completions", {**CHAT, "response_format": BY_OPENAI}),
    "vllm": ("/v1/chat/completions", {**CHAT, "structured_outputs": {"json": SCHEMA}, **THINKS_NOT}),
    "tgi": ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_object", "value": SCHEMA}}),
    "tgi-generate": ("/", GENERATE),
    "llama.cpp": ("/v1/chat/completions", {**CHAT, "response_format": BY_OPENAI, **THINKS_NOT}),
    "transformers": ("/v1/chat/completions", {**CHAT, **THINKS_NOT}),
    "completions": ("/v1/completions", COMPLETE),
}
CHATS = [kind for kind, (path, _) in ARRIVES.items() if path == "/v1/chat/completions"]


def request(**changes):
    asked = {"messages": tuple(MESSAGES), "max_tokens": 9, "temperature": 0.5, "seed": 7, "stop": ("\n",), **changes}
    return ChatRequest(**asked)


def answered(kind, text, finish_reason="stop", **message):
    """A server's whole answer, in the form that its kind has."""
    if kind == "tgi-generate":
        value = [{"generated_text": text, "details": {"finish_reason": finish_reason, "generated_tokens": 3}}]
    elif kind == "completions":
        value = completion(text, finish_reason)
        value["choices"] = [{"index": 0, "finish_reason": finish_reason, "text": text}]
    else:
        value = completion(text, finish_reason)
        value["choices"][0]["message"].update(message)
    return 200, {"Content-Type": "application/json", "X-Prompt-Tokens": "7"}, json.dumps(value)


class Ears:
    """A watch that keeps the statuses."""

    def __init__(self):
        self.statuses = []

    def heard(self, status, headers):
        assert headers
        self.statuses.append(status)


@pytest.fixture
def send(chat_server):
    """Sends one request over a wire, and returns what the store would keep."""

    def run(kind, asked, watch=None, **settings):
        config = LlmConfig(**{"base_url": chat_server.url, "model": "scripted", "server": kind, **settings})

        async def exchange():
            line = open_line(config, Endpoint(config.base_urls[0], config.model))
            async with line.client:
                return await WIRES[kind].send(line, body_of(asked, config), watch or Ears())

        return asyncio.run(exchange())

    return run


@pytest.fixture
def failure(send, chat_server):
    """What the calling loop makes of an answer that is none."""

    def run(kind, script, **settings):
        chat_server.script = script
        try:
            kept = send(kind, request(), **settings)
        except Exception as error:  # noqa: BLE001 - which one is the wire's business
            return failure_of(error)
        pytest.fail(f"taken for an answer: {kept}")

    return run


def test_no_kind_is_left_out():
    assert list(ARRIVES) == list(WIRES)


@pytest.mark.parametrize("kind", WIRES)
def test_what_arrives(send, chat_server, kind):
    chat_server.script = lambda *_: answered(kind, "what are eels?")
    watch = Ears()
    thinking = False if WIRES[kind].no_thinking else None
    kept = send(kind, request(schema=SCHEMA), watch, thinking=thinking, extra_body={"top_p": 0.9})
    path, body = ARRIVES[kind]
    assert (chat_server.paths, chat_server.bodies) == ([path], [body])
    assert {name.lower(): value for name, value in chat_server.headers[0].items()}["content-type"] == "application/json"
    assert watch.statuses == [200]
    named = {} if kind == "tgi-generate" else {"model": "scripted"}
    assert kept == {
        "text": "what are eels?",
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        **named,
    }


@pytest.mark.parametrize("kind", WIRES)
def test_what_is_not_asked_for_does_not_arrive(send, chat_server, kind):
    chat_server.script = lambda *_: answered(kind, "what are eels?")
    send(kind, request(stop=(), temperature=0.0))
    (body,) = chat_server.bodies
    if kind == "tgi-generate":  # it refuses a temperature of 0
        assert body["parameters"] == {
            "details": True,
            "do_sample": False,
            "max_new_tokens": 9,
            "return_full_text": False,
            "seed": 7,
            "stop": ["\n\n"],
        }
    else:
        wanted = {"model", "prompt", "stop"} if kind == "completions" else {"model", "messages", "stream"}
        assert set(body) == wanted | set(SAMPLING)
        assert body["temperature"] == 0.0


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_slash_at_the_end_of_the_address_changes_nothing(send, chat_server, kind, slash):
    chat_server.script = lambda *_: answered(kind, "x")
    send(kind, request(), base_url=chat_server.url + slash)
    assert chat_server.paths == [ARRIVES[kind][0]]


def test_generate_is_found_at_the_root_too(send, chat_server):
    chat_server.script = lambda *_: answered("tgi-generate", "x")
    send("tgi-generate", request(), base_url=chat_server.root)
    assert chat_server.paths == ["/"]


@pytest.mark.parametrize("kind", WIRES)
def test_a_cut_answer_is_marked(send, chat_server, kind):
    chat_server.script = lambda *_: answered(kind, "what are", "length")
    assert send(kind, request())["finish_reason"] == "length"


@pytest.mark.parametrize("kind", WIRES)
def test_what_comes_after_a_stop_string_is_no_answer(send, chat_server, kind):
    """`transformers serve` does not look for them, TGI leaves them in."""
    chat_server.script = lambda *_: answered(kind, " what are eels?\nPassage: bees", "length")
    kept = send(kind, request())
    assert (kept["text"], kept["finish_reason"]) == (" what are eels?", "stop")


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}])
@pytest.mark.parametrize("kind", [*CHATS, "completions"])
def test_a_server_that_counts_no_tokens(send, chat_server, kind, usage):
    def uncounted(*_):
        status, headers, text = answered(kind, "x")
        return status, headers, json.dumps({**json.loads(text), "usage": usage})

    chat_server.script = uncounted
    kept = send(kind, request())
    assert (kept["prompt_tokens"], kept["completion_tokens"]) == (None, None)


@pytest.mark.parametrize(
    ("headers", "value", "tokens"),
    [
        ({"x-prompt-tokens": "12"}, [{"generated_text": "x", "details": {"generated_tokens": 4}}], (12, 4)),
        ({}, {"generated_text": "x", "details": {"generated_tokens": 4}}, (None, 4)),
        ({"x-prompt-tokens": "many"}, {"generated_text": "x", "details": None}, (None, None)),
    ],
)
def test_generate_counts_in_a_header_if_at_all(send, chat_server, headers, value, tokens):
    chat_server.script = lambda *_: (200, headers, json.dumps(value))
    kept = send("tgi-generate", request())
    assert (kept["text"], kept["prompt_tokens"], kept["completion_tokens"]) == ("x", *tokens)


@pytest.mark.parametrize("kind", CHATS)
@pytest.mark.parametrize("place", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_model_that_only_thinks(send, chat_server, kind, place, content):
    chat_server.script = lambda *_: answered(kind, content, "length", **{place: "Let me think about eels."})
    assert answer_of("key", {**send(kind, request(stop=())), "seconds": 0.1}).only_reasoning


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>\nEels, then.\n</think>\n\nwhat are eels?", "what are eels?"),
        ("\n<thinking>Eels.</thinking>what are eels?", "what are eels?"),
        ("<think>\nEels are", ""),
    ],
)
def test_thoughts_in_the_text_are_taken_out(send, chat_server, kind, text, said):
    chat_server.script = lambda *_: answered(kind, text)
    answer = answer_of("key", {**send(kind, request()), "seconds": 0.1})
    assert (answer.text, answer.only_reasoning) == (said, not said)


NO_ANSWERS = {
    "cut JSON": lambda kind: answered(kind, "half of it")[2][:-9],
    "HTML": lambda _: "<html>welcome</html>",
    "nothing": lambda _: "",
    "an empty object": lambda _: "{}",
    "an empty list": lambda _: "[]",
    "no choices": lambda _: '{"choices": []}',
    "an empty choice": lambda _: '{"choices": [{}]}',
    "bytes": lambda _: '{"choices": "\udcff"}',
}


@pytest.mark.parametrize("what", NO_ANSWERS)
@pytest.mark.parametrize("kind", WIRES)
def test_what_is_no_answer_is_a_failure_that_is_tried_again(failure, kind, what):
    def raw(handler):
        data = NO_ANSWERS[what](kind).encode("utf-8", "surrogateescape")
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    found = failure(kind, lambda *_: raw)
    assert found.words == "answered with something other than a chat completion"
    assert not found.refused


BUSY = {"error": "Model is overloaded", "error_type": "overloaded"}  # as TGI says it
WRONG = {"error": "Input validation error: too long", "error_type": "validation"}


@pytest.mark.parametrize("kind", WIRES)
def test_a_busy_server_is_told_from_a_wrong_request(failure, kind):
    found = failure(kind, lambda *_: (429, {"Retry-After": "1"}, json.dumps(BUSY)))
    assert (found.status, found.pushed_back, found.asked_to_wait, found.refused) == (429, True, True, False)
    found = failure(kind, lambda *_: (422, {}, json.dumps(WRONG)))
    assert (found.status, found.of_request, found.refused) == (422, True, True)
    assert "Input validation error: too long" in found.words


@pytest.mark.parametrize("kind", WIRES)
def test_a_server_that_does_not_answer_in_time(failure, kind):
    found = failure(kind, lambda *_: time.sleep(0.6) or "late", timeout_s=0.1)
    assert (found.words, found.pushed_back) == ("did not answer in time", True)


# Keys


def authorizations(server):
    return [{name.lower(): value for name, value in sent.items()}.get("authorization") for sent in server.headers]


@pytest.mark.parametrize("kind", WIRES)
def test_the_hub_token_reaches_no_server(send, chat_server, monkeypatch, kind):
    chat_server.script = lambda *_: answered(kind, "x")
    monkeypatch.setenv("MY_KEY", "sk-mine")
    send(kind, request())
    send(kind, request(), api_key_env="MY_KEY")
    assert authorizations(chat_server) == ["Bearer none-needed", "Bearer sk-mine"]
    assert CANARY not in json.dumps([chat_server.headers, chat_server.bodies, chat_server.paths])


def test_without_a_key_of_ours_the_hub_token_would_reach_it(chat_server):
    """So the test above can fail."""

    async def careless():
        async with AsyncInferenceClient(base_url=chat_server.url) as client:
            await client.chat_completion(MESSAGES, model="scripted")

    asyncio.run(careless())
    assert authorizations(chat_server) == [f"Bearer {CANARY}"]


# Hosted: providers and Inference Endpoints

KEY = "hf_keyOfTheRecipe"


@pytest.fixture
def hosted(chat_server, tmp_path, monkeypatch):
    """The Hub, its router, its endpoints and an LLM, all on one scripted server; asks the LLM one thing."""
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setattr(constants, "ENDPOINT", chat_server.root)
    monkeypatch.setattr(constants, "INFERENCE_PROXY_TEMPLATE", f"{chat_server.root}/{{provider}}")
    monkeypatch.setattr(constants, "INFERENCE_ENDPOINTS_ENDPOINT", f"{chat_server.root}/endpoints")

    def ask(asked=None, **settings):
        config = LlmConfig(**{"api_key_env": "MY_KEY", "answers_as": "scripted", "attempts": 1, **settings})
        with CallStore(tmp_path / "calls.sqlite") as store:
            return Llm(config, store, lambda: endpoints_of(config)).ask("test", [asked or request()])[0]

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
    ("provider", "form"),
    [
        ("together", {"type": "json_schema", "schema": SCHEMA}),
        ("fireworks-ai", {"type": "json_object", "schema": SCHEMA}),
        ("groq", BY_OPENAI),
    ],
)
def test_a_provider_gets_the_schema_in_its_own_form(hosted, chat_server, provider, form):
    model = f"acme/schema-{provider}"
    serve_by(chat_server, model, provider)
    hosted(request(schema=SCHEMA), model=model, provider=provider, extra_body={"top_p": 0.9})
    assert (chat_server.bodies[0]["response_format"], chat_server.bodies[0]["top_p"]) == (form, 0.9)


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


def endpoint(server, state="running", repository="acme/model", url=True):
    """Puts an Inference Endpoint where the client looks for it."""
    about = {"state": state, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"}
    value = {
        "name": "mine",
        "type": "protected",
        "healthRoute": "/health",
        "model": {"repository": repository, "framework": "pytorch", "revision": "main", "task": "text-generation"},
        "status": {**about, "url": server.root} if url else about,
    }
    server.pages["/endpoints/endpoint/acme/mine"] = (200, value)


@pytest.mark.parametrize("kind", WIRES)
def test_a_running_inference_endpoint_is_asked(hosted, chat_server, kind):
    chat_server.script = lambda *_: answered(kind, "yes")
    endpoint(chat_server)
    assert hosted(model="acme/model", endpoint="acme/mine", server=kind).text == "yes"
    assert chat_server.paths == [ARRIVES[kind][0]]
    ((path, headers),) = chat_server.gets
    assert (path, headers["authorization"]) == ("/endpoints/endpoint/acme/mine", f"Bearer {KEY}")
    assert authorizations(chat_server) == [f"Bearer {KEY}"]
    assert CANARY not in json.dumps([chat_server.headers, chat_server.gets])


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"state": "paused", "url": False}, "it is paused; start it"),
        ({"repository": "acme/another"}, "it serves acme/another; set llm.model to that"),
        (None, "answered 404; check the name, and that llm.api_key_env names a Hub token"),
    ],
)
def test_an_inference_endpoint_that_cannot_be_asked(hosted, chat_server, state, words):
    if state is not None:
        endpoint(chat_server, **state)
    with pytest.raises(UserError, match=f"llm.endpoint acme/mine: {words}"):
        hosted(model="acme/model", endpoint="acme/mine")
    assert not chat_server.bodies


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
CONTENTS = {
    "a text in a list": [{"type": "text", "text": "what are eels?"}],
    "thoughts beside it": [THOUGHT, {"type": "text", "text": "what are eels?"}],
    "texts as they are": ["what are ", "eels?"],
    "the other name": [{"type": "output_text", "text": "what are eels?"}],
    "a text in a text": [{"type": "text", "text": {"value": "what are eels?"}}],
    "one part": {"type": "text", "text": "what are eels?"},
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_content_in_parts_is_its_texts(send, chat_server, content):
    chat_server.script = lambda *_: answered("openai", content)
    assert send("openai", request(stop=()))["text"] == "what are eels?"


def test_a_content_of_thoughts_alone_is_only_reasoning(send, chat_server):
    chat_server.script = lambda *_: answered("openai", [THOUGHT], "length")
    assert answer_of("key", {**send("openai", request(stop=())), "seconds": 0.1}).only_reasoning


def test_a_refusal_in_its_own_field_is_the_text(send, chat_server):
    chat_server.script = lambda *_: answered("openai", None, refusal="I can't help with that.")
    assert send("openai", request())["text"] == "I can't help with that."


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 70.0, "completion_tokens": "12"}, (70, 12)),
        ({"prompt_tokens": None, "completion_tokens": "many"}, (None, None)),
        ({"prompt_tokens": {"text": 70}, "completion_tokens": [12]}, (None, None)),
        ("none", (None, None)),
        (None, (None, None)),
        ([], (None, None)),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, (None, None)),
    ],
)
def test_what_is_not_needed_spoils_no_answer(send, chat_server, usage, tokens):
    message = {"content": "what are eels?", "reasoning": {"effort": "low"}, "reasoning_content": ["Hm."], "refusal": 0}
    whole = {"choices": [{"message": message, "finish_reason": 3}], "usage": usage, "model": ["scripted"], "id": 7}
    chat_server.script = lambda *_: (200, {}, "\ufeff" + json.dumps(whole))
    kept = send("openai", request())
    assert (kept["text"], kept["finish_reason"]) == ("what are eels?", "stop")
    assert (kept["prompt_tokens"], kept["completion_tokens"]) == tokens
    assert "model" not in kept
    assert "only_reasoning" not in kept


def test_details_of_generate_may_be_anything(send, chat_server):
    chat_server.script = lambda *_: (200, {}, json.dumps({"generated_text": "eels", "details": "none"}))
    assert send("tgi-generate", request())["text"] == "eels"
