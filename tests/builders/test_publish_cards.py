"""Damaged folders, and what a repository holds already: cards and manifests of other hands."""

import math
import re

import pytest

from builders.publish import publish_dataset
from cards.merging import parse_card
from cards.publish.release import Target
from foils.errors import UserError
from tests.fixtures.publications import local, published, state
from tests.hub import Fault

pytestmark = pytest.mark.hub


@pytest.mark.parametrize(
    ("readme", "words"),
    [
        (b"---\na: [b\n---\n# X\n", "README.md on the Hub: card: its YAML cannot be read (while parsing a flow"),
        (
            b"---\n- a\n---\n# X\n",
            "README.md on the Hub: card: its YAML is not a mapping of keys to values",
        ),
        (b"# Caf\xe9\n", "README.md is not UTF-8 at byte 5; correct it on the Hub"),
    ],
)
def test_cards_that_people_have_to_mend(hub, built_animals, readme, words):
    hub.create_repo("dataset", "alice/mend")
    hub.commit("dataset", "alice/mend", {"README.md": readme})
    before = state(hub, "alice/mend")
    with pytest.raises(UserError) as caught:
        publish_dataset(built_animals("one"), Target("alice/mend"))
    assert words in str(caught.value)
    assert state(hub, "alice/mend") == before


@pytest.mark.parametrize(
    "readme", [b"---\r\nfoo: bar\r\n---\r\n# X\r\n\r\nOurs.\r\n", b"\xef\xbb\xbf---\nfoo: bar\n---\n# X\n\nOurs.\n"]
)
def test_cards_from_other_machines_are_merged(hub, built_animals, readme):
    repo_id = f"alice/merged-{readme[0]}"
    hub.create_repo("dataset", repo_id)
    hub.commit("dataset", repo_id, {"README.md": readme})
    publish_dataset(built_animals("one"), Target(repo_id))
    for revision in ("main", "v1.0.0"):
        card = parse_card(published(hub, repo_id, revision)["README.md"].decode())
        assert card.data["foo"] == "bar"
        assert card.data["license"] == "cc0-1.0"
        assert card.text.lstrip().startswith("# X\n\nOurs.\n")
        assert card.text.count("# X") == 1


def test_a_readme_that_cannot_be_read_is_not_taken_for_none(hub, built_animals):
    """Or what people wrote would be overwritten."""
    hub.create_repo("dataset", "alice/unread")
    hub.commit("dataset", "alice/unread", {"README.md": b"# Years of work\n"})
    before = state(hub, "alice/unread")
    hub.faults.add(Fault(403, "HEAD", "README.md", times=math.inf, body={"error": "not for you"}))
    with pytest.raises(UserError, match="does not allow this"):
        publish_dataset(built_animals("one"), Target("alice/unread"))
    assert state(hub, "alice/unread") == before


@pytest.mark.parametrize("foreign", [b"[1, 2]", b"{", b'{"configs": [1]}', b'{"files": 3}'])
def test_a_manifest_of_another_kind_on_main(hub, built_animals, foreign):
    repo_id = f"alice/foreign-{len(foreign)}"
    hub.create_repo("dataset", repo_id)
    hub.commit("dataset", repo_id, {"manifest.json": foreign, "notes.txt": b"mine"})
    folder = built_animals("one")
    publish_dataset(folder, Target(repo_id))
    assert published(hub, repo_id, "main") == {**local(folder), "notes.txt": b"mine"}


def test_a_version_with_a_manifest_of_another_program(hub, built_animals):
    hub.create_repo("dataset", "alice/program")
    hub.commit("dataset", "alice/program", {"manifest.json": b'{"made by": "hand"}'})
    hub.tag("dataset", "alice/program", "v1.2.3")
    publish_dataset(built_animals("one"), Target("alice/program"))
    assert set(hub.repo("dataset", "alice/program").tags) == {"v1.2.3", "v2.0.0"}


def test_files_that_the_repository_ignores_are_named(hub, built_animals):
    hub.create_repo("dataset", "alice/ignored")
    hub.commit("dataset", "alice/ignored", {".gitignore": b"*.parquet\n"})
    with pytest.raises(UserError, match=r"the Hub left out bm25/train-00000-of-00001-\w{16}\.parquet; .*\.gitignore"):
        publish_dataset(built_animals("one"), Target("alice/ignored"))
    assert hub.repo("dataset", "alice/ignored").tags == {}


def test_a_card_that_the_hub_refuses(hub, built_animals):
    fault = Fault(400, path="/api/validate-yaml", body={"errors": [{"message": '"license" must be one of ...'}]})
    hub.faults.add(fault)
    with pytest.raises(UserError, match=r'publishing v1\.0\.0 .*: refused: .*"license" must be one of \.\.\.$'):
        publish_dataset(built_animals("one"), Target("alice/metadata"))


def test_folders_that_are_no_data_set_or_damaged(hub, built_animals, tmp_path):
    def line(folder):
        with pytest.raises(UserError) as caught:
            publish_dataset(folder, Target("alice/damaged"))
        return str(caught.value)

    assert line(tmp_path / "nowhere").endswith("empty or not there; build it first: python -m builders.build RECIPE")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    assert "holds no data set (manifest.json is missing or unreadable)" in line(tmp_path / "notes")
    folder = built_animals("changed")
    (shard,) = (folder / "bm25").iterdir()
    shard.write_bytes(shard.read_bytes()[:-1] + b"X")
    assert re.search(rf"{shard}: has SHA-256 \w{{64}} and manifest.json says \w{{64}}; it was changed", line(folder))
    shard.unlink()
    assert f"{shard}: manifest.json lists it and it is not there; make the folder again" in line(folder)
    folder = built_animals("climbs")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("bm25/train-", "../../train-"))
    assert f"holds the path '../../{shard.name}', which would leave the folder" in line(folder)
    folder = built_animals("card")
    card = folder / "README.md"
    text = card.read_text()
    card.write_text(text.replace("foils:use", "nothing"))
    assert f"{card}: its part between the marks foils:use is gone; build the data set again" in line(folder)
    card.write_text("---\na: [b\n---\n" + text.partition("\n---\n")[2])
    assert f"{card}: card: its YAML cannot be read" in line(folder)
    card.unlink()
    assert f"{card}: it is not there, or no UTF-8; build the data set again" in line(folder)
    assert hub.repos() == []
