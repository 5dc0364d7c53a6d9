"""Whole builds against a scripted LLM server: contract, determinism, kill -9, refusals."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from builders import build
from builders.dataset.folder import amend
from builders.llm.store import CallStore
from builders.recipe import BuildRecipe
from foils.errors import UserError
from foils.folders import locked
from foils.recipe import load_recipe
from foils.texts import normalised
from tests.chat_server import NEGATIVES_SYSTEM, about_animals, last_user_message
from tests.fixtures import commands


def run(path, out, *overrides):
    build.main(load_recipe(path, overrides, BuildRecipe), out, out.parent / "calls.sqlite")
    return json.loads((out / "manifest.json").read_text())


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_folder_keeps_the_contract(write_recipe, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "o" / "dataset"
    manifest = run(write_recipe(), out, "negatives.per_query=1")
    timed = {found[1] for found in map(re.compile(r"(.*): \d+\.\d s").fullmatch, caplog.messages) if found}
    assert timed == {"queries", "round trip", "llm negatives", "bm25 negatives", "random negatives", "selection"}
    assert set(manifest["configs"]) == {
        *("train-qrels", "corpus", "train-queries", "llm", "bm25", "random", "generated", "fates"),
        *("candidates-llm", "candidates-bm25", "candidates-random", "scores-bm25"),
    }
    for config, about in manifest["configs"].items():
        loaded = load_dataset(str(out), config, split=about["split"], cache_dir=str(tmp_path / "cache"))
        assert len(loaded) == about["rows"], config
    rows = {k: pq.read_table(out / k) for k in ("llm", "bm25", "random")}
    assert all(table.schema.names == ["query", "positive", "negative_1"] for table in rows.values())
    assert rows["llm"].select(["query", "positive"]) == rows["bm25"].select(["query", "positive"])
    assert rows["random"].num_rows == 8
    for table in rows.values():
        for row in table.to_pylist():
            assert normalised(row["negative_1"]) != normalised(row["positive"])
    candidates = pq.read_table(out / "candidates-bm25").to_pylist()
    assert candidates[0]["rank"] == 1
    assert candidates[0]["score"] >= candidates[1]["score"] > 0
    generated = pq.read_table(out / "generated").to_pylist()
    with CallStore(tmp_path / "o" / "calls.sqlite") as store:
        answers = {key: json.loads(answer)["text"] for key, answer in store}
    assert all(row["text"] in answers[row["call-key"]] for row in generated)


def test_several_negatives_per_query_and_queries_per_passage(write_recipe, tmp_path, chat_server):
    chat_server.script = lambda body, n: (
        f"{about_animals(body, n)[:-1]} {n}?"
        if body["messages"][0]["content"].startswith("You write")
        else about_animals(body, n) + "".join(f" matter{n}x{part}" for part in range(12))  # no copies of each other
    )
    manifest = run(
        write_recipe(), tmp_path / "o" / "d", "negatives.per_query=2", "negatives.llm.count=2", "queries.per_passage=2"
    )
    assert manifest["funnel"]["queries asked for"] == 16
    table = pq.read_table(tmp_path / "o" / "d" / "llm")
    assert table.schema.names == ["query", "positive", "negative_1", "negative_2"]
    assert all(row["negative_1"] != row["negative_2"] for row in table.to_pylist())


def test_equal_inputs_give_equal_bytes(write_recipe, tmp_path, chat_server):
    path = write_recipe()
    run(path, tmp_path / "o" / "first")
    asked = len(chat_server.bodies)
    run(
        path,
        tmp_path / "o" / "second",
    )
    assert len(chat_server.bodies) == asked
    first, second = files(tmp_path / "o" / "first"), files(tmp_path / "o" / "second")
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == set()


def test_no_corpus_text_reaches_the_llm_that_writes_negatives(write_recipe, tmp_path, chat_server, animals):
    run(write_recipe(), tmp_path / "o" / "d")
    bodies = [b for b in chat_server.bodies if b["messages"][0]["content"].startswith(NEGATIVES_SYSTEM)]
    assert len(bodies) == 8
    texts = [json.loads(line)["text"].split() for line in (animals / "corpus.jsonl").read_text().splitlines()]
    shingles = {" ".join(words[start : start + 4]) for words in texts for start in range(len(words) - 3)}
    assert shingles
    for body in bodies:
        sent = json.dumps(body)
        assert not [shingle for shingle in shingles if shingle in sent]
    writing = [b for b in chat_server.bodies if b["messages"][0]["content"].startswith("You write")]
    assert any(shingle in json.dumps(body) for body in writing for shingle in shingles)  # the check can fail


def test_a_finished_build_is_found_and_another_recipe_is_refused(write_recipe, tmp_path, chat_server):
    out = tmp_path / "o" / "d"
    run(write_recipe(), out)
    before, asked = files(out), len(chat_server.bodies)
    run(write_recipe(), out)
    assert files(out) == before
    with pytest.raises(
        UserError, match="built from another recipe or by another version of Foils; name another with --out"
    ):
        run(write_recipe(), out, "seed=7")
    assert files(out) == before
    assert len(chat_server.bodies) == asked
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not empty and holds no data set"):
        run(write_recipe(), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "selection.kinds={random = {rank_min = 13}}",
            r"selection for random: rank_min 13 and the last rank, 12, leave 0 of a query's candidates",
        ),
        ("queries.round_trip_k=12", r"round_trip_k 12: the corpus has 12 passages"),
        ("corpus.language=xx", "corpus.language 'xx': not a language code"),
        ("queries.prompt=nope", "no such prompt"),
        ("llm.base_url=http://127.0.0.1:9/v1", "cannot be reached"),
    ],
)
def test_bad_input_ends_with_its_remedy(write_recipe, tmp_path, override, words):
    with pytest.raises(UserError, match=words):
        run(write_recipe(), tmp_path / "o" / "d", override, "llm.attempts=1")
    assert not (tmp_path / "o" / "d").exists()


def test_a_cross_encoder_that_is_none_is_refused(write_recipe, tmp_path, chat_server):
    (tmp_path / "empty").mkdir()
    extra = f'[negatives.cross-encoder]\nmodel = "{tmp_path / "empty"}"\n'
    with pytest.raises(UserError, match="not a model folder"):
        run(write_recipe('["cross-encoder"]', extra), tmp_path / "o" / "d")
    extra = '[negatives.cross-encoder]\ntrain_with = "nowhere.toml"\n'
    with pytest.raises(UserError, match=r"train_with nowhere\.toml: no such file"):
        run(write_recipe('["cross-encoder"]', extra), tmp_path / "o" / "d")
    assert not chat_server.bodies  # noticed before the LLM was asked for anything


def test_no_query_with_enough_negatives(write_recipe, tmp_path):
    with pytest.raises(UserError, match=r"every kind: 8 of 8 dropped .100 %.: 8 bm25: 0 of 2; set negatives.per_query"):
        run(write_recipe('["bm25"]'), tmp_path / "o" / "d", "negatives.per_query=2", "selection.floor={bm25=1000.0}")


def test_two_processes_do_not_write_one_folder(write_recipe, tmp_path, chat_server):
    out = tmp_path / "o" / "d"
    with (
        locked(out),
        pytest.raises(
            UserError, match=r"d: another process is writing it; wait until .*name another folder with --out"
        ),
    ):
        run(write_recipe(), out)
    assert not chat_server.bodies
    assert not list(out.parent.iterdir())
    run(write_recipe(), out)
    with locked(out), pytest.raises(UserError, match="another process is writing it"):
        amend(out, {"audit": {}})
    assert not out.with_name("d.lock").exists()


def test_the_reasons_are_named_where_nothing_is_left(write_recipe, tmp_path, chat_server):
    recipe = write_recipe('["llm"]')
    chat_server.script = lambda body, n: (
        about_animals(body, n) if last_user_message(body).startswith("Passage:") else "I won't write that, sorry."
    )
    with pytest.raises(UserError, match=r"llm: none of 8 rows has a usable answer: (too-short|meta-talk) \d+ \("):
        run(recipe, tmp_path / "o" / "d")
    assert "I won't write that, sorry." in (tmp_path / "o" / "d-rejected.jsonl").read_text()
    chat_server.script = lambda *_: "I'm sorry, but I can't help with that request."
    with pytest.raises(UserError, match=r"queries: none of 8 rows has a usable answer: meta-talk 24 \(another llm"):
        run(recipe, tmp_path / "o" / "d", "seed=2")


def test_exit_code_2_and_one_line_from_the_command(tmp_path):
    (tmp_path / "r.toml").write_text('name = "x"\n[corpus]\nsource = "nowhere"\n')
    finished = commands.run(
        [sys.executable, "-m", "builders.build", str(tmp_path / "r.toml"), "--set", "negatives.kinds=['bm25']"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: corpus nowhere: no such file or folder")
    assert finished.stderr.count("\n") == 1


def test_kill_9_loses_no_answer_and_repeats_none(write_recipe, tmp_path, chat_server):
    chat_server.script = lambda body, n: time.sleep(0.05) or about_animals(body, n)
    path, store_file = write_recipe(), tmp_path / "calls.sqlite"
    command = [
        *(sys.executable, "-m", "builders.build", str(path), "--set", "llm.concurrency=2"),
        *("--out", str(tmp_path / "o" / "d"), "--store", str(store_file)),
    ]
    process = commands.Popen(command, stderr=subprocess.DEVNULL)
    while len(chat_server.bodies) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    chat_server.settle()
    with CallStore(store_file) as store:
        answered, before = len(store), len(chat_server.bodies)
        assert 0 < answered < 16
        assert commands.run(command, capture_output=True, check=False).returncode == 0
        assert len(store) == 16
        asked_again = chat_server.bodies[before:]
        assert len(asked_again) == 16 - answered
    assert (tmp_path / "o" / "d" / "manifest.json").exists()


def test_ctrl_c_ends_with_130_and_keeps_what_was_answered(write_recipe, tmp_path, chat_server):
    chat_server.script = lambda body, n: time.sleep(0.05) or about_animals(body, n)
    store_file = tmp_path / "calls.sqlite"
    command = [
        *(sys.executable, "-m", "builders.build", str(write_recipe()), "--set", "llm.concurrency=1"),
        *("--out", str(tmp_path / "o" / "d"), "--store", str(store_file)),
    ]
    process = commands.Popen(command, stderr=subprocess.PIPE, text=True)
    while len(chat_server.bodies) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert errors.strip().endswith("run the same command again to go on")
    with CallStore(store_file) as store:
        assert 2 <= len(store) < 8
