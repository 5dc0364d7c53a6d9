"""The call store with real files, several versions, and really killed processes."""

import os
import random
import signal
import sqlite3
import subprocess
import time

import pytest

from builders.llm.redaction import without_secrets
from builders.llm.store import FAILURES_KEPT, VERSION, CallStore
from foils.errors import UserError
from tests.builders.stores import (
    PAGE,
    a_call,
    answers_of,
    call_key,
    damaged_store,
    filled,
    get,
    in_first_form,
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
        assert store.get_many(keys) == answers_of(rows[:2001])
        assert [call.key for call in store] == sorted(keys[:2001])
        assert len(store) == 2001
        assert store.get_many([]) == {}
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
    assert call_key(dict(reversed(request.items()))) == call_key(request)


def test_a_store_of_the_first_version_is_migrated_in_place(tmp_path):
    rows = [a_call(n) for n in range(50)]
    path = in_first_form(tmp_path / "c", rows[:40])
    inode = path.stat().st_ino
    with CallStore(path, read_only=True) as store:
        assert store.get_many(answers_of(rows)) == answers_of(rows[:40])
        assert (store.failures("k"), store.failure_kinds()) == ([], {})
    for _ in range(2):
        with CallStore(path) as store:
            put(store, *rows)
            store.note_failures([(rows[0][0], "answered 503")])
            assert store.get_many(answers_of(rows)) == answers_of(rows)
    assert path.stat().st_ino == inode
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == VERSION
    # A build of the first version goes on with it.
    connection.execute("INSERT OR IGNORE INTO calls (key, request, answer) VALUES ('a', '{}', '{}')")
    connection.commit()
    connection.close()
    with CallStore(path) as store:
        assert get(store, "a") == {}


def test_a_newer_version_is_refused_and_left_as_it_is(tmp_path):
    path = filled(tmp_path / "c", [a_call(1)])
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    words = f"is of version {VERSION + 1}, and this Foils knows versions up to {VERSION}; use the newer Foils"
    for read_only in (False, True):
        with pytest.raises(UserError, match=words):
            CallStore(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("table", "words"), [("people (name TEXT)", "its tables: people"), ("calls (number TEXT)", "no such column: key")]
)
def test_another_database_is_refused_and_left_as_it_is(tmp_path, table, words):
    path = tmp_path / "mine.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.execute(f"INSERT INTO {table.split()[0]} VALUES ('Ada')")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf"{words}.*; name another file with --store"):
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


def test_failures_are_kept_in_order_and_bounded(tmp_path):
    with CallStore(tmp_path / "c") as store:
        store.note_failures([("other", "did not answer in time")])
        for number in range(FAILURES_KEPT + 5):
            store.note_failures([("key", f"answered {500 + number % 2}")])
    with CallStore(tmp_path / "c") as store:
        store.note_failures([("key", "answered 500")])
        noted = store.failures("key")
        assert len(noted) == FAILURES_KEPT
        assert noted[-2:] == ["answered 500", "answered 500"]
        assert store.failure_kinds() == {"answered 500": 11, "answered 501": 9, "did not answer in time": 1}


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
        ("two\nlines " + "and much more " * 99, ("two lines " + "and much more " * 99)[:200]),
    ],
)
def test_no_secret_is_kept(problem, left):
    assert without_secrets(problem) == left


def test_the_value_of_a_key_variable_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_ENDPOINT_KEY", "swordfish")
    with CallStore(tmp_path / "c") as store:
        store.note_failures([("key", "the key swordfish was refused")])
        assert store.failures("key")[0] == "the key *** was refused"


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
        found = store.get_many(key for key, _, _ in calls)
    for number, (key, _, answer) in enumerate(calls):
        by = found[key].pop("by")
        assert found[key] == answer
        assert by in [first for first, last in spans if first <= number < last]


def test_a_killed_writer_loses_no_stored_answer(tmp_path):
    path = tmp_path / "calls.sqlite"
    told = 0
    for _ in range(6):
        writer = python(WRITER, path, told, 10**6, 2, stdin=subprocess.PIPE)
        writer.stdin.write("go\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "ready\n"
        writer.stdout.readline()
        time.sleep(random.uniform(0, 0.1))
        os.kill(writer.pid, signal.SIGKILL)
        output, _ = writer.communicate()
        told = int((output.split() or [str(told + 2)])[-1])
        with CallStore(path) as store:
            assert len(store.get_many(a_call(n, words=400)[0] for n in range(told))) == told


def in_second_form(path, rows):
    """A store of version 1, which kept a checksum beside each answer."""
    in_first_form(path, rows)
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE calls ADD COLUMN crc INTEGER")
        connection.execute("UPDATE calls SET crc = 7")
        connection.execute(
            "CREATE TABLE failures (key TEXT, attempt INTEGER, problem TEXT, at TEXT, PRIMARY KEY (key, attempt))"
        )
        connection.execute("INSERT INTO failures VALUES ('k', 1, 'answered 503', 'yesterday')")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    return path


def test_a_store_with_checksums_is_read_and_written_as_it_is(tmp_path):
    rows = [a_call(n) for n in range(50)]
    path = in_second_form(tmp_path / "c", rows[:40])
    with CallStore(path, read_only=True) as store:
        assert (len(store), store.failures("k")) == (40, ["answered 503"])
    with CallStore(path) as store:
        put(store, *rows)
        store.note_failures([("k", "answered 500")])
        assert store.get_many(answers_of(rows)) == answers_of(rows)
        assert store.failures("k") == ["answered 503", "answered 500"]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 1
    connection.close()


@pytest.mark.parametrize("place", [0, PAGE, 20 * PAGE])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_file_is_refused_with_the_way_to_save_it_and_left_as_it_is(tmp_path, place, read_only):
    path = tmp_path / "c"
    damaged_store(path)
    overwrite(path, place, noise(PAGE))
    before = path.read_bytes()
    with pytest.raises(
        UserError, match=rf"it is damaged.*; name another file.* sqlite3 {path} \.recover \| sqlite3 NEW"
    ):
        CallStore(path, read_only=read_only)
    assert path.read_bytes() == before


def test_damage_under_an_open_store_ends_the_build_with_the_way_to_save_it(tmp_path):
    path = tmp_path / "c"
    damaged_store(path)
    with CallStore(path) as store:
        store._db.execute("UPDATE calls SET answer = '[]'")
        with pytest.raises(UserError, match=r"it is damaged.*is not a JSON object.*\.recover"):
            store.get_many(call.key for call in store)
