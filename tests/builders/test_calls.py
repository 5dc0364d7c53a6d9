"""Calls as Parquet, and the command line."""

import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build
from builders.calls import SCHEMA, export_calls, import_calls
from builders.llm.store import CallStore, call_key
from builders.llm.store_format import Call
from builders.recipe import BuildRecipe
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.builders.stores import ROOT, a_call, filled, noise, overwrite, python
from tests.fixtures import commands


def command(*arguments):
    return commands.run(
        [sys.executable, "-m", "builders.calls", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
objects = st.dictionaries(texts, values | st.lists(values, max_size=3), max_size=4)


@given(st.lists(st.tuples(objects, objects), max_size=12), st.integers(0, 11), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_an_export_brings_back_every_call(pairs, early, order):
    rows = [(call_key(request), request, answer) for request, answer in pairs]
    with tempfile.TemporaryDirectory() as folder:
        first, again = Path(folder, "first.parquet"), Path(folder, "again.parquet")
        with CallStore(Path(folder, "a")) as store:
            store.put_many(rows)
            kept = store.get_many(key for key, _, _ in rows)
            assert export_calls(store, first) == len(kept)
        keys = list(kept)
        order.shuffle(keys)
        with CallStore(Path(folder, "b")) as store:
            store.add([call for key in keys[:early] for call in pq_calls(first) if call.key == key])
            assert import_calls(store, first) == (len(kept) - len(keys[:early]), len(keys[:early]), 0)
            assert repr(store.get_many(keys)) == repr({key: kept[key] for key in sorted(kept)})
            export_calls(store, again)
        assert again.read_bytes() == first.read_bytes()


def pq_calls(file):
    return [Call(*row.values()) for row in pq.read_table(file).to_pylist()]


def test_an_import_replaces_nothing(tmp_path):
    rows = [a_call(n) for n in range(3)]
    with CallStore(filled(tmp_path / "a", rows)) as store:
        export_calls(store, tmp_path / "x.parquet")
    with CallStore(tmp_path / "b") as store:
        store.put(rows[0][0], rows[0][1], {"text": "mine"})
        assert import_calls(store, tmp_path / "x.parquet") == (2, 1, 0)
        assert store.get(rows[0][0]) == {"text": "mine"}


def test_rows_that_do_not_prove_themselves_are_refused_and_named(tmp_path):
    rows = [a_call(n) for n in range(2100)]
    with CallStore(filled(tmp_path / "a", rows)) as store:
        export_calls(store, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet").to_pylist()
    table[3]["request"] = table[3]["request"].replace("m", "n", 1)
    table[1200]["call-key"] = "0" * 64
    table[1300]["answer"] = '["a list"]'
    table[1400]["answer"] = None
    table[1500]["stored-at"] = "yesterday"
    table[1600]["request"] = "[" * 100_000
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "edited.parquet")
    done = command("import", tmp_path / "b", tmp_path / "edited.parquet")
    assert done.returncode == 2
    assert "2094 new calls, 0 known before, 6 refused" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith(
        "6 rows were refused (named above, 20 at most) and the others imported; get an export that nobody has edited"
    )
    assert f"row 4, key '{table[3]['call-key']}': refused: its key is not the hash of its request" in done.stderr
    assert f"row 1501, key '{table[1500]['call-key']}': refused: its stored-at is no time" in done.stderr
    with CallStore(tmp_path / "b") as store:
        assert len(store) == 2094


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"no parquet" * 99, "no Parquet file, or a damaged one"),
        (pa.table({"text": ["x"]}), "its columns are text; an export of calls has call-key, request"),
        (pa.table({name: [1] for name in SCHEMA.names}), "all texts; make it with"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path, content, words):
    file = tmp_path / "x.parquet"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        pq.write_table(content, file)
    with CallStore(tmp_path / "c") as store, pytest.raises(UserError, match=words):
        import_calls(store, file)


def test_a_damaged_export_is_named_and_what_was_read_is_kept(tmp_path):
    rows = [a_call(n) for n in range(4000)]
    with CallStore(filled(tmp_path / "a", rows)) as store:
        export_calls(store, tmp_path / "x.parquet")
    overwrite(tmp_path / "x.parquet", (tmp_path / "x.parquet").stat().st_size // 2, noise(20_000))
    with CallStore(tmp_path / "b") as store:
        with pytest.raises(UserError, match=r"a damaged one .*; get it again"):
            import_calls(store, tmp_path / "x.parquet")
        assert 1000 <= len(store) < 4000


def test_only_the_calls_of_a_data_set(write_recipe, tmp_path):
    out, store_file = tmp_path / "o" / "d", tmp_path / "calls.sqlite"
    build.main(load_recipe(write_recipe(), (), BuildRecipe), out, store_file)
    filled(store_file, [a_call(1)])
    done = command("export", store_file, tmp_path / "x.parquet", "--dataset", out)
    assert (done.returncode, done.stderr) == (0, f"{tmp_path / 'x.parquet'}: 8 calls\n")
    named = pq.read_table(out / "generated")["call-key"].to_pylist()
    assert [call.key for call in pq_calls(tmp_path / "x.parquet")] == sorted(set(named))
    with CallStore(tmp_path / "b") as store, CallStore(store_file) as full:
        import_calls(store, tmp_path / "x.parquet")
        assert store.get_many(named) == full.get_many(named)
        assert len(full) > len(store)
    with CallStore(tmp_path / "empty") as store, pytest.raises(UserError, match="the store has none of its 8 calls"):
        export_calls(store, tmp_path / "y.parquet", out)
    build.main(load_recipe(write_recipe('["bm25"]'), (), BuildRecipe), tmp_path / "o" / "e", store_file)
    for folder, words in [
        (tmp_path / "o" / "e", "no generated passages, and other rows do not name their calls; leave out"),
        (tmp_path / "nowhere", "no such folder"),
    ]:
        with CallStore(store_file) as store, pytest.raises(UserError, match=words):
            export_calls(store, tmp_path / "y.parquet", folder)
    assert not list(tmp_path.glob("y.parquet*"))


def test_the_commands(tmp_path):
    rows = [a_call(n) for n in range(1500)]
    path = filled(tmp_path / "a", rows)
    with CallStore(path) as store:
        key = call_key({"model": "n"})
        store.put(key, {"model": "n"}, {"text": "x", "finish_reason": "length"})
        store.note_failure(key, "answered 503")
        store.note_failure(key, "answered 503")
    assert command("show", path).stdout.splitlines() == [
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
    assert command("export", path, tmp_path / "x.parquet").returncode == 0
    done = command("import", tmp_path / "b", tmp_path / "x.parquet")
    assert (done.returncode, done.stderr) == (0, f"{tmp_path / 'b'}: 1501 new calls, 0 known before, 0 refused\n")
    command("export", tmp_path / "b", tmp_path / "y.parquet")
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "y.parquet").read_bytes()
    wrong = command("export", path, path)
    assert (wrong.returncode, wrong.stderr) == (2, f"error: {path}: the name of an export must end in .parquet\n")
    wrong = command("show", tmp_path / "none")
    assert (wrong.returncode, "no such file; name the --store of an earlier build" in wrong.stderr) == (2, True)
    assert not (tmp_path / "none").exists()
    assert "are named nowhere" in " ".join(command("export", "--help").stdout.split())


PEAK = """
    import sys
    from pathlib import Path
    from tests.bench.memory import peak_mb
    from builders.calls import export_calls, import_calls
    from builders.llm.store import CallStore
    with CallStore(Path(sys.argv[1])) as store, CallStore(Path(sys.argv[2])) as other:
        export_calls(store, Path(sys.argv[3]))
        import_calls(other, Path(sys.argv[3]))
    print(peak_mb())
"""


def test_memory_does_not_grow_with_the_store(tmp_path):
    peaks = []
    for count in (2000, 20_000):
        path = tmp_path / f"{count}"
        for start in range(0, count, 2000):
            filled(path, [a_call(n, words=200) for n in range(start, start + 2000)])
        output, errors = python(PEAK, path, tmp_path / f"{count}-copy", tmp_path / f"{count}.parquet").communicate()
        assert errors == ""
        peaks.append(float(output))
    assert path.stat().st_size > 50 * 2**20
    assert peaks[1] < peaks[0] + 40  # caches that fill up; the store is larger than that
