"""Selecting again from a built folder: nothing is mined again, other configurations stay as they are."""

import json
import re

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from builders.dataset.folder import amend
from builders.selection import __main__ as reselection
from foils.errors import UserError


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def rows(folder, config):
    return [row for path in sorted((folder / config).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def built(build_animals):
    return build_animals("first", 'negatives.kinds=["llm", "bm25", "random", "bm25+random", "none"]')


def test_other_rules_give_other_rows_from_the_same_candidates(built, tmp_path, chat_server):
    before, asked = manifest_of(built), len(chat_server.bodies)
    out = tmp_path / "again"
    reselection.main(built, ["selection.kinds.bm25.rank_min=3", "seed=7"], out)
    after = manifest_of(out)
    assert len(chat_server.bodies) == asked
    for config, about in before["configs"].items():
        if config.startswith(("candidates-", "scores-")) or config in {
            "corpus",
            "train-queries",
            "train-qrels",
            "generated",
        }:
            assert after["configs"][config] == about
            assert config == "train-qrels" or all(
                (out / path).samefile(built / path) for path in about["files"]
            )  # linked, not copied
    assert rows(out, "bm25") != rows(built, "bm25")
    ranks = {(row["query-id"], row["corpus-id"]): row["rank"] for row in rows(out, "candidates-bm25")}
    taken = [row for row in rows(out, "fates") if (row["kind"], row["fate"]) == ("bm25", "negative_1")]
    assert {ranks[row["query-id"], row["corpus-id"]] for row in taken} <= set(range(3, 9))
    assert after["settings"]["seed"] == 7
    assert after["recipe"]["overrides"][-2:] == ["selection.kinds.bm25.rank_min=3", "seed=7"]
    for config, about in after["configs"].items():
        assert len(load_dataset(str(out), config, split=about["split"], cache_dir=str(tmp_path / "c"))) == about["rows"]


def test_the_same_rules_give_the_same_rows(built, tmp_path):
    reselection.main(built, [], tmp_path / "again")
    before, after = manifest_of(built), manifest_of(tmp_path / "again")
    assert after["configs"] == before["configs"]
    assert after["recipe"]["identity"] == before["recipe"]["identity"]


def test_more_negatives_bring_an_audit_to_its_end(built):
    amend(built, {"audit": {"of": "other rows"}}, files={"figures/one.png": b"picture"})
    assert manifest_of(built)["audit"] == {"of": "other rows"}
    assert (built / "figures/one.png").read_bytes() == b"picture"
    kinds = 'negatives.kinds=["bm25", "random"]'
    reselection.main(built, [kinds, "negatives.per_query=2"])
    manifest = manifest_of(built)
    assert "audit" not in manifest
    assert not (built / "figures/one.png").exists()
    assert "llm" not in manifest["configs"]
    assert manifest["configs"]["bm25"]["columns"] == ["query", "positive", "negative_1", "negative_2"]
    assert not (built / "llm").exists()
    assert "candidates-llm" in manifest["configs"]


def test_one_query_is_explained(built, capsys):
    files = {path: path.read_bytes() for path in built.rglob("*") if path.is_file()}
    query = rows(built, "train-queries")[0]
    reselection.main(built, [], explained=query["_id"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"{query['_id']}: {query['text']}\n")
    header, *lines = shown.splitlines()[2:]
    assert header.split() == ["kind", "rank", "passage", "bm25", "fate", "text"]
    fates = [row for row in rows(built, "fates") if row["query-id"] == query["_id"] and "+" not in row["kind"]]
    assert {row["kind"] for row in fates} == {"llm", "bm25", "random"}
    for row in fates:
        assert any(
            re.match(rf"{row['kind']} +\d+ +{row['corpus-id']} +(\d+\.\d{{4}} +)?{row['fate']} ", line)
            for line in lines
        ), row
    assert shown.endswith("This query is in the training rows.\n")
    assert {path: path.read_bytes() for path in built.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("overrides", "wording"),
    [
        (["corpus.sample=3"], r"cannot be selected by another corpus\.sample; allowed: selection, negatives\.kinds"),
        (['negatives.kinds=["cross-encoder"]'], r"no candidates of cross-encoder; it has those of llm, bm25, random"),
        (["selection.ceiling.bm25=1", "selection.kinds.bm25.rank_max=0"], r"rank_max: expected `int` >= 1"),
        (['negatives.variants={x = "dense"}'], r"negatives\.variants\.x: 'dense': wanted a new name of lower-case"),
        (["negatives.per_query=50"], r"no query has enough negatives of every kind \(llm: 1 of 50, \.\.\.\)"),
        (['negatives.shares={"a+b" = {a = 1}}'], r"negatives\.shares\.'a\+b': no mix of that name"),
    ],
)
def test_refusals_write_nothing(built, overrides, wording):
    files = {path: path.read_bytes() for path in built.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=wording):
        reselection.main(built, overrides)
    assert {path: path.read_bytes() for path in built.rglob("*") if path.is_file()} == files


def test_a_folder_of_something_else_is_not_replaced(built, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis: it is not empty and holds no data set"):
        reselection.main(built, [], tmp_path / "thesis")
    other = json.loads((built / "manifest.json").read_text())
    other["recipe"]["text"] = "name = 'other'"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"other: it holds 'animals', built from another recipe; name another"):
        reselection.main(built, [], tmp_path / "other")
    with pytest.raises(UserError, match=r"the data set .* lies in it; name another with --out"):
        reselection.main(built, [], built.parent)
    assert (tmp_path / "thesis" / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_a_killed_process_had_moved_is_put_back(built):
    built.rename(built.with_name(f"{built.name}.outdated"))
    reselection.main(built, ["seed=9"])
    assert manifest_of(built)["settings"]["seed"] == 9


def test_an_unknown_query_and_folder(built, tmp_path):
    with pytest.raises(UserError, match=r"query 'nobody': not among the \d+ queries of this data set, such as '"):
        reselection.main(built, [], explained="nobody")
    with pytest.raises(UserError, match=r"build it first: python -m builders\.build RECIPE"):
        reselection.main(tmp_path / "nothing", [])


def test_a_data_set_with_settings_of_an_earlier_version_is_selected_again(built, tmp_path):
    manifest = manifest_of(built)
    manifest["settings"]["negatives"]["dense"]["rounds"] = 1
    (built / "manifest.json").write_text(json.dumps(manifest))
    reselection.main(built, [], tmp_path / "again")
    assert "rounds" not in manifest_of(tmp_path / "again")["settings"]["negatives"]["dense"]
