"""Damaged call stores: what is found on opening, what on reading, and what is saved."""

import logging
import os
import sqlite3
import subprocess
import time

import pytest

from builders.llm.store import CallStore
from foils.errors import UserError
from tests.builders.stores import (
    PAGE,
    a_call,
    answers_of,
    damaged_store,
    filled,
    in_first_form,
    noise,
    overwrite,
    python,
)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.WARNING, logger="builders")
    return caplog


def root_of(path, name):
    with sqlite3.connect(path) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    connection.close()
    return page


DAMAGES = {
    "truncated within a page": (lambda path: os.truncate(path, path.stat().st_size * 2 // 3 + 1000), 0.4),
    "truncated at a page": (lambda path: os.truncate(path, path.stat().st_size // PAGE // 2 * PAGE), 0.2),
    "last byte gone": (lambda path: os.truncate(path, path.stat().st_size - 1), 0.9),
    "header overwritten": (lambda path: overwrite(path, 0, noise(100)), 1),
    "first page zeroed": (lambda path: overwrite(path, 0, bytes(PAGE)), 1),
    "root of the table zeroed": (lambda path: overwrite(path, (root_of(path, "calls") - 1) * PAGE, bytes(PAGE)), 1),
    "root of the index": (
        lambda path: overwrite(path, (root_of(path, "sqlite_autoindex_calls_1") - 1) * PAGE, noise(PAGE)),
        1,
    ),
    "noise in the middle": (lambda path: overwrite(path, path.stat().st_size // 2, noise(3 * PAGE)), 0.8),
    "pages zeroed": (lambda path: overwrite(path, 30 * PAGE, bytes(5 * PAGE)), 0.8),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_on_opening_and_repaired(tmp_path, log, name):
    path = tmp_path / "calls.sqlite"
    rows = damaged_store(path)
    damage, least = DAMAGES[name]
    damage(path)
    broken = path.read_bytes()
    with CallStore(path) as store:
        lost = store.missing([key for key, _, _ in rows])
        saved = len(store)
        assert least * len(rows) <= saved == len(rows) - len(lost)
        assert store.get_many([key for key, _, _ in rows]).items() <= answers_of(rows).items()
        store.put_many(rows)  # asked again
        assert store.get_many([key for key, _, _ in rows]) == answers_of(rows)
        if least == 1:
            assert store.failure_kinds() == {"answered 503": 1}
    assert (tmp_path / "calls.sqlite.damaged-1").read_bytes() == broken
    (line,) = log.messages
    assert f": {saved} answers were saved; the damaged file is kept as {path}.damaged-1" in line
    log.clear()
    with CallStore(path) as store:
        assert len(store) == len(rows)
    assert not log.messages
    damage(path)
    CallStore(path)._file.close()
    assert (tmp_path / "calls.sqlite.damaged-2").exists()


def test_long_answers_survive_as_well(tmp_path, log):
    path = tmp_path / "c"
    rows = damaged_store(path, 60, words=4000)  # each on a chain of overflow pages
    overwrite(path, 0, bytes(PAGE))
    with CallStore(path) as store:
        assert store.get_many(answers_of(rows)) == answers_of(rows)
    assert "60 answers" in log.text


def test_the_pages_of_a_store_of_the_first_version_are_read(tmp_path, log):
    rows = [a_call(n) for n in range(100)]
    path = in_first_form(tmp_path / "c", rows)
    overwrite(path, 0, bytes(PAGE))
    with CallStore(path) as store:
        assert store.get_many(answers_of(rows)) == answers_of(rows)
    assert "100 answers" in log.text


def edited(path, old, new):
    """Replaces some bytes of a file by as many others; a database of SQLite sees nothing wrong in that."""
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("new", [b"\xff\xfe\xfd\xfc\xfb", b"other", b'"}}}}'])
@pytest.mark.parametrize("look_up", ["missing", "get", "get_many", "calls"])
def test_an_answer_that_was_changed_is_not_believed(tmp_path, log, new, look_up):
    path = tmp_path / "c"
    rows = [a_call(n) for n in range(9)]
    key, request, answer = rows[4]
    rows[4] = key, request, answer | {"text": "a marked answer"}
    filled(path, rows)
    edited(path, b"arked", new)
    with CallStore(path) as store:
        found = {
            "missing": lambda: key in store.missing([key]),
            "get": lambda: store.get(key) is None,
            "get_many": lambda: key not in store.get_many(answers_of(rows)),
            "calls": lambda: key not in [call.key for call in store.calls("", 99)],
        }
        assert found[look_up]()
        assert "8 answers were saved" in log.text
        assert store.missing(answers_of(rows)) == [key]
        store.put(*rows[4])
        assert store.get_many(answers_of(rows)) == answers_of(rows)


def test_of_a_large_file_damage_shows_when_a_row_is_read(tmp_path, log):
    path = tmp_path / "c"
    rows = [a_call(n, words=2000) for n in range(1500)]
    filled(path, rows)
    assert path.stat().st_size > 33 * 2**20
    overwrite(path, path.stat().st_size // 2, noise(PAGE * 3))
    with CallStore(path) as store:
        assert not log.messages
        lost = store.missing(answers_of(rows))
        assert 0 < len(lost) < 20
        assert f"{len(rows) - len(lost)} answers were saved" in log.text
        assert len(store.get_many(answers_of(rows))) == len(rows) - len(lost)  # what is not missing can be read


def test_damage_under_an_open_store_is_repaired_and_the_build_goes_on(tmp_path, log):
    path = tmp_path / "c"
    rows = [a_call(n, words=2000) for n in range(600)]
    filled(path, rows)
    with CallStore(path) as store:
        overwrite(path, 40 * PAGE, noise(path.stat().st_size // 2))
        lost = store.missing(answers_of(rows))
        assert 200 < len(lost) < 400
        store.put_many([row for row in rows if row[0] in set(lost)])
        assert store.get_many(answers_of(rows)) == answers_of(rows)
    assert len(log.messages) == 1
    with CallStore(path) as store:
        assert store.get_many(answers_of(rows)) == answers_of(rows)


DIES_WITH_A_LOG = """
    import os, sys
    from pathlib import Path
    from builders.llm.store import CallStore
    from tests.builders.stores import a_call
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    store = CallStore(path)
    store._file._connection.execute("PRAGMA wal_autocheckpoint=0")
    for n in range(count):
        store.put(*a_call(n))
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("name", "damage", "least"),
    [
        ("sound", lambda _: None, 300),
        ("its header", lambda log: overwrite(log, 0, noise(32)), 300),
        ("its begin", lambda log: overwrite(log, 0, noise(3000)), 290),
        ("its middle", lambda log: overwrite(log, log.stat().st_size // 2, noise(PAGE)), 290),
        ("its tail", lambda log: os.truncate(log, log.stat().st_size - PAGE), 290),
        ("half of it", lambda log: os.truncate(log, log.stat().st_size // 2), 130),
        ("emptied", lambda log: os.truncate(log, 0), 0),
    ],
)
def test_a_broken_log_that_a_killed_build_left(tmp_path, log, name, damage, least):
    path = tmp_path / "c"
    filled(path, [a_call(n) for n in range(1000, 1100)])
    writer = python(DIES_WITH_A_LOG, path, 300)
    assert writer.communicate() == ("", "")
    left = tmp_path / "c-wal"
    assert left.stat().st_size > 100 * PAGE
    damage(left)
    with CallStore(path) as store:
        assert len(store) >= 100 + least
        assert len(store.get_many([a_call(n)[0] for n in range(300)])) == len(store) - 100
        assert store.missing([a_call(n)[0] for n in range(1000, 1100)]) == []
    kept = (tmp_path / "c.damaged-1-wal").exists()
    assert kept == (name in {"its header", "its begin", "its middle"}) == ("answers in it were saved" in log.text)


def test_a_store_that_is_only_a_log(tmp_path, log):
    path = tmp_path / "c"
    assert python(DIES_WITH_A_LOG, path, 200).communicate() == ("", "")
    os.truncate(path, 0)
    with CallStore(path) as store:
        assert store.get_many([a_call(n)[0] for n in range(200)]) == answers_of(a_call(n) for n in range(200))
    assert "200 answers were saved" in log.text


OPENS = """
    import sys
    from pathlib import Path
    from builders.llm.store import CallStore
    print("ready", flush=True)
    sys.stdin.readline()
    with CallStore(Path(sys.argv[1])) as store:
        print(len(store))
"""


def test_several_builds_find_the_damage_at_once(tmp_path):
    path = tmp_path / "c"
    rows = damaged_store(path, 5000)
    overwrite(path, 0, noise(PAGE))
    started = [python(OPENS, path, stdin=subprocess.PIPE) for _ in range(4)]
    assert [process.stdout.readline() for process in started] == ["ready\n"] * 4
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60) for process in started]
    assert [output for output, _ in told] == [f"{len(rows)}\n"] * 4
    assert "".join(errors for _, errors in told).count("answers were saved") == 1
    assert len(list(tmp_path.glob("c.damaged-*"))) == 1


LOOKS_UP = """
    import sys
    from pathlib import Path
    from builders.llm.store import CallStore
    from tests.builders.stores import a_call
    keys = [a_call(n, words=2000)[0] for n in range(1500)]
    with CallStore(Path(sys.argv[1])) as store:
        print("open", flush=True)
        sys.stdin.readline()
        print(len(store.missing(keys)), flush=True)
        sys.stdin.readline()  # goes on with its work
"""


def test_several_builds_that_are_under_way_meet_the_damage_at_once(tmp_path):
    path = filled(tmp_path / "c", [a_call(n, words=2000) for n in range(1500)])
    started = [python(LOOKS_UP, path, stdin=subprocess.PIPE) for _ in range(3)]
    assert [process.stdout.readline() for process in started] == ["open\n"] * 3
    overwrite(path, path.stat().st_size // 2, noise(PAGE * 3))
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    (lost,) = {int(process.stdout.readline()) for process in started}
    assert 0 < lost < 20
    errors = "".join(process.communicate(timeout=60)[1] for process in started)
    assert errors.count(f"{1500 - lost} answers were saved") == errors.count("\n") == 1
    assert len(list(tmp_path.glob("c.damaged-*"))) == 1


def test_no_repair_while_another_build_has_the_file(tmp_path):
    path = tmp_path / "c"
    rows = damaged_store(path)
    with CallStore(path) as other:
        overwrite(path, path.stat().st_size // 2, noise(3 * PAGE))
        with pytest.raises(UserError, match="cannot be repaired while another process has it open; wait for that one"):
            CallStore(path)
        other.put(*a_call(10_000))
    with CallStore(path) as store:
        assert len(store) > 0.8 * len(rows)
        assert store.get(a_call(10_000)[0])


@pytest.mark.parametrize("moment", range(6))
def test_a_repair_that_is_killed_is_done_again(tmp_path, moment):
    path = tmp_path / "c"
    rows = damaged_store(path, 3000)
    overwrite(path, 0, noise(PAGE))
    process = python(OPENS, path, stdin=subprocess.PIPE)
    process.stdin.write("go\n")
    process.stdin.flush()
    until = time.monotonic() + 20
    while not (tmp_path / "c.repairing").exists() and process.poll() is None:
        assert time.monotonic() < until
    time.sleep(moment * 0.04)
    process.kill()
    process.communicate()
    with CallStore(path) as store:
        assert store.missing(answers_of(rows)) == []
