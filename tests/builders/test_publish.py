"""Publishing data sets to a Hub: what readers see, version rules, other writers, refusals."""

import json

import pytest
from huggingface_hub import DatasetCard

from builders.publish import publish_dataset
from cards.publish.files import write_files
from cards.publish.release import Target
from foils.errors import UserError
from tests.fixtures.comparison import CONTENT
from tests.fixtures.publications import UPLOAD, UPLOADED, local, published, state
from tests.hub import Fault

pytestmark = pytest.mark.hub


@pytest.mark.usefixtures("storage")
def test_the_tag_and_main_hold_the_folders_bytes(hub, built_animals, storage):
    folder = built_animals("one")
    publish_dataset(folder, Target("alice/first", "v1.0.0"))
    assert any("/xet" in request.path for request in hub.requests) is (storage == "xet")
    assert published(hub, "alice/first", "v1.0.0") == local(folder)
    assert published(hub, "alice/first", "main") == local(folder)
    assert set(hub.repo("dataset", "alice/first").refs) == {"main"}
    assert set(hub.repo("dataset", "alice/first").tags) == {"v1.0.0"}
    card = DatasetCard.load("alice/first")
    assert card.data.license == "cc0-1.0"
    assert card.data.to_dict()["version"] == "v1.0.0"
    assert {config["config_name"] for config in card.data.configs} == set(
        json.loads((folder / "manifest.json").read_text())["configs"]
    )
    assert 'load_dataset("alice/first", "llm", split="train", revision="v1.0.0")' in card.text


def test_the_same_again_is_nothing_to_do_and_other_content_is_refused(hub, built_animals):
    folder = built_animals("one")
    publish_dataset(folder, Target("alice/same", "v1.0.0"))
    before = state(hub, "alice/same")
    publish_dataset(folder, Target("alice/same", "v1.0.0"))
    publish_dataset(folder, Target("alice/same"))
    assert state(hub, "alice/same") == before
    other = built_animals("other", "seed=7")
    with pytest.raises(UserError, match=r"alice/same@v1\.0\.0: this version exists with other content \(.* differs\)"):
        publish_dataset(other, Target("alice/same", "v1.0.0"))
    assert state(hub, "alice/same") == before


def test_what_people_wrote_stays(hub, built_animals):
    publish_dataset(built_animals("one"), Target("alice/edited", "v1.0.0"))
    card = published(hub, "alice/edited", "main")["README.md"].decode()
    card = card.replace("# animals\n", "# Animals of ours\n\nAsk Ann about the owls.\n", 1)
    card = card.replace("pretty_name:", "arxiv: 1706.03762\npretty_name:", 1).replace(
        "- foils\n", "- foils\n- zoo\n", 1
    )
    hub.commit(
        "dataset",
        "alice/edited",
        {"README.md": (card + "\n## Limits\n\nOnly animals.\n").encode(), "owl.png": b"\x89PNG"},
    )
    publish_dataset(built_animals("two", "seed=7"), Target("alice/edited"))
    for revision in ("main", "v1.1.0"):
        files = published(hub, "alice/edited", revision)
        merged = files["README.md"].decode()
        for words in ("# Animals of ours", "Ask Ann about the owls.", "Only animals.", "1706.03762", "- zoo"):
            assert merged.count(words) == 1, words
        assert "owl.png" in files
        assert merged.index("### v1.1.0") < merged.index("### v1.0.0")
        assert "recipe: seed 42 -> 7" in merged
        assert 'revision="v1.1.0"' in merged
        assert 'revision="v1.0.0"' not in merged
        assert "version: v1.1.0" in merged
    assert b"Only animals" not in published(hub, "alice/edited", "v1.0.0")["README.md"]


def test_a_comparison_stands_on_main_and_not_in_the_version(hub, built_animals):
    folder = built_animals("told")
    write_files(folder, CONTENT.files((folder / "README.md").read_text()))
    for _ in range(2):
        publish_dataset(folder, Target("alice/told", "v1.0.0"))
        version, main = (published(hub, "alice/told", revision) for revision in ("v1.0.0", "main"))
        assert b"foils:comparison" not in version["README.md"]
        assert main["comparison/forest.png"] == CONTENT.figure
        assert set(main) - set(version) == {"comparison/forest.png", "comparison/comparison.json"}
        assert main["README.md"].count(b"| llm | 0.6250 |") == 1
        assert main["README.md"] == (folder / "README.md").read_bytes()
        commits = len(hub.repo("dataset", "alice/told").commits)
    publish_dataset(folder, Target("alice/told", "v1.0.0"))
    assert len(hub.repo("dataset", "alice/told").commits) == commits


def test_a_repository_with_a_readme_of_its_own(hub, built_animals):
    hub.create_repo("dataset", "alice/own-readme")
    hub.commit("dataset", "alice/own-readme", {"README.md": b"# My project\n\nSoon.\n"})
    publish_dataset(built_animals("one"), Target("alice/own-readme"))
    card = published(hub, "alice/own-readme", "main")["README.md"].decode()
    assert card.count("# My project\n\nSoon.") == 1
    assert "license: cc0-1.0" in card.partition("\n---\n")[0]
    assert "## Sample rows" in card


@pytest.mark.parametrize(
    ("overrides", "version", "reasons"),
    [
        (["seed=7"], "v1.1.0", ["recipe: seed 42 -> 7", "other rows in random"]),
        (["llm.model=other"], "v1.1.0", ["LLM: scripted -> other"]),
        (["corpus.sample=7"], "v1.1.0", ["llm: 8 -> 7 rows"]),
        (["corpus.license=cc-by-4.0"], "v1.0.1", ["licence: cc0-1.0 -> cc-by-4.0"]),
        (["negatives.kinds=['bm25', 'random']"], "v2.0.0", ["configuration llm is gone"]),
        (
            ["negatives.per_query=2", "negatives.kinds=['bm25', 'random']"],
            "v2.0.0",
            ["columns of bm25: query, positive, negative_1 -> query, positive, negative_1, negative_2"],
        ),
    ],
)
def test_the_next_version_and_its_reason(hub, built_animals, caplog, overrides, version, reasons):
    repo_id = f"alice/next-{version[1:]}-{len(overrides)}-{len(reasons[0])}"
    publish_dataset(built_animals("one"), Target(repo_id))
    before = state(hub, repo_id)
    folder = built_animals("two", *overrides)
    caplog.set_level("INFO")
    publish_dataset(folder, Target(repo_id, dry_run=True))
    for words in (f"{version}: ", *reasons):
        assert words in caplog.text
    assert state(hub, repo_id) == before
    if version != "v1.0.1":
        with pytest.raises(UserError, match=rf"version v1\.0\.1: the latest is v1\.0\.0 .*; wanted {version} or above"):
            publish_dataset(folder, Target(repo_id, "v1.0.1"))
    publish_dataset(folder, Target(repo_id))
    assert set(hub.repo("dataset", repo_id).tags) == {"v1.0.0", version}
    data = {path for path in published(hub, repo_id, "main") if path.endswith(".parquet")}
    assert data == {path for path in local(folder) if path.endswith(".parquet")}  # nothing of the older version is left
    entry = published(hub, repo_id, version)["README.md"].decode().split(f"### {version}")[1].split("### v1.0.0")[0]
    assert all(reason in entry for reason in reasons)


@pytest.mark.usefixtures("hub")
def test_nothing_differs_is_no_new_version(built_animals):
    folder = built_animals("one")
    publish_dataset(folder, Target("alice/nothing", "v1.0.0"))
    with pytest.raises(UserError, match=r"version v1\.1\.0: nothing differs from v1\.0\.0"):
        publish_dataset(folder, Target("alice/nothing", "v1.1.0"))


def test_a_commit_of_another_writer_just_before_main_moves(hub, built_animals):
    """The README that was edited meanwhile is merged; a foreign file stays; the tag holds what was published."""
    publish_dataset(built_animals("one"), Target("alice/race", "v1.0.0"))

    def edit():
        card = published(hub, "alice/race", "main")["README.md"] + b"\nMeanwhile.\n"
        hub.commit("dataset", "alice/race", {"README.md": card, "notes.txt": b"mine"})

    hub.faults.add(Fault(method="POST", path=r"/commit/main$", action=edit))
    folder = built_animals("two", "seed=7")
    publish_dataset(folder, Target("alice/race"))
    main = published(hub, "alice/race", "main")
    assert main.pop("notes.txt") == b"mine"
    card = main.pop("README.md").decode()
    assert card.count("Meanwhile.") == 1
    assert "### v1.1.0" in card
    ours = local(folder)
    assert ours.pop("README.md")
    assert main == ours
    assert "notes.txt" not in published(hub, "alice/race", "v1.1.0")
    assert set(hub.repo("dataset", "alice/race").refs) == {"main"}


def test_main_is_not_set_back_by_an_older_version(hub, built_animals):
    """Another publisher's later version arrives while ours is under way: ours gets its tag, main stays."""
    newer = built_animals("newer", "seed=7")
    hub.faults.add(
        Fault(method="POST", path=r"/tag/", action=lambda: publish_dataset(newer, Target("alice/late", "v1.1.0")))
    )
    publish_dataset(built_animals("one"), Target("alice/late", "v1.0.0"))
    assert set(hub.repo("dataset", "alice/late").tags) == {"v1.0.0", "v1.1.0"}
    assert published(hub, "alice/late", "main") == local(newer)


PASSING = {
    "busy": [
        Fault(status=503, method="POST", path=r"/commit/staging"),
        Fault(status=503, method="POST", path=r"/commit/main"),
        Fault(status=500, method="POST", path=r"/tag/"),
    ],
    "another's page": [
        Fault(status=503, method="POST", path=r"/branch/", body="<html>busy</html>"),
        Fault(status=503, path=r"/api/validate-yaml", body="<html>busy</html>"),
        Fault(status=502, path=r"/refs"),
    ],
    "conflicts": [
        Fault(status=429, path=r"/commit/", headers={"Retry-After": "0"}),
        Fault(status=412, method="POST", path=r"/commit/staging"),
        Fault(status=412, method="POST", path=r"/commit/main"),
    ],
    "cut": [Fault(cut=True, method="POST", path=r"/commit/staging"), Fault(cut=True, path=UPLOADED)],
    "cut after creation": [
        Fault(cut="after", method="POST", path=r"/api/repos/create"),
        Fault(cut="after", method="POST", path=r"/branch/"),
    ],
    "cut after staging": [Fault(cut="after", method="POST", path=r"/commit/staging")],
    "cut after tag": [Fault(cut="after", method="POST", path=r"/tag/")],
    "cut after main": [Fault(cut="after", method="POST", path=r"/commit/main")],
    "others": [
        Fault(status=503, path=UPLOAD),
        Fault(delay_s=1.0, path=r"/commit/main"),
        Fault(status=503, method="DELETE", path=r"/branch/"),
    ],
}


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize(
    ("storage", "name"), [*(("xet", name) for name in PASSING), ("lfs", "cut"), ("lfs", "others")], indirect=["storage"]
)
def test_what_passes_is_waited_for(hub, built_animals, name):
    repo_id = f"alice/patience-{list(PASSING).index(name)}"
    folder = built_animals("one")
    for fault in PASSING[name]:
        fault.fired = fault.seen = 0
        hub.faults.add(fault)
    publish_dataset(folder, Target(repo_id, "v1.0.0"))
    assert [fault.fired for fault in PASSING[name]] == [1] * len(PASSING[name])
    assert published(hub, repo_id, "v1.0.0") == published(hub, repo_id, "main") == local(folder)
    assert set(hub.repo("dataset", repo_id).refs) == {"main"}
    assert set(hub.repo("dataset", repo_id).tags) == {"v1.0.0"}


@pytest.mark.usefixtures("storage")
def test_a_file_that_comes_back_otherwise_is_noticed_before_any_tag(hub, built_animals):
    folder = built_animals("one")
    hub.faults.add(Fault(status=200, method="GET", path=r"/resolve/\w{40}/manifest.json", times=9, body=b"{}"))
    with pytest.raises(UserError, match=r"reading back alice/spoilt@.*be of size \d+ but has size 2 .*manifest\.json"):
        publish_dataset(folder, Target("alice/spoilt", "v1.0.0"))
    assert hub.repo("dataset", "alice/spoilt").tags == {}
    assert set(published(hub, "alice/spoilt", "main")) <= {"README.md"}
