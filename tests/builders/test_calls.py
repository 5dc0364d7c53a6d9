"""What a call store holds, and its answers as Parquet: the command line."""

import pyarrow.parquet as pq

from builders.llm.answers import read_answers
from builders.llm.store import CallStore
from tests.builders.stores import a_call, answers_of, call_key, calls_command, filled, put, python


def test_the_commands(tmp_path):
    rows = [a_call(n) for n in range(1500)]
    path = filled(tmp_path / "a", rows)
    other = a_call(1)[1] | {"model": "n"}
    key = call_key(other)
    with CallStore(path) as store:
        put(store, (key, other, {"text": "x", "finish_reason": "length"}))
        store.note_failure(key, "answered 503")
        store.note_failure(key, "answered 503")
    assert calls_command("show", path).stdout.splitlines() == [
        "calls     1,501",
        "  model   m: 1,500",
        "  model   n: 1",
        "  ended   length: 1",
        "  ended   stop: 1,500",
        "tokens    7,500 in, 4,500 out",
        "seconds   750.0 (sum over calls)",
        "failures  2",
        "       2  answered 503",
    ]
    shown = calls_command("show", path).stdout
    (tmp_path / "ro").mkdir()
    read_only = tmp_path / "ro" / "calls.sqlite"
    read_only.write_bytes(path.read_bytes())
    read_only.chmod(0o444)
    (tmp_path / "ro").chmod(0o555)
    assert calls_command("show", read_only).stdout == shown
    assert [file.name for file in (tmp_path / "ro").iterdir()] == ["calls.sqlite"]
    with CallStore(path) as writing:  # another process is at it
        put(writing, a_call(5000))
        assert "calls     1,502" in calls_command("show", path).stdout
        writing._db.executescript(f"DELETE FROM calls WHERE key = '{a_call(5000)[0]}'")
    done = calls_command("export", path, tmp_path / "x.parquet")
    assert (done.returncode, done.stderr) == (0, f"{tmp_path / 'x.parquet'}: 1501 answers\n")
    assert read_answers(tmp_path / "x.parquet") == {
        **answers_of(rows),
        key: {"text": "x", "finish_reason": "length"},
    }
    assert pq.read_table(tmp_path / "x.parquet")["call-key"].to_pylist() == sorted([*answers_of(rows), key])
    calls_command("export", filled(tmp_path / "b", rows[::-1]), tmp_path / "y.parquet")
    calls_command("export", filled(tmp_path / "c", rows), tmp_path / "z.parquet")
    assert (tmp_path / "y.parquet").read_bytes() == (tmp_path / "z.parquet").read_bytes()


def test_what_is_asked_wrongly_is_refused(tmp_path):
    path = filled(tmp_path / "a", [a_call(1)])
    for arguments, words in [
        (("export", path, path), f"{path}: the name of an export must end in .parquet"),
        (("export", path), "wanted: show STORE, or export STORE FILE.parquet"),
        (("show", path, path), "wanted: show STORE, or export STORE FILE.parquet"),
        (
            ("export", path, "/proc/a.parquet"),
            "/proc/a.parquet: cannot be written (No such file or directory); name a file in another place",
        ),
    ]:
        wrong = calls_command(*arguments)
        assert (wrong.returncode, wrong.stderr) == (2, f"error: {words}\n")
    wrong = calls_command("show", tmp_path / "none")
    assert (wrong.returncode, "no such file; name the --store of an earlier build" in wrong.stderr) == (2, True)
    assert not (tmp_path / "none").exists()


PEAK = """
    import sys
    from pathlib import Path
    from tests.bench.memory import peak_mb
    from builders.llm.answers import export_answers
    from builders.llm.store import CallStore
    with CallStore(Path(sys.argv[1])) as store:
        export_answers(store, Path(sys.argv[2]))
    print(peak_mb())
"""


def test_memory_does_not_grow_with_the_store(tmp_path):
    peaks = []
    for count in (2000, 20_000):
        path = tmp_path / f"{count}"
        for start in range(0, count, 2000):
            filled(path, [a_call(n, words=200) for n in range(start, start + 2000)])
        output, errors = python(PEAK, path, tmp_path / f"{count}.parquet").communicate()
        assert errors == ""
        peaks.append(float(output))
    assert path.stat().st_size > 50 * 2**20
    assert peaks[1] < peaks[0] + 40  # caches that fill up; the store is larger than that
