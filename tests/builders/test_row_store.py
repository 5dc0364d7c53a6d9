"""Rows by key: found again, whole after a kill, shared by processes."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.retrieval.row_store import RowStore, keys_of
from foils.errors import UserError
from tests.fixtures import ROOT, commands

ABOUT = {"model": "m"}


def store_in(folder, width=3):
    return RowStore(folder, width, ABOUT)


@given(st.lists(st.lists(st.text(max_size=3), max_size=5), max_size=30))
def test_rows_are_found_by_their_keys(tmp_path_factory, adds):
    folder = tmp_path_factory.mktemp("rows")
    store, wanted = store_in(folder, 1), {}
    for number, texts in enumerate(adds):
        keys = keys_of(texts)
        new = store.find(keys) < 0
        assert [text not in wanted for text in texts] == new.tolist()
        fresh = list(dict.fromkeys(text for text in texts if text not in wanted))
        store.add(keys_of(fresh), np.full((len(fresh), 1), number, np.float32))
        wanted |= dict.fromkeys(fresh, number)
    again = store_in(folder, 1)
    found = again.find(keys_of(wanted))
    assert len(again) == len(wanted)
    assert again.rows()[found, 0].tolist() == list(wanted.values())
    assert again.find(keys_of(["absent text"])).tolist() == [-1]


def test_a_torn_tail_is_cut_off(tmp_path):
    store = store_in(tmp_path)
    store.add(keys_of(["a", "b"]), np.arange(6).reshape(2, 3))
    with (tmp_path / "rows.bin").open("ab") as file:
        file.write(b"half a row")
    with (tmp_path / "keys.bin").open("ab") as file:
        file.write(b"half")
    again = store_in(tmp_path)
    again.add(keys_of(["c"]), np.full((1, 3), 9))
    assert again.rows()[again.find(keys_of(["c", "a"]))].tolist() == [[9, 9, 9], [0, 1, 2]]


WRITER = """
import sys, numpy as np
from pathlib import Path
from builders.retrieval.row_store import RowStore, keys_of
store = RowStore(Path(sys.argv[1]), 64, {"model": "m"})
for n in range(100000):
    texts = [f"{sys.argv[2]} {n} {i}" for i in range(50)]
    store.add(keys_of(texts), np.full((50, 64), n % 1000, np.float32))
"""


def test_two_writers_that_are_killed_leave_whole_rows(tmp_path):
    keys = tmp_path / "keys.bin"
    for _ in range(3):
        writers = [commands.Popen([sys.executable, "-c", WRITER, tmp_path, name], cwd=ROOT) for name in "xy"]
        size = keys.stat().st_size if keys.exists() else 0
        for writer in writers:
            commands.kill_once(writer, lambda size=size: keys.exists() and keys.stat().st_size >= size + 4000)
    store = store_in(tmp_path, 64)
    assert len(store) >= 150
    texts = [f"{name} {n} {i}" for name in "xy" for n in range(3) for i in range(50)]
    found = store.find(keys_of(texts))
    numbers = np.array([int(text.split()[1]) for text in texts])
    assert (found >= 0).any()
    assert (store.rows()[found[found >= 0]] == numbers[found >= 0, None]).all()


def test_other_rows_are_refused(tmp_path):
    store_in(tmp_path)
    with pytest.raises(UserError, match="it holds other rows"):
        RowStore(tmp_path, 4, ABOUT)
