"""The call store with real files, several versions, and really killed processes."""

import json
import os
import signal
import sqlite3
import subprocess

import pytest

from builders.llm.failures import without_secrets
from builders.llm.store import VERSION, CallStore, keyed
from foils.errors import UserError
from tests.builders.stores import (
    PAGE,
    a_call,
    answers_of,
    call_key,
    damaged_store,
    filled,
    get,
    get_many,
    noise,
    overwrite,
    put,
    python,
)


def test_many_at_once_and_the_first_answer_stays(tmp_path):
    rows = [a_call(n) for n in range(2500)]  # more than SQLite's variables, and than one portion
    path = filled(tmp_path / "new" / "folder" / "calls.sqlite", rows[:2000])
    with CallStore(path) as store:
        put(store, *((key, request, {"text": "another"}) for key, request, _ in rows[:10]))
        put(store, rows[2000])
        keys = [key for key, _, _ in rows]
        assert get_many(store, keys) == answers_of(rows[:2001])
        assert [key for key, _ in store] == sorted(keys[:2001])
        assert len(store) == 2001
        store.put_many([])


def test_all_or_none(tmp_path):
    with CallStore(tmp_path / "c") as store:
        key, request, _ = a_call(1)
        with pytest.raises(sqlite3.ProgrammingError):
            put(store, (key, request, {}), ({}, request, {}))  # fails after the first was inserted
        assert len(store) == 0
        put(store, a_call(2))
        assert len(store) == 1


def test_an_answer_that_is_no_unicode_is_kept(tmp_path):
    key, request, _ = a_call(1)
    with CallStore(tmp_path / "c") as store:
        put(store, (key, request, {"text": "half a pair \ud83d, a zero \x00 and an ü"}))
    with CallStore(tmp_path / "c") as store:
        assert get(store, key) == {"text": "half a pair \ud83d, a zero \x00 and an ü"}


def test_keys_of_earlier_versions_hold():
    request = {"model": "m", "revision": None, "messages": [{"role": "user", "content": "ü?"}], "max_tokens": 9}
    request |= {"temperature": 0.5, "seed": 1, "stop": []}
    assert call_key(request) == "293332abf46d24f2e2f05894f345886008f37cb9e434821d5daa733b709ee7d2"
    longer = dict(reversed(request.items())) | {"messages": request["messages"] * 3, "as_is": {"messages": 0}}
    assert keyed(longer)[1] == json.dumps(longer, sort_keys=True, ensure_ascii=False)


@pytest.mark.parametrize("version", [1, VERSION + 1])
def test_another_version_is_refused_and_left_as_it_is(tmp_path, version):
    path = filled(tmp_path / "c", [a_call(1)])
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"is of version {version}, and this Foils knows version {VERSION}; use the"):
        CallStore(path)
    assert path.read_bytes() == before


def test_a_store_of_this_version_is_read_as_it_was_written(tmp_path):
    key, request, answer = a_call(1)
    connection = sqlite3.connect(tmp_path / "c")
    connection.executescript(WRITTEN_BEFORE)
    values = (key, json.dumps(request), json.dumps(answer))
    connection.execute("INSERT INTO calls (key, request, answer) VALUES (?, ?, ?)", values)
    connection.execute("INSERT INTO failures (key, attempt, problem) VALUES ('k', 7, 'answered 503')")
    connection.commit()
    connection.close()
    with CallStore(tmp_path / "c") as store:
        assert get(store, key) == answer
        store.note_failure("k", "answered 500")
        assert store.failures("k") == ["answered 503", "answered 500"]
        assert store.rows("SELECT max(attempt) FROM failures") == [(8,)]


@pytest.mark.parametrize(
    ("table", "words"), [("people (name TEXT)", "its tables: people"), ("calls (number TEXT)", "it is of version 0")]
)
def test_another_database_is_refused_and_left_as_it_is(tmp_path, table, words):
    path = tmp_path / "mine.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.execute(f"INSERT INTO {table.split()[0]} VALUES ('Ada')")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf"{words}.* name another file with --store"):
        CallStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a text and no database, " * 999, b"x", b"SQLite format 3\0" + b"\1" * 9000])
def test_what_holds_no_answer_is_refused_and_left_as_it_is(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match="name another file with --store"):
        CallStore(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == content


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(UserError, match="it is a folder"):
        CallStore(tmp_path)


@pytest.mark.parametrize(
    ("problem", "left"),
    [
        ("answered 401 (key refused)", "answered 401 (key refused)"),
        ("cannot be reached (ConnectError)", "cannot be reached (ConnectError)"),
        ("https://ada:pa/ss@host.example/v1?key=1 timed out", "(address) timed out"),
        ("proxy ada:word@host:80 refused", "proxy (address) refused"),
        ("Authorization: Bearer sk-abcdef refused", "Authorization *** refused"),
        ("api_key=abcdef, token: xyz", "api_key *** token ***"),
        ("bad key sk-mine-and-secret", "bad key ***"),
        ("got hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "got ***"),
        ("got AKIA1234567890abcdefGHIJKL", "got ***"),
        ("red \x1b[31m words", "red [31m words"),
        ("two\nlines " + "and much more " * 99, ("two lines " + "and much more " * 99)[:200]),
    ],
)
def test_no_secret_is_kept(problem, left):
    assert without_secrets(problem) == left


def test_the_value_of_a_key_variable_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_ENDPOINT_KEY", "swordfish")
    with CallStore(tmp_path / "c") as store:
        store.note_failure("key", "the key swordfish was refused")
        assert store.failures("key")[0] == "the key *** was refused"


WRITTEN_BEFORE = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE calls (
        key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL,
        stored_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    );
    CREATE TABLE failures (
        key TEXT NOT NULL, attempt INTEGER NOT NULL, problem TEXT NOT NULL,
        at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), PRIMARY KEY (key, attempt)
    );
    PRAGMA user_version = 2;
"""


WRITER = """
    import random, sys
    from pathlib import Path
    from builders.llm.store import CallStore
    from tests.builders.stores import a_call, put
    path, first, last, size = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    print("ready", flush=True)
    sys.stdin.readline()
    with CallStore(path) as store:
        for start in range(first, last, size):
            rows = [a_call(n, words=400) for n in range(start, start + size)]
            put(store, *((key, request, answer | {"by": first}) for key, request, answer in rows))
            print(start + size, flush=True)
"""


def test_two_builds_and_one_that_is_killed(tmp_path):
    path = tmp_path / "calls.sqlite"
    with CallStore(path):
        pass
    path.unlink()  # both make it anew, at the same time
    spans = [(0, 900), (300, 1200), (600, 100_000)]
    writers = [python(WRITER, path, *span, 3, stdin=subprocess.PIPE) for span in spans]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for line in writers[2].stdout:
        if int(line) > 700:
            break
    os.kill(writers[2].pid, signal.SIGKILL)
    for writer in writers:
        output, errors = writer.communicate(timeout=120)
        assert errors == ""
        if writer is writers[2]:
            promised = int((output.split() or [line])[-1])  # told to be stored before it was killed
            assert writer.returncode == -signal.SIGKILL
        else:
            assert writer.returncode == 0
    calls = [a_call(n, words=400) for n in range(max(1200, promised))]
    with CallStore(path) as store:
        found = get_many(store, [key for key, _, _ in calls])
    for number, (key, _, answer) in enumerate(calls):
        by = found[key].pop("by")
        assert found[key] == answer
        assert by in [first for first, last in spans if first <= number < last]


@pytest.mark.parametrize("place", [0, PAGE, 20 * PAGE])
def test_a_damaged_file_is_refused_with_the_way_to_save_it_and_left_as_it_is(tmp_path, place):
    path = tmp_path / "c"
    damaged_store(path)
    overwrite(path, place, noise(PAGE))
    before = path.read_bytes()
    with pytest.raises(
        UserError, match=rf"it is damaged.*; name another file.* sqlite3 {path} \.recover \| sqlite3 NEW"
    ):
        CallStore(path)
    assert path.read_bytes() == before


def test_damage_under_an_open_store_ends_the_build_with_the_way_to_save_it(tmp_path):
    path = tmp_path / "c"
    damaged_store(path)
    with CallStore(path) as store:
        store._db.execute("UPDATE calls SET answer = '[]'")
        with pytest.raises(UserError, match=r"it is damaged.*is not a JSON object.*\.recover"):
            get_many(store, [key for key, _ in store])
