"""Answers that travel without their requests, and a build that finds them with nobody to ask."""

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import build
from builders.context import Context
from builders.corpus import load, sample
from builders.llm.answers import export_answers, read_answers
from builders.llm.client import Llm
from builders.llm.messages import body_of
from builders.llm.store import CallStore
from builders.negatives.written import Ask, NegativesTask, Writing
from builders.prompts import load_prompt
from builders.queries.written import write
from builders.recipe import BuildRecipe
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.builders.stores import a_call, call_key, calls_command, filled
from tests.conftest import ANIMALS, SHARED
from tests.fixtures import ROOT

NOBODY = "http://127.0.0.1:9/v1"


def test_a_build_from_answers_alone_is_the_build_that_asked(write_recipe, chat_server, tmp_path):
    build.main(load_recipe(write_recipe(), (), BuildRecipe), tmp_path / "asked", tmp_path / "calls.sqlite")
    done = calls_command("export", tmp_path / "calls.sqlite", tmp_path / "answers.parquet")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "answers.parquet")
    assert table.column_names == ["call-key", "answer"]
    exported = "\n".join(table["answer"].to_pylist())
    assert not [text for text in ANIMALS.values() if text in exported]

    before = len(chat_server.bodies)
    given = [f'llm.answers="{tmp_path / "answers.parquet"}"', f'llm.base_url="{NOBODY}"']
    build.main(load_recipe(write_recipe(), given, BuildRecipe), tmp_path / "given", tmp_path / "fresh.sqlite")
    assert len(chat_server.bodies) == before
    for config in ("corpus", "train-queries", "llm", "generated", "random"):
        tables = [pq.read_table(tmp_path / out / config) for out in ("asked", "given")]
        assert tables[0].equals(tables[1]), config
    with CallStore(tmp_path / "calls.sqlite") as first, CallStore(tmp_path / "fresh.sqlite") as second:
        assert {chat_server.url in answer for _, answer in first} == {True}
        assert [key for key, _ in second] == [key for key, _ in first]
    assert chat_server.url not in exported


def test_the_stores_own_answer_comes_first(tmp_path):
    key, request, answer = a_call(1)
    file = tmp_path / "answers.parquet"
    pq.write_table(pa.table({"call-key": [key, "other"], "answer": ['{"text": "changed"}'] * 2}), file)

    with CallStore(filled(tmp_path / "s", [(key, request, answer)]), read_answers(file)) as store:
        assert store.found(key, "{}") == answer
        assert (store.found("other", "{}"), len(store)) == ({"text": "changed"}, 2)


@pytest.mark.skipif(not SHARED.exists(), reason="the collections lie beside the checkout only where they were laid out")
def test_the_first_study_finds_its_answers_among_those_that_travel_with_it(tmp_path):
    recipe = load_recipe(ROOT / "eval/studies/scifact/build.toml", (), BuildRecipe).config
    passages = load(msgspec.structs.replace(recipe.corpus, source=str(SHARED / "collections" / "scifact"))).passages
    answers = read_answers(ROOT / recipe.llm.answers)
    with CallStore(tmp_path / "calls.sqlite", answers) as store:
        llm = Llm(recipe.llm, store, lambda: pytest.fail("a request has no answer"))
        context = Context(passages, "en", recipe.seed, llm.run)
        seeds = sample(passages, recipe.corpus.sample, recipe.seed)
        written = write(seeds, recipe.queries, context).table
    assert written.num_rows == 715
    config = recipe.negatives.llm
    writing = Writing("llm", load_prompt(config.prompt), None, recipe.seed, config)
    tasks = [NegativesTask(Ask(row["_id"], row["text"]), [1], writing) for row in written.to_pylist()]
    found = sum(call_key(body_of(task.request(0), recipe.llm)) in answers for task in tasks)
    assert found == 700  # those that found their passage


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file; name one"),
        (b"PAR1 no", "not a file of answers"),
        (pa.table({"call-key": ["k"]}), "not a file of answers"),
        (
            pa.table({"call-key": ["k"], "answer": ["[]"]}),
            r"not a file of answers \('\[\]' is not a JSON object\); make one",
        ),
    ],
)
def test_files_that_are_no_answers(tmp_path, content, problem):
    file = tmp_path / "answers.parquet"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        pq.write_table(content, file)
    with pytest.raises(UserError, match=problem):
        read_answers(file)


def test_half_a_character_travels_too(tmp_path):
    key, request, _ = a_call(1)
    answer = {"text": "half a pair \ud83d"}
    with CallStore(filled(tmp_path / "s", [(key, request, answer)])) as store:
        export_answers(store, tmp_path / "x.parquet")
    assert read_answers(tmp_path / "x.parquet") == {key: answer}
