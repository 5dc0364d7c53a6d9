"""`load_dataset` caches a folder by its last name and its card, and must never take one build for another."""

import json

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from builders.publish import publish_dataset
from builders.selection import __main__ as reselection
from cards.publish.release import Target
from tests.builders.audited import a_dataset
from tests.conftest import HUB


def made(folder, word):
    """A data set whose texts differ by a word, so that sizes and numbers of rows are equal."""
    queries = {f"q{n}": f"who keeps {word} number {n}?" for n in range(3)}
    passages = {f"p{n}": f"The {word} number {n} is kept by the town." for n in range(6)}
    positives = [(f"q{n}", f"p{n}") for n in range(3)]
    a_dataset(folder, passages, queries, positives, {"bm25": [(f"q{n}", f"p{n + 3}") for n in range(3)]})
    return folder


def load(folder, cache, config="bm25"):
    split = json.loads((folder / "manifest.json").read_text())["configs"][config]["split"]
    return load_dataset(str(folder), config, split=split, cache_dir=str(cache)).to_list()


def stored(folder, config="bm25"):
    return pq.read_table(folder / config).to_pylist()


def test_two_builds_of_equal_sizes_in_folders_of_one_name(tmp_path):
    one, other = made(tmp_path / "a" / "dataset", "horse"), made(tmp_path / "b" / "dataset", "mouse")
    for folder in (one, other, one):
        for config in ("bm25", "corpus", "train-qrels", "fates"):
            assert load(folder, tmp_path / "cache", config) == stored(folder, config)
    before = load(one, tmp_path / "cache")
    made(one, "mouse")  # built again in its place
    assert load(one, tmp_path / "cache") == load(other, tmp_path / "cache") == stored(one) != before


def test_a_reselection_in_place_and_elsewhere(build_animals, tmp_path):
    folder = build_animals("dataset")
    before = load(folder, tmp_path / "cache")
    reselection.main(folder, ["selection.kinds.bm25.rank_min=3"], tmp_path / "other" / "dataset")
    reselected = load(tmp_path / "other" / "dataset", tmp_path / "cache")
    assert reselected == stored(tmp_path / "other" / "dataset") != before
    reselection.main(folder, ["selection.kinds.bm25.rank_min=4"])
    assert load(folder, tmp_path / "cache") == stored(folder) not in (before, reselected)
    assert load(folder, tmp_path / "cache", "fates") == stored(folder, "fates")


@pytest.mark.hub
@pytest.mark.usefixtures("hub")
def test_two_published_versions(tmp_path):
    folder, cache = tmp_path / "dataset", tmp_path / "cache"
    rows = {}
    for version, word in (("v1.0.0", "horse"), ("v2.0.0", "mouse")):
        publish_dataset(made(folder, word), Target("alice/loaded", version))
        rows[version] = stored(folder)
    for version in ("v2.0.0", "v1.0.0", "v2.0.0"):
        loaded = load_dataset("alice/loaded", "bm25", split="train", revision=version, cache_dir=str(cache))
        assert loaded.to_list() == rows[version]
    repo = HUB.repo("dataset", "alice/loaded")
    listed = json.loads((folder / "manifest.json").read_text())["configs"].values()
    parquet = {path for path in repo.resolve("main").files if path.endswith(".parquet")}
    assert parquet == {path for about in listed for path in about["files"]}  # none of the earlier version's
    assert load(folder, cache) == rows["v2.0.0"]


def test_the_card_says_what_each_configuration_holds(tmp_path):
    folder = made(tmp_path / "dataset", "horse")
    loaded = load_dataset(str(folder), "fates", split="train", cache_dir=str(tmp_path / "cache"))
    card = (folder / "README.md").read_text()
    assert "dataset_info:\n- config_name: default\n" in card or "dataset_info:\n- config_name: corpus\n" in card
    assert loaded.info.splits["train"].num_examples == len(stored(folder, "fates"))
    (file,) = (folder / "fates").iterdir()
    pq.write_table(pq.read_table(file).slice(1), file)  # a damaged file is noticed by whoever loads it
    with pytest.raises(Exception, match="expected"):
        load_dataset(str(folder), "fates", split="train", cache_dir=str(tmp_path / "other-cache"))
