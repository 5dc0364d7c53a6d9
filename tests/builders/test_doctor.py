"""The endpoint doctor against servers of many sorts, each a real one on loopback."""

import json
import re
import sys
import time

import pytest

from builders.doctor.examine import WIDTH, examine
from builders.recipe import BuildRecipe
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.chat_server import ChatServer, about_animals, completion
from tests.fixtures import commands

KEY = "sk-canaryThatNoLineMayHold"
HEADERS = {"Content-Type": "application/json"}
LISTED = (200, {"object": "list", "data": [{"id": "scripted", "object": "model", "owned_by": "somebody"}]})


def reply(text="", status=200, headers=None, **about):
    """A completion, or an error with a message."""
    answer = {"error": {"message": text}} if status != 200 else completion(text)
    return status, HEADERS | (headers or {}), json.dumps(answer | about)


healthy = about_animals


class Table:
    """What the doctor printed."""

    def __init__(self, lines, error):
        self.text = "\n".join(lines)
        self.error = error
        self.rows = {}
        for line in self.text.splitlines():
            found = re.match(r"([A-Za-z ]+?) +(ok|warning|failed|not tried)(?: +(.*))?$", line)
            if found:
                name = found[1]
                self.rows[name] = [found[2], found[3] or ""]
            elif line.startswith("      ") and self.rows:
                self.rows[name][1] += " " + line.strip()

    def status(self, name):
        return self.rows[name][0]

    def found(self, name):
        return self.rows[name][1]


@pytest.fixture
def doctor(write_recipe, chat_server):
    """Runs the doctor on the recipe of the animals, and checks what holds of every table."""

    def run(*overrides):
        config = load_recipe(write_recipe(), ["llm.concurrency=4", *overrides], BuildRecipe).config
        lines, error = [], None
        chat_server.bodies.clear()
        chat_server.headers.clear()
        try:
            examine(config, lines.append)
        except UserError as problem:
            error = str(problem)
        table = Table(lines, error)
        assert max(map(len, table.text.splitlines())) <= WIDTH
        assert (error is not None) == any(status == "failed" for status, _ in table.rows.values())
        assert KEY not in table.text
        most = int(re.search(r"at most (\d+) calls", lines[0])[1])
        assert len(chat_server.bodies) <= most
        return table

    chat_server.pages["/v1/models"] = LISTED
    chat_server.model = "scripted"
    return lambda *overrides, script=healthy: setattr(chat_server, "script", script) or run(*overrides)


def test_a_healthy_server(doctor, chat_server):
    table = doctor()
    assert table.error is None
    assert {status for status, _ in table.rows.values()} == {"ok"}
    assert list(table.rows) == ["reachable", "key", "model", "answers", "longest prompt", "speed", "cost"]
    assert '3 of 3 usable, the first: "what about the animal' in table.found("answers")
    assert "7 tokens read, 3 written" in table.found("answers")
    assert "4 at once" in table.found("speed")
    assert f"{len(chat_server.bodies)} answers" in table.found("cost")
    assert table.text.endswith("The recipe can run as it is; 0 warnings.")


def test_the_doctors_own_calls_cost(doctor, chat_server):
    table = doctor("llm.prices.input=100", "llm.prices.output=1000", "llm.prices.currency=EUR")
    calls = len(chat_server.bodies)
    assert f"{calls * (7 * 100 + 3 * 1000) / 1e6:.4f} EUR" in table.found("cost")


def test_a_server_that_is_down(doctor):
    table = doctor("llm.base_url=http://127.0.0.1:9/v1")
    assert table.status("reachable") == "failed"
    assert "cannot be reached (Connection refused)" in table.found("reachable")
    assert list(table.rows) == ["reachable", "cost"]
    assert "failed: reachable" in table.error


@pytest.mark.parametrize("open_listing", [True, False])
def test_a_server_that_wants_a_key(doctor, chat_server, write_recipe, monkeypatch, open_listing):
    def guarded(body, number):
        if chat_server.headers[number].get("Authorization", chat_server.headers[number].get("authorization")) != (
            f"Bearer {KEY}"
        ):
            return reply("wrong key " + KEY, 401)
        return healthy(body, number)

    if not open_listing:
        chat_server.pages["/v1/models"] = (401, {"error": "no"})
    table = doctor(script=guarded)
    assert table.status("key") == "failed"
    assert "answered 401, and the recipe names no key -> set llm.api_key_env" in table.found("key")
    monkeypatch.setenv("CANARY_KEY", "another")
    table = doctor("llm.api_key_env=CANARY_KEY", script=guarded)
    assert "answered 401 to the key in CANARY_KEY" in table.found("key")
    monkeypatch.delenv("CANARY_KEY")
    with pytest.raises(UserError, match="variable CANARY_KEY is not set"):
        examine(load_recipe(write_recipe(), ["llm.api_key_env=CANARY_KEY"], BuildRecipe).config)
    monkeypatch.setenv("CANARY_KEY", KEY)
    table = doctor("llm.api_key_env=CANARY_KEY", script=guarded)
    assert table.status("key") == "ok"
    assert table.error is None


def test_a_key_that_the_server_repeats_is_not_printed(doctor, monkeypatch):
    monkeypatch.setenv("CANARY_KEY", KEY)

    def repeats(body, number):
        text = healthy(body, number)
        return reply(f"what about {KEY} {text}", model=f"model-of-{KEY}")

    table = doctor("llm.api_key_env=CANARY_KEY", script=repeats)
    assert "what about ***" in table.text


def test_a_model_that_is_not_served(doctor, chat_server):
    names = ["Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-72B-Instruct"]
    chat_server.pages["/v1/models"] = (200, {"data": [{"id": name} for name in names]})
    table = doctor("llm.model=Qwen/Qwen2.5-7B-Instuct", script=lambda *_: reply("no such model", 404))
    assert table.status("model") == "failed"
    assert all(name in table.text for name in names)
    assert "set llm.model to one of them" in table.found("model")
    assert table.status("answers") == "failed"
    assert "speed" not in table.rows


def test_a_model_that_answers_under_another_name(doctor):
    table = doctor("llm.model=my-model")
    assert table.status("model") == "failed"
    assert "llm.answers_as = 'scripted'" in table.found("model")
    assert doctor("llm.model=my-model", "llm.answers_as=scripted").status("model") == "ok"


def test_no_usage_figures(doctor):
    table = doctor(script=lambda body, n: reply(healthy(body, n), usage=None))
    assert "guessed from bytes" in table.found("answers")
    assert table.error is None


@pytest.mark.parametrize("limit", [1, 500])
def test_a_context_that_is_too_short(doctor, write_corpus, limit):
    facts = [("long", "Long", "word " * 600), *((f"s{n}", f"T{n}", f"Short fact {n} is here.") for n in range(9))]
    source = write_corpus(facts, "mixed")

    def short(body, _):
        tokens = sum(len(turn["content"]) for turn in body["messages"]) // 4
        if tokens > limit:
            return reply(f"maximum context length is {limit} tokens", 400)
        usage = {"prompt_tokens": tokens, "completion_tokens": 5}
        return reply("what is this short fact about?", usage=usage)

    table = doctor(f"corpus.source={source}", "corpus.sample=0", "queries.passage_chars=2500", script=short)
    assert table.status("longest prompt") == "failed"
    assert f"maximum context length is {limit} tokens" in table.found("longest prompt")
    assert "lower passage_chars or max_tokens of [queries]" in table.found("longest prompt")
    if limit > 1:
        overrides = (f"corpus.source={source}", "corpus.sample=0", "queries.passage_chars=500")
        assert doctor(*overrides, script=short).status("longest prompt") == "ok"


def test_a_server_that_refuses_many_at_once(doctor, chat_server):
    def busy(body, number):
        if chat_server.in_flight > 4:
            return reply("slow down", 429, {"Retry-After": "3", "X-RateLimit-Limit": "4"})
        time.sleep(0.1)
        return healthy(body, number)

    table = doctor("llm.concurrency=16", script=busy)
    assert table.status("speed") == "warning"
    assert "answered 429" in table.found("speed")
    assert "try a lower llm.concurrency" in table.found("speed")
    assert table.error is None


def thinks(body, _, needs=10**6):
    off = body.get("chat_template_kwargs", {}).get("enable_thinking") is False
    text = "what do owls hunt at night?" if off or body["max_tokens"] > needs else None
    message = {"role": "assistant", "content": text, "reasoning_content": "Hm."}
    return reply(choices=[{"index": 0, "finish_reason": "stop" if text else "length", "message": message}])


def test_thoughts_without_an_answer(doctor):
    table = doctor(script=thinks)
    assert table.status("answers") == "failed"
    assert "set llm.thinking to false, or to true with a larger queries.max_tokens" in table.found("answers")
    assert doctor("llm.thinking=false", script=thinks).status("answers") == "ok"
    room = lambda body, n: thinks(body, n, needs=1000)  # noqa: E731
    assert doctor("llm.thinking=true", "queries.max_tokens=2000", script=room).status("answers") == "ok"


def test_answers_that_no_stage_can_use(doctor):
    table = doctor(script=lambda *_: "no\x1b[2J")
    assert table.status("answers") == "warning"
    assert "too-short, too-short, too-short" in table.found("answers")
    assert "\x1b" not in table.text
    assert doctor(script=lambda *_: " ").status("answers") == "failed"


def test_something_else_than_a_chat_server(doctor, chat_server):
    chat_server.pages.clear()
    table = doctor(script=lambda *_: (200, {"Content-Type": "text/html"}, "<html>hello</html>"))
    assert table.status("answers") == "failed"
    assert "something other than a chat completion" in table.found("answers")


def test_a_slow_server_is_not_waited_for_long(doctor):
    started = time.monotonic()
    table = doctor("llm.timeout_s=0.2", script=lambda body, n: time.sleep(0.5) or healthy(body, n))
    assert time.monotonic() - started < 5
    assert "did not answer in time" in table.found("answers")
    assert "speed" not in table.rows


def test_the_command(write_recipe, tmp_path):
    with ChatServer() as server:
        server.script = healthy
        server.model = "scripted"
        server.pages["/v1/models"] = LISTED
        command = [
            *(sys.executable, "-m", "builders.build", str(write_recipe()), "--doctor"),
            *("--set", f"llm.base_url={server.url}", "--set", "llm.concurrency=2"),
        ]
        good = commands.run(command, capture_output=True, text=True, check=False)
        bad = commands.run([*command, "--set", "llm.model=x"], capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("The doctor makes at most ")
    assert bad.returncode == 2
    assert "reachable       ok" in bad.stdout
    assert "\nerror: the recipe cannot run as it is: failed: model;" in bad.stderr
    assert not (tmp_path / "calls.sqlite").exists()


def test_the_embedded_llm(animals, tmp_path):
    path = tmp_path / "embedded.toml"
    path.write_text(f'name = "e"\n[corpus]\nsource = "{animals}"\n[queries]\nround_trip_k = 3\nmax_tokens = 16\n')
    config = load_recipe(path, ["llm.concurrency=1", "negatives.kinds=['bm25']"], BuildRecipe).config
    lines = []
    examine(config, lines.append)
    table = Table(lines, None)
    assert table.status("key") == table.status("model") == table.status("speed") == "ok"


def labelled(tmp_path, *overrides):
    (tmp_path / "given" / "qrels").mkdir(parents=True, exist_ok=True)
    (tmp_path / "given" / "queries.jsonl").write_text('{"_id": "q1", "text": "who hunts at night"}\n')
    (tmp_path / "given" / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\towl\t1\n")
    return (f'queries.source="{tmp_path / "given"}"', "corpus.sample=300", *overrides)


def test_a_build_with_labelled_queries_is_tried_by_what_it_asks(doctor, chat_server, tmp_path):
    table = doctor(*labelled(tmp_path))
    assert table.error is None
    assert table.status("answers") == "ok"
    assert table.found("longest prompt").startswith("llm, ")
    asked = [body["messages"][-1]["content"] for body in chat_server.bodies]
    assert "Query: who hunts at night" in asked
    assert not [text for text in asked if text.startswith("Passage:")]

    table = doctor(*labelled(tmp_path), script=lambda *_: reply(**cut("Owls hunt")))
    assert "set negatives.llm.max_tokens higher" in table.found("answers")


def test_a_build_that_only_judges_is_tried_by_pairs(doctor, chat_server, tmp_path):
    rule = 'selection.kinds.bm25.ceiling={"llm-judge"=0.5}'
    kinds = 'negatives.kinds=["bm25"]'
    table = doctor(*labelled(tmp_path, kinds, rule), script=lambda body, n: healthy(body, n) if n < 0 else "yes")
    assert table.status("answers") == "ok"
    assert table.found("longest prompt").startswith("llm-judge, ")
    assert chat_server.bodies[0]["messages"][-1]["content"].startswith("Query: who hunts at night\nPassage: ")


def cut(text):
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "finish_reason": "length", "message": message}]}
