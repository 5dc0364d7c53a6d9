"""What the build's own cross-encoder is trained on."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

from builders import schema
from builders.dataset.folder import read_config, read_manifest
from builders.negatives.domain_ranker import titled
from tests.conftest import ANIMALS, BASE

TITLES_WANTED = "negatives.cross-encoder.train_titles"
TITLES = ["How owls hunt", "Bees", "How bees dance", "How bees dance", "", "Eels swim far away"]


def corpus(titles=TITLES):
    rows = [{"_id": f"p{n}", "title": title, "text": f"text {n}"} for n, title in enumerate(titles)]
    return pa.Table.from_pylist(rows, schema.CORPUS)


def test_a_title_is_a_query_where_it_tells_its_passage_from_others():
    found = titled(corpus(), 10, seed=1)
    assert found["text"].to_pylist() == ["How owls hunt", "Eels swim far away"]
    assert found["corpus-id"].to_pylist() == ["p0", "p5"]
    assert found["_id"].to_pylist() == ["title of p0", "title of p5"]


def test_titles_are_drawn_by_seed():
    many = corpus([f"A title about {n}" for n in range(50)])
    first, again, other = (titled(many, 20, seed)["corpus-id"].to_pylist() for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 20
    assert titled(many, 0, seed=1).num_rows == 0
    assert titled(corpus([]), 5, seed=1).num_rows == 0


def test_a_build_trains_its_own_and_mines_with_it(build_animals, tmp_path):
    lines = [
        {"_id": name, "title": f"The life of the animal {name}", "text": f"{text} Such is the life of this animal."}
        for name, text in ANIMALS.items()
    ]
    (tmp_path / "titled.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    (tmp_path / "ranker.toml").write_text(
        f'dataset = "set by the build"\nkind = "bm25+random"\nbase = "{BASE}"\ntask = "cross-encoder"\n'
        "max_seq_length = 48\n[trainer]\nmax_steps = 2\nper_device_train_batch_size = 4\n",
        "utf-8",
    )
    overrides = {
        "corpus.source": f'"{tmp_path / "titled.jsonl"}"',
        "negatives.kinds": '["bm25", "cross-encoder", "random"]',
        "negatives.cross-encoder.train_with": f'"{tmp_path / "ranker.toml"}"',
        TITLES_WANTED: "9",
    }
    folder = build_animals("own-ranker", *(f"{key}={value}" for key, value in overrides.items()))
    queries = read_config(folder, read_manifest(folder), "train-queries").num_rows
    run = json.loads((folder.parent / "own-ranker-domain-ranker" / "run.json").read_text("utf-8"))
    trained_on = [pq.read_table(folder.parent / "own-ranker-domain-ranker-data" / kind) for kind in ("bm25", "random")]
    assert trained_on[0].num_rows == trained_on[1].num_rows == queries + 9
    positives = dict(zip(trained_on[0]["query"].to_pylist(), trained_on[0]["positive"].to_pylist(), strict=True))
    titles = [query for query in positives if query.startswith("The life of the animal ")]
    assert len(titles) == 9
    assert not any(title in positives[title] for title in titles)  # a passage's text without what would give it away
    manifest = read_manifest(folder)
    assert manifest["models"]["cross-encoder"]["revision"].startswith("sha256:")
    assert 0 <= manifest["mining"]["cross-encoder"]["own passage above the pool"] <= 1
    assert run["training"]["steps"] == 2
    assert "It puts a query's own passage above" in (folder / "README.md").read_text("utf-8")
    shutil.rmtree(folder)  # what the user is asked to do before another recipe's build; the ranker stays
    again = build_animals("own-ranker", *(f"{key}={value}" for key, value in {**overrides, TITLES_WANTED: "5"}.items()))
    assert json.loads((folder.parent / "own-ranker-domain-ranker" / "run.json").read_text("utf-8")) != run
    assert len(read_config(again, read_manifest(again), "train-queries")) == queries
