"""Costs of stages: added up over attempts, whatever ends them, and never in the way."""

import json

import pytest

from builders.dataset.costs import Stages, costs_file


def test_seconds_add_up_over_attempts(tmp_path, caplog):
    file = costs_file(tmp_path / "outputs" / "dataset")
    assert file.name == "dataset-costs.json"
    caplog.set_level("INFO")
    with Stages(file).timed("bm25 negatives"):
        sum(range(200_000))
    first = json.loads(file.read_text())
    with pytest.raises(KeyboardInterrupt), Stages(file).timed("bm25 negatives"):
        raise KeyboardInterrupt
    with Stages(file).timed("scores by x", "3 scores by x"):
        pass
    found = json.loads(file.read_text())
    assert list(found["seconds"]) == ["bm25 negatives", "scores by x"]
    assert found["seconds"]["bm25 negatives"] >= first["seconds"]["bm25 negatives"] > 0
    assert found["peak_memory_mb"] > 50
    assert [record.message.rpartition(":")[0] for record in caplog.records] == ["bm25 negatives", "3 scores by x"]


def test_a_broken_file_begins_anew_and_without_one_nothing_is_kept(tmp_path, monkeypatch):
    file = tmp_path / "costs.json"
    file.write_text("{")
    with Stages(file).timed("selection"):
        pass
    assert list(json.loads(file.read_text())["seconds"]) == ["selection"]
    monkeypatch.chdir(tmp_path)
    with Stages().timed("selection"):
        pass
    assert list(tmp_path.iterdir()) == [file]
