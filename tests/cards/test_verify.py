"""Lineage: what is in order is verified, and every kind of tampering is found."""

import json
import re
import shutil
from contextlib import chdir
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import build
from builders.publish import publish_dataset
from builders.recipe import BuildRecipe
from cards.publish.release import Target
from cards.verify.__main__ import verify
from cards.verify.dataset import model_at
from cards.verify.links import examine
from eval import run
from eval.recipe import EvalRecipe
from foils.errors import UserError
from foils.hub import download
from foils.models import EMBEDDED_MODELS
from foils.recipe import load_recipe
from foils.records import ModelEntry
from tests.chat_server import ChatServer, about_animals
from tests.conftest import ANIMALS, BASE, HUB, as_corpus
from tests.fixtures import commands
from training import train
from training.publish import publish_model
from training.recipe import TrainRecipe

pytestmark = pytest.mark.hub

REPO, MODEL = "alice/lineage", "alice/lineage-model"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set and a model trained on it, both published, the model evaluated, with their folders."""
    HUB.reset()
    folder = tmp_path_factory.mktemp("lineage")
    corpus = as_corpus(folder / "animals", ANIMALS)
    (folder / "train.toml").write_text(
        f'dataset = "{REPO}"\nrevision = "v1.0.0"\nkind = "bm25"\nbase = "{BASE}"\nmax_seq_length = 32\n'
        "[trainer]\nmax_steps = 1\nper_device_train_batch_size = 4\nlearning_rate = 1e-3\n"
    )
    (folder / "eval.toml").write_text(
        f'model = "{folder / "model"}"\ntasks = ["{REPO}@v1.0.0"]\nresults = "{folder / "results"}"\n'
    )
    with ChatServer() as server:
        server.script = about_animals
        (folder / "build.toml").write_text(
            f'name = "lineage"\n[corpus]\nsource = "{corpus}"\nlicense = "cc0-1.0"\nsample = 8\n'
            f'[llm]\nbase_url = "{server.url}"\nmodel = "scripted"\n[queries]\nround_trip_k = 3\n'
            '[negatives]\nkinds = ["bm25", "random"]\n[exam]\nqueries = 4\n'
        )
        build.main(load_recipe(folder / "build.toml", [], BuildRecipe), folder / "dataset", folder / "calls.sqlite")
    publish_dataset(folder / "dataset", Target(REPO))
    train.main(load_recipe(folder / "train.toml", [], TrainRecipe), folder / "model")
    publish_model(folder / "model", Target(MODEL))
    run.main(load_recipe(folder / "eval.toml", [], EvalRecipe), push=MODEL)
    yield folder
    HUB.reset()


@pytest.fixture
def copy(made, tmp_path):
    """A copy of a folder, to be tampered with."""

    def make(name):
        return shutil.copytree(made / name, tmp_path / name)

    return make


def broken(reference):
    return {link.name: link.detail for link in verify(str(reference)) if link.status == "broken"}


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=2))


def set_in(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("reference", [MODEL, f"{MODEL}@v1.0.0", f"datasets/{REPO}", f"{REPO}@v1.0.0"])
def test_what_is_in_order(reference):
    links = verify(reference)
    assert [link for link in links if link.status == "broken"] == []
    names = {link.name for link in links if link.status == "verified"}
    assert {"data set: files", "data set: references", "data set: corpus content", "data set: version"} <= names
    if MODEL in reference:
        assert {"model: version", "model: weights", "model: base", "model: data set", "model: training rows"} <= names
    if reference == MODEL:
        assert {"scores: weights", "scores: card", "scores: lineage", "scores: lineage, task data"} <= names


def test_folders_are_in_order(made):
    assert broken(made / "dataset") == {}
    assert broken(made / "model") == {}


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (set_in("configs", "bm25", "rows", value=99), "data set: rows and columns", "bm25 has 8 rows, and .* says 99"),
        (set_in("configs", "bm25", "columns", value=["a"]), "data set: rows and columns", "has columns"),
        (set_in("inputs", "corpus", "sha256", value="0" * 64), "data set: corpus content", "passages' SHA-256"),
        (set_in("prompts", "question-v1", value="x"), "data set: prompts", "question-v1 has another SHA-256"),
        (
            set_in("inputs", "corpus", value={"source": "bob/gone", "revision": "0" * 40, "sha256": "0" * 64}),
            "data set: corpus revision",
            "not on the Hub",
        ),
        (set_in("settings", "negatives", "bm25", "depth", value=7), "data set: recipe", "not those that .* their hash"),
        (set_in("recipe", "overrides", value=["seed=7"]), "data set: recipe", "the recipe's seed is not that"),
        (set_in("fates", "bm25", "chosen", value=80), "data set: counts", r"fates of bm25 come to .* says .*80"),
        (
            lambda manifest: manifest["funnel"].update({"queries with negatives of every kind": 80}),
            "data set: counts",
            r"80 queries are left by manifest.json, and its kinds have \[8\] rows",
        ),
        (
            lambda manifest: manifest["configs"].pop("random"),
            "data set: recipe",
            "kinds bm25; the recipe's are bm25, random",
        ),
        (
            lambda manifest: manifest["configs"].pop("candidates-bm25"),
            "data set: recipe",
            "no configuration candidates-bm25",
        ),
        (set_in("license", value="mit"), "data set: card", "licence cc0-1.0, and manifest.json mit"),
        (lambda manifest: manifest.pop("configs"), "data set: files", "lists no files"),
        (set_in("inputs", value=[]), "data set: files", r"Expected `object`, got `array` - at `\$.inputs`"),
        (
            lambda manifest: manifest["configs"]["bm25"]["files"].update({"../../secret.parquet": "0" * 64}),
            "data set: files",
            "would leave the folder",
        ),
        (
            lambda manifest: manifest["configs"]["bm25"]["files"].update({"/etc/passwd": "0" * 64}),
            "data set: rows and columns",
            "would leave the folder",
        ),
    ],
)
def test_a_manifest_that_lies(copy, change, name, words):
    folder = copy("dataset")
    rewrite(folder / "manifest.json", change)
    found = broken(folder)
    assert re.search(words, found[name]), found


def test_rows_that_were_changed(copy):
    folder = copy("dataset")
    (file,) = (folder / "bm25").iterdir()
    table = pq.read_table(file)
    swapped = table.set_column(1, "positive", pa.array(table["positive"].to_pylist()[::-1]))
    pq.write_table(swapped, file)
    found = broken(folder)
    assert f"bm25/{file.name} has another SHA-256" in found["data set: files"]
    assert "bm25: its rows are not those that judgements and fates name" in found["data set: references"]
    file.unlink()
    assert "is listed and not there" in broken(folder)["data set: files"]


def test_a_file_that_is_not_listed_and_a_card_of_other_rows(copy):
    folder = copy("dataset")
    (file,) = (folder / "bm25").iterdir()
    shutil.copy(file, folder / "bm25" / "train-00001-of-00002.parquet")  # such as another build's
    card = folder / "README.md"
    card.write_text(card.read_text().replace("| `bm25` | 8 |", "| `bm25` | 80 |"))
    found = broken(folder)
    assert found["data set: files"].startswith("bm25/train-00001-of-00002.parquet is not listed; training would read")
    assert found["data set: card"] == "its text is not what manifest.json and the files say"
    (file,) = (folder / "scores-bm25").iterdir()
    pq.write_table(pq.read_table(file).slice(1), file)
    assert broken(folder)["data set: card"] == "its dataset_info is not what the files hold"


def test_a_negative_that_is_the_positive(copy):
    folder = copy("dataset")
    (judged,), (fates,), (rows,) = (list((folder / name).iterdir()) for name in ("train-qrels", "fates", "random"))
    answers = dict(zip(*pq.read_table(judged).select(["query-id", "corpus-id"]).to_pydict().values(), strict=True))
    table = pq.read_table(fates)
    told = [
        {**row, "corpus-id": answers[row["query-id"]]} if row["kind"] == "random" and "negative" in row["fate"] else row
        for row in table.to_pylist()
    ]
    pq.write_table(pa.Table.from_pylist(told, table.schema), fates)
    assert "random: its rows are not those that judgements and fates name" in broken(folder)["data set: references"]
    table = pq.read_table(rows)
    pq.write_table(table.set_column(2, "negative_1", table["positive"]), rows)
    assert "has the text of one of its positives" in broken(folder)["data set: references"]


def test_figures_that_were_polished(copy):
    folder = copy("model")

    def polish(scores):
        scores[0]["value"] += 0.01

    rewrite(folder / "evaluation" / "scores.json", polish)
    found = broken(folder)
    wanted = r"nDCG@10: value is 0\.\d+ from the rankings, and stated as 0\.\d+$"
    assert re.match(wanted, found["scores: lineage"])
    assert "does not show" in found["scores: card"]

    folder = folder.rename(folder.with_name("card-only"))
    shutil.rmtree(folder / "evaluation")
    shutil.copytree(copy("model") / "evaluation", folder / "evaluation")
    card = folder / "README.md"
    card.write_text(card.read_text().replace("nDCG@10 |", "nDCG@10 | 0.9999 |", 1))
    assert set(broken(folder)) == {"scores: card"}


def without_rows(pattern, start):
    """A change of a model's folder: a table of its evaluation from a row on."""

    def change(folder):
        (file,) = folder.glob(pattern)
        pq.write_table(pq.read_table(file).slice(start), file)

    return change


def other_weights(folder):
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")


def scores_of_other_weights(folder):
    def change(scores):
        for score in scores:
            score["weights"] = "sha256:" + "0" * 64

    rewrite(folder / "evaluation" / "scores.json", change)


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (other_weights, "model: weights", "the weights are sha256:.*, and run.json says"),
        (scores_of_other_weights, "scores: weights", "measured on weights"),
        (without_rows("evaluation/*/rankings.parquet", 5), "scores: lineage", "from the rankings, and stated as"),
        (without_rows("evaluation/*/judgements.parquet", 1), "scores: lineage, task data", "are not those of"),
    ],
)
def test_a_model_that_was_changed(copy, change, name, words):
    folder = copy("model")
    change(folder)
    assert re.search(words, broken(folder)[name])


def test_a_judgement_of_0_makes_no_difference(copy):
    folder = copy("model")
    (file,) = folder.glob("evaluation/*/judgements.parquet")
    table = pq.read_table(file)
    another = pa.table({"query-id": ["another"], "corpus-id": ["nothing"], "score": [0]}).cast(table.schema)
    pq.write_table(pa.concat_tables([table, another]), file)
    assert "scores: lineage, task data" not in broken(folder)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (set_in("dataset", "revision", value="0" * 40), "model: data set"),
        (set_in("dataset", "tag", value="v9.9.9"), "model: data set"),
        (set_in("dataset", "rows", value=7), "model: training rows"),
        (set_in("dataset", "kind", value="llm"), "model: training rows"),
        (set_in("dataset", "name", value="alice/gone"), "model: data set"),
        (set_in("model", "revision", value="sha256:" + "0" * 64), "model: weights"),
        (set_in("base", "name", value="alice/other-base"), "model: card"),
    ],
)
def test_a_run_record_that_lies(copy, change, name):
    folder = copy("model")
    rewrite(folder / "run.json", change)
    assert name in broken(folder)


def test_links_that_go_nowhere(made, caplog):
    """Moved tags, missing repositories, and a command that ends with 1."""
    fine = commands.module("cards.verify", MODEL)
    assert fine.returncode == 0, fine.stdout
    repo = HUB.repo("dataset", REPO)
    published = repo.tags["v1.0.0"]
    HUB.commit("dataset", REPO, {"notes.txt": b"x"})
    HUB.move_tag("dataset", REPO, "v1.0.0", "main")
    try:
        moved = commands.module("cards.verify", MODEL)
    finally:
        HUB.move_tag("dataset", REPO, "v1.0.0", published)
    assert moved.returncode == 1
    assert f"{REPO}@v1.0.0 was {published[:12]} when it was trained on" in moved.stdout
    assert "1 broken" in moved.stdout
    with pytest.raises(UserError, match="the Hub has no such repository"):
        verify("alice/never-was")
    with pytest.raises(UserError, match="neither a data set nor a model of ours"):
        verify(str(made))
    with pytest.raises(UserError, match="no such folder; wanted a folder, owner/name or datasets/owner/name"):
        verify("nowhere")
    for path in ("./nowhere", str(made / "nowhere")):
        with pytest.raises(UserError, match=r"no such folder; .* each @revision$"):
            verify(path)
    with chdir(made.parent), pytest.raises(UserError, match=r"/nowhere: no such folder; .* each @revision$"):
        verify(f"{made.name}/nowhere")
    for name in (REPO.partition("/")[0], "outputs"):
        (made / name).mkdir()
    with chdir(made):
        with pytest.raises(UserError, match=r"outputs/nowhere: no such folder; wanted a folder, "):
            verify("outputs/nowhere")
        with pytest.raises(UserError, match="the Hub has no such repository"):
            verify("alice/nowhere")
        assert "alice/nowhere: no such folder; looked up on the Hub" in caplog.text
        assert not [link for link in verify(f"{REPO}@v1.0.0") if link.status == "broken"]


@pytest.mark.usefixtures("made")  # and not `hub`, which would empty the Hub that other tests of this module look at
@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [("model", "model: files", "no run.json: "), ("dataset", "data set: files", "no manifest.json: ")],
)
def test_a_repository_of_another_origin(kind, name, words):
    HUB.create_repo(kind, f"bob/plain-{kind}")
    HUB.commit(kind, f"bob/plain-{kind}", {"README.md": b"# plain\n", "config.json": b"{}"})
    (found,) = broken(f"bob/plain-{kind}").items()  # said once
    assert found[0] == name
    assert words in found[1]


@pytest.mark.parametrize(
    ("file", "content", "name"),
    [
        ("manifest.json", b"[]", "data set: files"),
        ("manifest.json", b"\xff", "data set: files"),
        ("README.md", b"---\nconfigs: 3\n---\n", "data set: card"),
    ],
)
def test_what_does_not_decode_is_broken(copy, file, content, name):
    folder = copy("dataset")
    (folder / file).write_bytes(content)
    assert name in broken(folder)


def test_a_mistake_of_ours_is_not_called_a_broken_link():
    def look():
        return {}["a key that the code got wrong"]

    with pytest.raises(KeyError):
        examine("scores", look)


@pytest.mark.usefixtures("made")
def test_what_cannot_be_looked_at_is_not_called_broken(monkeypatch):
    HUB.create_repo("dataset", "bob/gated", gated=True)
    commit = HUB.commit("dataset", "bob/gated", {"manifest.json": b"{}"})

    def look():
        return download("bob/gated", commit, "dataset", ["manifest.json"])

    assert examine("rows", look).status == "unverifiable"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert examine("rows", look).status == "unverifiable"
    absent = ModelEntry("sentence-transformers/absent", "sha256:0")
    monkeypatch.setitem(EMBEDDED_MODELS, "absent", ("absent", "", absent.name, "0"))
    assert "package absent is not installed" in examine("model", partial(model_at, absent)).detail
