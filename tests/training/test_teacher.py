"""A teacher's stored scores meet the rows that were made from them: checked against the teacher itself."""

import numpy as np
import pyarrow as pa
import pytest
from sentence_transformers import CrossEncoder

from builders import build
from builders.dataset.folder import write_config
from builders.recipe import BuildRecipe
from foils.errors import UserError
from foils.recipe import load_recipe
from tests.chat_server import ChatServer, about_animals
from tests.conftest import ANIMALS, SHARED, as_corpus
from tests.fixtures import tiny
from training.rows.ingredients import load_rows
from training.rows.source import resolve
from training.rows.teacher import scorers_of, with_scores

RANKER = SHARED / "models" / "cross-encoder-mini"
SCORE_ALL = "selection.floor={cross-encoder=-1000}"


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    """A folder with a cross-encoder."""
    return RANKER if RANKER.exists() else tiny.cross_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def made(tmp_path_factory, ranker):
    """Builds from the animals, written and mined negatives alike, by the real builder."""
    folder = tmp_path_factory.mktemp("made")
    path = folder / "recipe.toml"

    def build_it(name, *overrides):
        with ChatServer() as server:
            server.script = about_animals
            path.write_text(
                f'name = "animals"\n[corpus]\nsource = "{as_corpus(folder / "animals", ANIMALS)}"\nsample = 8\n'
                f'license = "cc0-1.0"\n[llm]\nbase_url = "{server.url}"\nmodel = "scripted"\n[queries]\n'
                'round_trip_k = 0\n[negatives]\nkinds = ["llm", "bm25", "random", "cross-encoder"]\nper_query = 1\n'
                f'[negatives.cross-encoder]\nmodel = "{ranker}"\npool = 4\nmax_length = 64\n'
            )
            out = folder / name
            build.main(load_recipe(path, overrides, BuildRecipe), out, folder / f"{name}.sqlite")
        return resolve(str(out), None)

    return build_it


@pytest.fixture(scope="module")
def scored(made):
    """A data set in which the cross-encoder has scored the candidates of every kind."""
    return made("scored", SCORE_ALL)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits)))


@pytest.mark.parametrize("kind", ["llm", "bm25", "random", "cross-encoder", "llm+bm25", "none"])
def test_each_label_is_what_the_teacher_says_of_the_rows_own_texts(scored, ranker, kind):
    assert scorers_of(scored) == ("bm25", "cross-encoder")
    rows = load_rows(scored, kind).shuffle(seed=3).select(range(5))
    labelled = with_scores(rows, scored, kind, "cross-encoder")
    assert labelled.column_names == [*rows.column_names, "label"]
    assert labelled.remove_columns("label")[:] == rows[:]
    teacher = CrossEncoder(str(ranker), max_length=64, device="cpu")
    pairs = [(row["query"], row[column]) for row in rows for column in rows.column_names if column != "query"]
    expected = np.asarray(teacher.predict(pairs, show_progress_bar=False)).reshape(len(rows), -1)
    assert np.abs(sigmoid(labelled["label"][:]) - expected).max() < 2e-4  # labels are logits again


def test_a_kind_that_nobody_scored_is_refused_and_the_remedy_helps(made):
    plain = made("plain")
    with_scores(load_rows(plain, "cross-encoder"), plain, "cross-encoder", "cross-encoder")  # its miner has scored it
    with pytest.raises(
        UserError, match=r"kind 'llm': \d+ of 16 \(.*%\) of its pairs .* no score of 'cross-enc"
    ) as refused:
        with_scores(load_rows(plain, "llm"), plain, "llm", "cross-encoder")
    assert f"--set '{SCORE_ALL}'" in str(refused.value)  # which is how `scored` was built


def dataset(folder, scorer, scores, *, queries=("owl?", "bee?"), titles=("", "", "")):
    """A data set by hand: passage p2 has p0's text, and only one of the two was scored for each query."""
    texts = ["Owls hunt.", "Bees dance.", "Owls hunt."]
    asked = ["q0", "q0", "q1", "q1"]
    write_config(folder, "corpus", pa.table({"_id": ["p0", "p1", "p2"], "title": titles, "text": texts}))
    write_config(folder, "train-queries", pa.table({"_id": ["q0", "q1"], "text": queries}))
    pairs = {"query-id": asked, "corpus-id": ["p2", "p1", "p0", "p1"], "score": pa.array(scores, pa.float64())}
    write_config(folder, f"scores-{scorer}", pa.table(pairs))
    read = [f"{title} {text}".strip() for title, text in zip(titles, texts, strict=True)]
    rows = {"query": queries, "positive": [read[0], read[1]], "negative_1": [read[1], read[2]]}
    write_config(folder, "bm25", pa.table(rows))
    return resolve(str(folder), None)


def labels(source, scorer):
    return with_scores(load_rows(source, "bm25"), source, "bm25", scorer)["label"][:]


@pytest.mark.parametrize("titles", [("", "", ""), ("Owl", "", "Owl")])
def test_equal_texts_share_their_scores_and_have_their_titles(tmp_path, titles):
    source = dataset(tmp_path, "cross-encoder", [4.0, -2.0, -3.0, 5.0], titles=titles)
    assert load_rows(source, "bm25")[0]["positive"] == f"{titles[0]} Owls hunt.".strip()
    assert labels(source, "cross-encoder") == [[4.0, -2.0], [5.0, -3.0]]


def test_labels_are_logits_whatever_the_scorer_gives(tmp_path):
    probabilities = labels(dataset(tmp_path / "p", "cross-encoder", [0.5, 0.1, 0.0, 1.0]), "cross-encoder")
    assert probabilities[0] == pytest.approx([0.0, np.log(1 / 9)], abs=1e-6)
    assert probabilities[1] == pytest.approx([13.8155, -13.8155], abs=1e-3)  # stored with six digits
    cosines = labels(dataset(tmp_path / "c", "dense", [0.9, 0.1, 0.0, 0.5]), "dense")
    assert cosines == [[18.0, 2.0], [10.0, 0.0]]


def test_a_missing_score_is_never_made_up(tmp_path):
    source = dataset(tmp_path, "cross-encoder", [4.0, None, -3.0, 5.0])
    with pytest.raises(UserError, match=r"1 of 4 \(25.0%\) of its pairs of query and passage have no score"):
        labels(source, "cross-encoder")


def test_a_data_set_of_an_earlier_version_is_built_again(tmp_path):
    source = dataset(tmp_path, "cross-encoder", [4.0, -2.0, -3.0, 5.0])
    (tmp_path / "train-queries").rename(tmp_path / "queries")
    with pytest.raises(UserError, match=r"no train-queries, as an earlier version built it; build it again with"):
        labels(source, "cross-encoder")


@pytest.mark.hub
def test_scores_from_the_hub_at_a_revision(tmp_path, hub):
    hub.create_repo("dataset", "foils/taught")
    configs = {"bm25": "train", "train-queries": "train", "corpus": "corpus", "scores-cross-encoder": "train"}
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {name}/*.parquet\n"
        for name, split in configs.items()
    )
    for number, scores in enumerate(([4.0, -2.0, -3.0, 5.0], [1.0, -1.0, -1.0, 2.0]), start=1):
        folder = tmp_path / str(number)
        dataset(folder, "cross-encoder", scores)
        files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.parquet")}
        commit = hub.commit("dataset", "foils/taught", {"README.md": f"{card}---\n".encode(), **files})
        hub.tag("dataset", "foils/taught", f"v{number}.0.0", commit)
    for version, expected in (("v1.0.0", [[4.0, -2.0], [5.0, -3.0]]), ("v2.0.0", [[1.0, -1.0], [2.0, -1.0]])):
        source = resolve("foils/taught", version)
        assert scorers_of(source) == ("cross-encoder",)
        assert labels(source, "cross-encoder") == expected
