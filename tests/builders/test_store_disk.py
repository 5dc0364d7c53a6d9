"""Call stores on a disk that is full, and where nothing can be written."""

import pytest

from builders.llm.client import Llm
from builders.llm.config import LlmConfig
from builders.llm.messages import Endpoint
from builders.llm.store import CallStore
from foils.errors import UserError
from tests.builders.asking import ask, question
from tests.builders.stores import a_call, answers_of, get_many, put
from tests.fixtures.small_disk import on_a_small_disk


def test_a_disk_that_fills_up_under_a_run_loses_no_row(tmp_path):
    done = on_a_small_disk(
        tmp_path,
        """
        import json
        from collections import Counter
        from pathlib import Path
        from builders.llm.store import CallStore
        from foils.errors import UserError
        from tests.builders.asking import ask_server, question
        from tests.chat_server import ChatServer
        disk = Path(sys.argv[1])
        (disk / "other").write_bytes(bytes(1_000_000))
        requests = [question(f"q{n} " + "word " * 200) for n in range(900)]
        def ask(server):
            return ask_server(server.url, disk / "calls.sqlite", requests)
        with ChatServer() as server:
            try:
                ask(server)
            except UserError as error:
                print(error)
            asked = len(server.bodies)
            assert 50 < asked < 900
            (disk / "other").unlink()
            with CallStore(disk / "calls.sqlite") as store:
                kept = len(store)
            assert asked - kept <= 8 + 64, (asked, kept)  # in flight, and the batch that found no room
            try:
                ask(server)
            except UserError as error:  # 900 answers are more than this disk holds, which is not the point
                print(error)
            assert max(Counter(map(json.dumps, server.bodies[:asked])).values()) == 1
            first, second = (set(map(json.dumps, part)) for part in (server.bodies[:asked], server.bodies[asked:]))
            again = len(first & second)
            assert again == asked - kept, (again, asked, kept)  # what was stored was not asked for again
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "the disk is full; free some space and run the same command again: answers so far are kept" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_read_only_place(tmp_path):
    done = on_a_small_disk(
        tmp_path,
        """
        from pathlib import Path
        from builders.llm.store import CallStore
        from foils.errors import UserError
        from tests.builders.stores import a_call, filled
        disk = Path(sys.argv[1])
        filled(disk / "closed", [a_call(n) for n in range(40)])
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with CallStore(disk / "closed", read_only=True) as store:
            assert len(store) == 40
        for name in ("closed", "new", "folder/new"):
            try:
                CallStore(disk / name)
            except UserError as error:
                print(error)
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("cannot be read or written to" in line and "in another place with --store" in line for line in lines)
    assert "Read-only file system" in lines[-1]


def test_a_file_that_may_not_grow(tmp_path):
    rows = [a_call(n) for n in range(500)]
    with CallStore(tmp_path / "c") as store:
        put(store, *rows[:50])
        store._db.execute("PRAGMA max_page_count = 60")  # SQLite then fails as on a full disk
        with pytest.raises(UserError, match="the disk is full; free some space and run the same command"):
            put(store, *rows)
        assert get_many(store, answers_of(rows)) == answers_of(rows[:50])
        put(store, rows[60])
    with CallStore(tmp_path / "c") as store:
        put(store, *rows)
        assert len(get_many(store, answers_of(rows))) == len(rows)


def test_answers_that_a_full_disk_loses_are_counted(tmp_path, chat_server):
    chat_server.script = lambda *_: "x" * 100_000
    with CallStore(tmp_path / "c") as store:
        put(store, *(a_call(n) for n in range(2, 52)))
        store._db.execute("PRAGMA max_page_count = 1")
        llm = Llm(LlmConfig(model="scripted"), store, lambda: Endpoint(chat_server.url, "scripted"))
        with pytest.raises(UserError, match=r"the disk is full; .* \(1 answers that had come are lost\)"):
            ask(llm, "test", [question("q")])
