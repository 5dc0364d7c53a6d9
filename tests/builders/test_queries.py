"""Writing, checking and filtering queries."""

import re

import pyarrow as pa
import pytest

from builders import queries, schema
from builders.llm.messages import ChatAnswer
from builders.passages import Passages
from builders.prompts import load_prompt
from builders.queries.checks import reject
from builders.queries.config import QueriesConfig
from builders.queries.round_trip import round_trip
from builders.queries.style import read_style
from builders.queries.written import assign, write
from builders.retrieval.bm25.search import Bm25Index
from builders.retrieval.embeddings import retriever
from foils.errors import UserError
from tests.conftest import BASE
from tests.scripted_llm import ScriptedLlm

SEEDS = pa.Table.from_pylist(
    [
        {"_id": "a", "title": "Owls", "text": "Owls hunt mice at night and turn their heads far around."},
        {"_id": "b", "title": "Bees", "text": "Honey bees dance to tell their sisters where flowers bloom."},
    ],
    schema.CORPUS,
)


def answers(*texts, finish="stop", language="en"):
    """An LLM that gives these texts, one per request, whatever is asked."""
    waiting = list(texts)
    return ScriptedLlm(lambda _: ChatAnswer("key", waiting.pop(0), finish, 1, 1, 0.0), language=language)


def test_accepted_queries_name_their_passage():
    written = write(SEEDS, QueriesConfig(), answers("what do owls hunt?", 'Query: "how do bees talk?"'))
    assert written.table.to_pylist() == [
        {"_id": "a/q1", "text": "what do owls hunt?", "corpus-id": "a"},
        {"_id": "b/q1", "text": "how do bees talk?", "corpus-id": "b"},
    ]
    assert written.drops.num_rows == 0


def test_rejected_ones_are_asked_again_hotter_and_then_dropped_with_their_reason():
    ask = answers("what do owls hunt?", "", "no", "")
    written = write(SEEDS, QueriesConfig(attempts=3), ask)
    assert written.table["_id"].to_pylist() == ["a/q1"]
    assert written.drops.to_pylist() == [{"stage": "queries", "id": "b/q1", "reason": "empty", "detail": ""}]
    assert [request.temperature for request in ask.asked] == pytest.approx([0.2, 0.2, 0.5, 0.8])
    assert len({request.seed for request in ask.asked}) == 4


def test_a_query_serves_one_passage_only():
    written = write(SEEDS, QueriesConfig(attempts=1), answers("what do they do?", "What  do they do?"))
    assert written.drops["reason"].to_pylist() == ["duplicate"]


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", "stop", "empty"),
        ("owls at night and", "length", "cut"),
        ("owls?", "stop", "too-short"),
        ("owl " * 40, "stop", "too-long"),
        ("hunt mice at night and turn their heads far around", "stop", "passage-echo"),
        ("на кого охотятся совы ночью?", "stop", "other-script"),
        ("what do owls hunt?", "stop", None),
    ],
)
def test_reasons(text, finish, reason):
    assert reject(text, finish, SEEDS.to_pylist()[0], (3, 32)) == reason


def test_a_prompts_own_examples_do_not_come_back():
    example = load_prompt("question-v1").turns[0].answer
    written = write(SEEDS.slice(0, 1), QueriesConfig(attempts=1), answers(example))
    assert written.drops["reason"].to_pylist() == ["prompt-echo"]


def test_round_trip_keeps_what_finds_its_passage(tmp_path):
    table = pa.table(
        {"_id": ["a/q1", "b/q1"], "text": ["owls hunt?", "owls hunt mice?"], "corpus-id": ["a", "b"]}, queries.TABLE
    )
    index = Bm25Index(Passages(SEEDS), "en", tmp_path)
    kept = round_trip(table, lambda texts, k: [[i for i, _ in hits] for hits in index.search(texts, k)], 1)
    assert kept.table["_id"].to_pylist() == ["a/q1"]
    assert kept.drops["reason"].to_pylist() == ["own-passage-not-found"]
    assert round_trip(table, lambda *_: pytest.fail("must not retrieve"), 0).table.num_rows == 2


def test_round_trip_by_an_embedding_model(tmp_path):
    retrieve = retriever(BASE, Passages(SEEDS), tmp_path)
    assert retrieve(["nocturnal bird of prey"], 1) == [["a"]]


def test_types_are_assigned_by_weight_and_seed_alone():
    weights = {"question-v1": 3.0, "keywords-v1": 1.0}
    drawn = [assign(weights, 42, f"p{n}/q1") for n in range(2000)]
    assert 0.72 < drawn.count("question-v1") / 2000 < 0.78
    assert drawn == [assign(weights, 42, f"p{n}/q1") for n in range(2000)]
    assert drawn != [assign(weights, 43, f"p{n}/q1") for n in range(2000)]


def test_each_type_has_its_prompt_and_its_length():
    ask = answers("owl prey", "owl prey")
    config = QueriesConfig(types={"keywords-v1": 1.0}, attempts=1)
    written = write(SEEDS, config, ask)
    assert written.table["text"].to_pylist() == ["owl prey"]  # two words will do for keywords
    assert written.drops["reason"].to_pylist() == ["duplicate"]
    assert ask.asked[0].messages[0]["content"] == load_prompt("keywords-v1").system
    strict = QueriesConfig(types={"keywords-v1": 1.0}, attempts=1, min_words=3)
    assert write(SEEDS, strict, answers("owl prey", "bee")).drops["reason"].to_pylist() == ["too-short"] * 2


def test_an_answer_that_repeats_its_instructions_is_rejected():
    leak = "write the one query that a person would type to find exactly this passage"
    written = write(SEEDS, QueriesConfig(attempts=1), answers(leak, "how do bees dance?"))
    assert written.drops.to_pylist()[0]["reason"] == "prompt-echo"


def one(*texts, seeds=None, **settings):
    """What becomes of the first passage's query, and what was asked."""
    ask = answers(*texts)
    seeds = SEEDS.slice(0, 1) if seeds is None else pa.Table.from_pylist([{"_id": "a", **seeds}], schema.CORPUS)
    written = write(seeds, QueriesConfig(**settings), ask)
    return written.table["text"].to_pylist(), written.drops["reason"].to_pylist(), ask.asked


TYPED = [
    f"{animal} {place}" for animal in ("owl", "bee", "eel", "bat") for place in ("nest size", "calls at night", "<b>")
]


def log_of(tmp_path, *more, typed=TYPED):
    log = tmp_path / "log.txt"
    log.write_text("\n".join([*typed, *more]))
    return str(log)


def test_some_of_peoples_queries_stand_in_each_request(tmp_path):
    like = log_of(tmp_path)
    kept, _, asked = one("what do owls hunt?", like=like)
    assert kept == ["what do owls hunt?"]
    system = asked[0].messages[0]["content"]
    before, _, shown = system.partition(" Write it as these people do, about the passage alone: ")
    assert before == load_prompt("question-v1").system
    examples = re.findall(r"<([^>]*)>", shown)
    assert 3 <= len(examples) <= 5
    assert {*examples} <= {query.replace("<b>", "(b)") for query in TYPED}
    write(SEEDS, QueriesConfig(like=like), again := answers("what do owls hunt?", "how do bees talk?"))
    assert again.asked[0] == asked[0]
    assert again.asked[1].messages[0] != asked[0].messages[0]  # others for the next query
    echoed = answers(examples[0])
    drops = write(SEEDS.slice(0, 1), QueriesConfig(like=like, attempts=1), echoed).drops.to_pylist()
    assert [(row["reason"], row["detail"]) for row in drops] == [("prompt-echo", "")]  # theirs are not published


def test_plain_queries_may_be_shown(tmp_path):
    plain = ["basic income pros and cons", "what is a bearer token", "population germany 1990-2010", "call 2021-03-04"]
    assert set(plain) <= set(read_style(log_of(tmp_path, *plain), "en").queries)


def test_secrets_and_personal_data_stay_here(tmp_path, caplog):
    secrets = ["owl of jo@example.org", "call 030 1234567 owl", "hf_abcdefghijklmnopqrstuvwx owl", "password: owl12345"]
    secrets += ["my password is hunter2", "AKIAIOSFODNN7EXAMPLE owl"]
    secrets += ["owl http://me:pw@nest.org/", "owl " * 60, "4111 1111 1111 1111 owls"]
    style = read_style(log_of(tmp_path, *secrets), "en")
    assert style.queries == tuple(TYPED)
    assert "9 of 21 queries are left out: 8 may hold a secret, an address or a number of a person, 1 are" in caplog.text


@pytest.mark.parametrize(
    ("typed", "wording"),
    [
        (["owl nest"], r"log\.txt: of 1 queries, 1 can be shown \(.*\); wanted 10 or more; name another file"),
        ([""], r"log\.txt: holds no query"),
        (
            [f"wie viele Mäuse frisst eine Eule in der Nacht im Winter {n}" for n in range(20)],
            r"most of its queries are in German, and the corpus is in English; name queries in the corpus's language",
        ),
    ],
)
def test_a_log_that_shows_no_style_is_refused(tmp_path, typed, wording):
    with pytest.raises(UserError, match=wording):
        read_style(log_of(tmp_path, typed=typed), "en")


@pytest.mark.parametrize("cut", ["Here's a question about owls:", "<think>", "**Query:**\u200b", "Sure!"])
def test_what_a_stop_string_has_cut_off_is_asked_for_without_it(cut):
    texts, reasons, asked = one(cut, "", "what do owls hunt?")
    assert (texts, reasons) == (["what do owls hunt?"], [])
    assert [request.stop for request in asked][0::2] == [("\n",), ()]
    assert one("owls", "what do owls hunt?")[2][1].stop == ("\n",)  # where the stop string is not to blame


def test_a_refusal_is_no_query_unless_the_passage_says_so_too():
    refusal = "I cannot help you with this request about owls."
    assert one(refusal, attempts=1)[1] == ["meta-talk"]
    said = {"title": "Chat", "text": "User: find my owl. Agent: I cannot help you with that, but the zoo can."}
    assert one(refusal, seeds=said, attempts=1)[0] == [refusal]


def test_a_passage_without_letters_has_any_script_and_its_title_counts():
    table = {"title": "Revenue in dollars", "text": "| 2000 | 12.4 |"}
    assert one("how much was earned in 2000?", seeds=table)[0] == ["how much was earned in 2000?"]
    assert one("how much was earned in 2000?", seeds={**table, "title": ""})[0] == ["how much was earned in 2000?"]
    formula = {"title": "Decay law", "text": "ψ = λ + β·δ"}
    for passage in (formula, {**formula, "title": ""}):
        assert one("what is the decay law?", seeds=passage)[0] == ["what is the decay law?"]
    assert one("сколько было заработано в 2000?", seeds=table, attempts=1)[1] == ["other-script"]
    japanese = {"title": "", "text": "梟は夜行性鳥類"}
    assert one("フクロウ は よる なに を たべますか", seeds=japanese)[1] == []
