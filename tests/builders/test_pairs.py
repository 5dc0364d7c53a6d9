"""Queries that the corpus itself holds: titles and sentences, in configurations of their own."""

import json

import pyarrow.parquet as pq
import pytest

from builders.queries.pairs import crops, titles
from builders.selection import __main__ as reselection
from cards.verify.artefact import Artefact, find
from cards.verify.dataset import dataset_links
from cards.verify.exam import check_exam
from cards.verify.links import BrokenError
from foils.errors import UserError
from tests.conftest import ANIMALS
from training.rows.hold_out import groups_of, key_of
from training.rows.source import resolve

PAIRS = 'queries.pairs=["titles", "crops"]'


@pytest.fixture
def titled(write_corpus):
    """The animals under titles of two words, but for one without a title and two with the same."""
    titles = {name: f"The {name}" for name in ANIMALS} | {"yak": "", "bee": "The eel"}
    return write_corpus(
        [(name, titles[name], f"{text} It lives on for many years.") for name, text in ANIMALS.items()], "titled"
    )


def rows(folder, config):
    return pq.read_table(folder / config).to_pylist()


@pytest.mark.parametrize(
    ("heading", "text", "found"),
    [
        ("Bees", "Bees dance for others in the hive.", "too-short"),
        ("How bees dance", "How bees dance", "nothing-left"),
        ("How  Bees dance", "how bees\ndance: in the dark of a hive.", ("How Bees dance", "in the dark of a hive.")),
        ("The bee", "The bees of the hive dance.", ("The bee", "The bees of the hive dance.")),
        ("蜜蜂如何跳舞", "蜜蜂用舞蹈告诉同伴花在哪里开放。", ("蜜蜂如何跳舞", "蜜蜂用舞蹈告诉同伴花在哪里开放。")),
    ],
)
def test_titles(heading, text, found):
    assert list(titles({"_id": "a", "title": heading, "text": text})) == [found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Owls hunt at night by ear, as Dr. Lee saw.", {"one-sentence"}),
        ("Owls hunt by ear. They fly. Owls hunt by ear.", {"said-twice", "too-short"}),
        ("Go. Owls hunt mice at night by ear alone.", {"nothing-left", "too-short"}),
    ],
)
def test_passages_without_a_crop(text, found):
    assert {*crops({"_id": "a", "title": "", "text": text}, 1)} == found


def test_a_passage_and_its_crop_are_the_whole(titled):
    for line in (titled / "corpus.jsonl").read_text().splitlines():
        passage = json.loads(line)
        query, rest = next(crops(passage, 42))
        assert query not in rest
        whole = f"{passage['title']} {passage['text']}"
        assert sorted(f"{query} {rest}".split()) == sorted(whole.split())


def test_rows_of_their_own_that_keep_clear_of_the_exam(build_animals, titled, tmp_path):
    settings = [f"corpus.source={titled}", PAIRS, "exam.queries=2", 'negatives.kinds=["random"]']
    folder = build_animals("pairs", *settings)
    kept = {row["corpus-id"] for row in rows(folder, "exam-groups")}
    texts = {row["_id"]: row["text"] for row in rows(folder, "corpus")}
    free = {name for name in ANIMALS if name not in kept}
    pairs = [(row["query"], row["positive"]) for row in rows(folder, "titles")]
    found = {name for name in free if texts[name] in dict(pairs).values()}
    assert all(
        query == f"The {name}" or name == "bee" for name in found for query, text in pairs if text == texts[name]
    )
    assert len(dict(pairs)) == len(pairs)
    assert len(pairs) == len(found)
    assert len(rows(folder, "crops")) == len(free)
    drops = {row["id"]: row["reason"] for row in rows(folder, "drops") if row["stage"] == "titles"}
    assert drops.keys() | found == free
    assert drops["yak"] == "no-title"
    assert "rows of titles" in json.loads((folder / "manifest.json").read_text())["funnel"]
    assert "`titles`" in (folder / "README.md").read_text()
    source = resolve(str(folder), None)
    assert {"crops", "random", "titles"} == {*source.kinds}
    assert source.draws("none")[0].parts == ("random",)
    group = groups_of([source])
    assert group.keys() >= {key_of(row["query"]) for config in ("titles", "crops") for row in rows(folder, config)}
    assert (
        group[key_of("The hen")]
        == group[key_of(next(row["query"] for row in rows(folder, "crops") if "The hen" in row["positive"]))]
    )
    assert [link for link in dataset_links(Artefact("d", "dataset", folder)) if link.status == "broken"] == []
    reselection.main(folder, ["seed=7"], tmp_path / "again")
    assert rows(tmp_path / "again", "titles") == rows(folder, "titles")
    planted = pq.read_table(folder / "titles").to_pylist()
    planted[0]["positive"] = texts[min(kept)]
    (file,) = (folder / "titles").glob("*.parquet")
    pq.write_table(pq.read_table(file).from_pylist(planted), file)
    with pytest.raises(BrokenError, match=r"titles: the positive '.*' is a passage of the exam"):
        check_exam(find(str(folder)))


def test_a_stub_with_the_text_of_an_exams_passage_is_no_answer(build_animals, write_corpus):
    stub = "This page has moved, see there."
    own = iter(["Alone in all the wide world.", "Together with a great many others.", "Never far from its own home."])
    corpus = write_corpus([(name, fact[:-1], stub if name > "bee" else next(own)) for name, fact in ANIMALS.items()])
    folder = build_animals("stubs", f"corpus.source={corpus}", 'queries.pairs=["titles"]', "exam.queries=4")
    kept = {row["corpus-id"] for row in rows(folder, "exam-groups")}
    assert any(name > "e" for name in kept)
    assert not any(row["positive"] == stub for row in rows(folder, "titles"))
    check_exam(find(str(folder)))


def test_a_corpus_without_titles(build_animals, write_corpus, chat_server):
    corpus = write_corpus([(name, "", text) for name, text in ANIMALS.items()], "bare")
    with pytest.raises(UserError, match=r"pairs \['titles'\]: none of the 12 passages has a title; leave titles out"):
        build_animals("bare", f"corpus.source={corpus}", 'queries.pairs=["titles"]')
    assert not chat_server.bodies
