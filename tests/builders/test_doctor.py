"""The endpoint doctor against servers of many sorts, each a real one on loopback."""

import json
import re
import sys
import time
from contextlib import suppress
from functools import partial

import pytest

from builders.doctor.examine import WIDTH
from builders.recipe import BuildRecipe
from builders.steps import examined
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.chat_server import ChatServer, about_animals, completion, last_user_message
from tests.fixtures import commands
from tests.fixtures.tasks import task_folder

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
            found = re.match(r"([A-Za-z -]+?) +(ok|warning|failed|not tried)(?: +(.*))?$", line)
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
            examined(config, lines.append)
        except UserError as problem:
            error = str(problem)
        table = Table(lines, error)
        assert max(map(len, table.text.splitlines())) <= WIDTH
        assert (error is not None) == any(status == "failed" for status, _ in table.rows.values())
        assert KEY not in table.text
        return table

    chat_server.pages["/v1/models"] = LISTED
    chat_server.model = "scripted"
    return lambda *overrides, script=healthy: setattr(chat_server, "script", script) or run(*overrides)


def test_a_healthy_server(doctor, chat_server):
    table = doctor()
    assert table.error is None
    assert {status for status, _ in table.rows.values()} == {"ok"}
    assert list(table.rows) == ["reachable", "key", "model", "queries", "round trip", "llm", "calls"]
    assert "8 of 8 usable, the first: 'what about the animal" in table.found("queries")
    assert "7 tokens read, 3 written" in table.found("queries")
    assert "8 of 8 queries find their passage" in table.found("round trip")
    assert "8 of 8 usable, the first: 'Written for: " in table.found("llm")
    assert "up to 4 at once" in table.found("calls")
    assert table.found("calls").startswith(f"{len(chat_server.bodies)}, ")
    assert table.text.endswith("The recipe can run as it is; warnings: 0.")


def test_the_doctors_own_calls_cost(doctor, chat_server):
    table = doctor("llm.prices.input=100", "llm.prices.output=1000", "llm.prices.currency=EUR")
    calls = len(chat_server.bodies)
    assert f"{calls * (7 * 100 + 3 * 1000) / 1e6:.4f} EUR" in table.found("calls")


def test_a_server_that_is_down(doctor):
    table = doctor("llm.base_url=http://127.0.0.1:9/v1")
    assert table.status("reachable") == "failed"
    assert "cannot be reached (Connection refused)" in table.found("reachable")
    assert list(table.rows) == ["reachable"]


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
    assert (
        "answered 401 (key refused): wrong key *** -> the recipe names no key: set llm.api_key_env"
        in table.text.replace("\n                           ", " ")
    )
    monkeypatch.setenv("CANARY_KEY", "another")
    table = doctor("llm.api_key_env=CANARY_KEY", script=guarded)
    assert "check the value of CANARY_KEY" in table.found("key")
    monkeypatch.delenv("CANARY_KEY")
    with pytest.raises(UserError, match="variable CANARY_KEY is not set"):
        examined(load_recipe(write_recipe(), ["llm.api_key_env=CANARY_KEY"], BuildRecipe).config)
    monkeypatch.setenv("CANARY_KEY", KEY)
    table = doctor("llm.api_key_env=CANARY_KEY", script=guarded)
    assert table.status("key") == "ok"
    assert table.error is None


def test_a_key_that_the_server_repeats_is_not_printed(doctor, monkeypatch):
    monkeypatch.setenv("CANARY_KEY", KEY)

    def repeats(body, number):
        text = healthy(body, number)
        return reply(f"what about {KEY} {text}", model=f"model-of-{KEY}")

    table = doctor("llm.api_key_env=CANARY_KEY", "llm.answers_as=model-of-" + KEY, script=repeats)
    assert "what about ***" in table.text


def test_a_model_that_is_not_served(doctor, chat_server):
    names = ["Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-72B-Instruct"]
    chat_server.pages["/v1/models"] = (200, {"data": [{"id": name} for name in names]})
    table = doctor("llm.model=Qwen/Qwen2.5-7B-Instuct", script=lambda *_: reply("no such model", 404))
    assert table.status("model") == "failed"
    assert all(name in table.text for name in names)
    assert "set llm.model to one of them" in table.found("model")
    assert list(table.rows) == ["reachable", "model"]


def test_a_model_that_answers_under_another_name(doctor):
    table = doctor("llm.model=my-model")
    assert table.status("model") == "failed"
    assert "llm.answers_as = 'scripted'" in table.found("model")
    assert doctor("llm.model=my-model", "llm.answers_as=scripted").status("model") == "ok"


def test_no_usage_figures(doctor):
    table = doctor(script=lambda body, n: reply(healthy(body, n), usage=None))
    assert "guessed from bytes" in table.found("queries")
    assert table.error is None


REFUSED = {
    "max_tokens": lambda body: "max_tokens" in body,
    "max_completion_tokens": lambda body: "max_completion_tokens" in body,
    "temperature": lambda body: body.get("temperature", 1) != 1,
    "seed": lambda body: "seed" in body,
    "stop": lambda body: "stop" in body,
    "stream": lambda body: "stream" in body,
    "system": lambda body: body["messages"][0]["role"] == "system",
}


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    ("refused", "fields"),
    [
        (["max_tokens"], 'max_tokens = "max_completion_tokens"'),
        (["max_tokens", "max_completion_tokens"], "max_tokens = false"),
        (["seed"], "seed = false"),
        (["temperature", "max_tokens"], 'max_tokens = "max_completion_tokens", temperature = false'),
        (["stop", "seed", "system", "stream"], "seed = false, stop = false, stream = false, system = false"),
    ],
)
def test_fields_that_are_refused_are_found_out_and_the_recipe_then_passes(doctor, refused, fields, status):
    def picky(body, number):
        objections = [name for name in refused if REFUSED[name](body)]
        if not objections:
            return healthy(body, number)
        words = f"'{objections[0]}' is not supported" if status == 400 else "a field is not permitted"
        if status == 400:
            return reply(words, 400)
        detail = [{"loc": ["body", name], "msg": "Extra inputs are not permitted"} for name in objections]
        return 422, HEADERS, json.dumps({"detail": detail})

    table = doctor(script=picky)
    assert (table.status("fields"), table.status("llm")) == ("failed", "ok")
    assert table.found("fields").endswith(f"-> put into [llm]: fields = {{ {fields} }}")
    table = doctor(f"llm.fields={{ {fields} }}", script=picky)
    assert (table.error, "fields" in table.rows) == (None, False)


def test_an_objection_that_no_field_is_behind(doctor):
    table = doctor("llm.extra_body.top_k=5", script=lambda _, n: reply(f"request {n}: no top_k here", 400))
    assert "leave out llm.extra_body" in table.found("answer")
    assert list(table.rows) == ["reachable", "answer"]


def test_a_context_that_is_too_short_for_the_longest_passage(doctor, write_corpus):
    facts = [("long", "Long", "word " * 600), *((f"s{n}", f"T{n}", f"Short fact {n} is here.") for n in range(99))]

    def short(body, number):
        if sum(len(turn["content"]) for turn in body["messages"]) // 4 > 500:
            return reply("maximum context length is 500 tokens", 400)
        return reply(f"what is this short fact {number} about?")

    source = f"corpus.source={write_corpus(facts, 'mixed')}"
    few = ("corpus.sample=0", "queries.round_trip_k=0", 'negatives.kinds=["bm25"]')
    table = doctor(source, *few, "queries.passage_chars=2500", script=short)
    assert table.status("queries") == "warning"
    assert "maximum context length is 500 tokens (1) -> lower passage_chars" in table.found("queries")
    assert doctor(source, *few, "queries.passage_chars=500", script=short).status("queries") == "ok"


def test_a_server_that_refuses_many_at_once(doctor, chat_server):
    def busy(body, number):
        if chat_server.in_flight > 4:
            return reply("slow down", 429, {"Retry-After": "3", "X-RateLimit-Limit": "4"})
        time.sleep(0.1)
        return healthy(body, number)

    table = doctor("llm.concurrency=16", script=busy)
    assert table.status("calls") == "warning"
    assert "answered 429" in table.found("calls")
    assert "try a lower llm.concurrency" in table.found("calls")
    assert table.error is None


QUERIES_ALONE = ('negatives.kinds=["bm25"]', "queries.round_trip_k=0")


def thinks(body, _, needs=10**6):
    off = body.get("chat_template_kwargs", {}).get("enable_thinking") is False
    text = about_animals(body, 0) if off or body["max_tokens"] > needs else None
    message = {"role": "assistant", "content": text, "reasoning_content": "Hm."}
    return reply(choices=[{"index": 0, "finish_reason": "stop" if text else "length", "message": message}])


def test_thoughts_without_an_answer(doctor):
    table = doctor(script=thinks)
    assert table.status("queries") == "failed"
    assert "set llm.thinking to false, or to true with a larger queries.max_tokens" in table.found("queries")
    assert doctor("llm.thinking=false", *QUERIES_ALONE, script=thinks).status("queries") == "ok"
    room = lambda body, n: thinks(body, n, needs=1000)  # noqa: E731
    assert doctor("llm.thinking=true", "queries.max_tokens=2000", *QUERIES_ALONE, script=room).status("queries") == "ok"


def test_answers_that_no_stage_can_use(doctor):
    table = doctor(script=lambda *_: "no\x1b[2J")
    assert table.status("queries") == "failed"
    assert "too-short 24 (another llm.model or queries.prompt may help); the first answer: 'no" in table.found(
        "queries"
    )
    assert "\x1b" not in table.text
    assert doctor(script=lambda *_: " ").status("queries") == "failed"

    def refuses(body, number):
        about = about_animals(body, number)
        return "I cannot write a misleading passage for that." if about.startswith("Written for") else about

    table = doctor(script=refuses)
    assert (table.status("queries"), table.status("llm")) == ("ok", "failed")
    table = doctor(script=lambda body, _: f"what is the number {body['seed']} about?")
    assert table.status("round trip") == "failed"


def test_something_else_than_a_chat_server(doctor, chat_server):
    chat_server.pages.clear()
    table = doctor(script=lambda *_: (200, {"Content-Type": "text/html"}, "<html>hello</html>"))
    assert "something other than a chat completion: hello" in table.found("answer")


def test_a_slow_server_is_not_waited_for_long(doctor):
    started = time.monotonic()
    table = doctor("llm.timeout_s=0.2", script=lambda body, n: time.sleep(0.5) or healthy(body, n))
    assert time.monotonic() - started < 5
    assert "did not answer in time" in table.found("answer")
    assert "calls" not in table.rows


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
    assert good.stdout.startswith("The doctor tries 8 rows in each stage")
    assert bad.returncode == 2
    assert "reachable         ok" in bad.stdout
    assert "\nerror: the recipe cannot run as it is: see what failed" in bad.stderr
    assert not (tmp_path / "calls.sqlite").exists()


def test_the_embedded_llm(animals, tmp_path):
    path = tmp_path / "embedded.toml"
    path.write_text(f'name = "e"\n[corpus]\nsource = "{animals}"\n[queries]\nround_trip_k = 3\nmax_tokens = 16\n')
    config = load_recipe(path, ["llm.concurrency=1", "negatives.kinds=['bm25']"], BuildRecipe).config
    lines = []
    with suppress(UserError):  # it is a very small model
        examined(config, lines.append)
    table = Table(lines, None)
    assert table.status("key") == table.status("model") == table.status("calls") == "ok"
    assert "queries" in table.rows


def labelled(tmp_path, *overrides):
    (tmp_path / "given" / "qrels").mkdir(parents=True, exist_ok=True)
    (tmp_path / "given" / "queries.jsonl").write_text('{"_id": "q1", "text": "who hunts at night"}\n')
    (tmp_path / "given" / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\towl\t1\n")
    return (f'queries.source="{tmp_path / "given"}"', "corpus.sample=300", *overrides)


def test_a_build_with_labelled_queries_is_tried_by_what_it_asks(doctor, chat_server, tmp_path):
    table = doctor(*labelled(tmp_path))
    assert table.error is None
    assert table.status("llm") == "ok"
    asked = [body["messages"][-1]["content"] for body in chat_server.bodies[1:]]
    assert asked == ["Query: who hunts at night"]

    table = doctor(*labelled(tmp_path), script=lambda *_: reply(**cut("Owls hunt")))
    assert "set negatives.llm.max_tokens higher" in table.found("llm")


def test_a_build_that_only_judges_is_tried_by_pairs(doctor, chat_server, tmp_path):
    rule = 'selection.kinds.bm25.ceiling={"llm-judge"=0.5}'
    kinds = 'negatives.kinds=["bm25"]'
    table = doctor(*labelled(tmp_path, kinds, rule), script=lambda *_: "yes")
    assert table.status("llm-judge") == "ok"
    assert chat_server.bodies[-1]["messages"][-1]["content"].startswith("Query: who hunts at night\nPassage: ")


def test_the_exam_is_tried_by_the_llm_that_writes_it(doctor, chat_server, tmp_path):
    exam = (*labelled(tmp_path, 'negatives.kinds=["bm25"]'), "exam.queries=3")
    table = doctor(*exam)
    assert table.status("exam") == "ok"
    assert len(chat_server.bodies) > 8
    assert table.found("exam").startswith("8 of 8 usable, the first: 'which living thing")
    table = doctor(*exam, script=lambda *_: "bad")
    assert table.status("exam") == "failed"
    own = (f"exam.llm.base_url={chat_server.url}", "exam.llm.model=another", "llm.base_url=http://127.0.0.1:9/v1")
    chat_server.model = "another"
    table = doctor(*exam, *own)
    assert table.error is None
    assert table.status("exam") == "ok"
    assert {body["model"] for body in chat_server.bodies} == {"another"}
    assert doctor("exam.queries=3", *own[:2], "exam.llm.base_url=http://127.0.0.1:9/v1").error


def cut(text):
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "finish_reason": "length", "message": message}]}


def test_the_judging_of_peoples_queries_is_tried(doctor, tmp_path, chat_server):
    for name in ("asked", "labels"):
        (tmp_path / name).mkdir()
        task_folder(tmp_path / name, [("a", "what does the owl hunt"), ("b", "where does the bee fly")], ["a\towl\t1"])
    (tmp_path / "asked" / "qrels" / "test.tsv").unlink()
    own, labelled = f"exam.source={tmp_path / 'asked'}", f"queries.source={tmp_path / 'labels'}"

    def judges(body, number, says="no"):
        return says if "\nPassage: " in last_user_message(body) else healthy(body, number)

    alone = (labelled, "queries.split=test", "corpus.sample=300", 'negatives.kinds=["bm25"]')
    for more in ((), alone, ("exam.llm.model=scripted", f"exam.llm.base_url={chat_server.url}")):
        table = doctor(own, *more, script=judges)
        assert table.error is None
        assert table.found("exam-judge").startswith("1 of 1 usable" if more == alone else "2 of 2 usable")
    unsure = doctor(own, script=partial(judges, says="perhaps"))
    assert "another LLM, with [exam.llm]" in unsure.found("exam-judge")


def test_an_exam_that_the_corpus_has_no_room_for(write_recipe, chat_server):
    config = load_recipe(write_recipe(), ["exam.queries=7"], BuildRecipe).config
    with pytest.raises(UserError, match=r"exam.queries 7: .* set it to 6 or lower"):
        examined(config)
    assert not chat_server.bodies
