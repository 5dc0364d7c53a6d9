"""Further data beside the data set, with shares; kinds with shares; rows that are streamed."""

import json
from collections import Counter
from itertools import chain, islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from builders.dataset.folder import write_config
from foils.errors import UserError
from foils.kinds import parse
from foils.recipe import load_recipe
from tests.conftest import BASE
from tests.fixtures.training import NUMBERED as MAIN
from tests.fixtures.training import N
from training.recipe import TrainRecipe
from training.rows import mixture
from training.rows.ingredients import load_rows
from training.rows.source import resolve


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set of ours with three kinds, and a general one of question-answer pairs in two forms."""
    folder = tmp_path_factory.mktemp("mixture")
    write_config(folder / "ours", "bm25", pa.table(MAIN))
    write_config(folder / "ours", "llm", pa.table({**MAIN, "negative_1": [f"written {n}" for n in range(N)]}))
    two = {**MAIN, "negative_1": [f"one {n}" for n in range(N)], "negative_2": [f"two {n}" for n in range(N)]}
    write_config(folder / "ours", "dense", pa.table(two))
    write_config(folder / "ours", "shifted", pa.table({**MAIN, "query": MAIN["query"][::-1]}))
    general = {
        "id": list(range(30)),
        "answer": [f"reply {n}" for n in range(30)],
        "question": [f"ask {n}" for n in range(30)],
    }
    (folder / "general").mkdir()
    pq.write_table(pa.table(general), folder / "general" / "train.parquet", row_group_size=7)
    lines = [json.dumps({"anchor": f"a {n}", "positive": f"p {n}", "negative": f"n {n}"}) for n in range(30)]
    (folder / "triplets.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def recipe(data, tmp_path):
    """A recipe for that data: `recipe(also=[{...}], streaming=True)`."""

    def make(*overrides, also=()):
        tables = ["[[also]]\n" + "\n".join(f"{key} = {value}" for key, value in each.items()) for each in also]
        path = tmp_path / "mixture.toml"
        path.write_text(
            f'dataset = "{data / "ours"}"\nkind = "bm25"\nbase = "{BASE}"\nmax_seq_length = 16\n'
            + "\n".join(tables)
            + "\n[trainer]\nper_device_train_batch_size = 4\nlearning_rate = 1e-3\n"
        )
        return load_recipe(path, overrides, TrainRecipe)

    return make


@pytest.fixture
def load(recipe):
    def make(*overrides, also=()):
        config = recipe(*overrides, also=also).config
        return mixture.load(config, resolve(config.dataset, config.revision))

    return make


def general(data, **more):
    return {"dataset": f'"{data / "general"}"', **more}


def triplets(data, **more):
    return {"dataset": f'"{data / "triplets.jsonl"}"', **more}


def test_one_data_set_is_what_it_was(load, data):
    training = load()
    assert training.rows.to_dict() == load_rows(resolve(str(data / "ours"), None), "bm25").to_dict() == MAIN
    assert training.arguments == {}
    assert training.record() == {
        "name": "ours", "revision": training.sources[0]["revision"], "tag": None, "kind": "bm25", "rows": N,
    }  # fmt: skip


def test_shares_are_of_all_rows(load, data):
    training = load(also=[general(data, share=0.25), triplets(data, share=0.25)])
    assert {name: len(rows) for name, rows in training.rows.items()} == {
        "ours/bm25": 40,
        "general": 20,
        "triplets.jsonl": 20,
    }
    assert [source["share"] for source in training.sources] == [0.5, 0.25, 0.25]
    assert training.columns["general"] == ["query", "positive"]
    assert training.columns["triplets.jsonl"] == ["query", "positive", "negative_1"]
    row = training.rows["general"][0]
    assert row["query"].replace("ask", "reply") == row["positive"]
    assert [about["used"] for about in training.record()["also"]] == [20, 20]


def test_without_a_share_all_rows_count(load, data):
    training = load(also=[general(data), triplets(data, share=0.3)])
    assert [source["used"] for source in training.sources] == [40, 30, 30]


def test_which_rows_are_taken_depends_on_texts_and_seed_alone(load, data, tmp_path):
    rows = pq.read_table(data / "general" / "train.parquet")
    (tmp_path / "general").mkdir()
    pq.write_table(rows.take(list(range(30))[::-1]), tmp_path / "general" / "train.parquet")
    taken = [
        set(load(*seed, also=[general(folder, share=0.2)]).rows["general"]["query"])
        for folder, seed in ((data, ()), (tmp_path, ()), (data, ("seed=2",)))
    ]
    assert taken[0] == taken[1] != taken[2]
    assert len(taken[0]) == len(taken[2]) == 10


def test_each_row_draws_its_kind(load):
    training = load("kind=llm:0.7,bm25:0.3")
    assert training.rows["query"][:] == MAIN["query"]
    words = Counter(text.split()[0] for text in training.rows["negative_1"])
    assert words == {"written": 25, "lexical": 15}
    assert all(text.endswith(f" {n}") for n, text in enumerate(training.rows["negative_1"]))
    assert load("kind=llm:0.7,bm25:0.3", "seed=2").rows["negative_1"][:] != training.rows["negative_1"][:]
    both = load("kind=dense:0.5,llm+bm25:0.5")
    assert both.rows.column_names == ["query", "positive", "negative_1", "negative_2"]
    assert {(row["negative_1"].split()[0], row["negative_2"].split()[0]) for row in both.rows} == {
        ("one", "two"), ("written", "lexical"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("llm:0.7,bm25", "'bm25' has no share; wanted NAME:SHARE for each, such as llm:0.7,bm25:0.3"),
        ("llm:0.7,bm25:0.7", "its shares make 1.4 together; they must make 1"),
        ("llm:1.5,bm25:-0.5", "'1.5' is not a share; wanted one above 0 and below 1"),
        ("llm:x,bm25:0.5", "'x' is not a share"),
        ("llm:0.5,llm:0.5", "names a kind twice; add their shares up"),
        ("llm+llm", "names a configuration twice"),
        ("llm:0.5,sparse:0.5", "no configuration 'sparse'; allowed: bm25, dense, llm, shifted, several joined"),
        ("llm:0.5,dense:0.5", "its parts have 1, 2 negatives a row, and a row gets those of one; name parts that"),
        ("llm:0.5,shifted:0.5", "its parts do not share their queries row by row; build them together"),
    ],
)
@pytest.mark.parametrize("streaming", ["false", "true"])
def test_kinds_that_make_no_sense(load, kind, words, streaming):
    with pytest.raises(UserError, match=words):
        next(iter(load(f"kind={kind}", f"streaming={streaming}", "trainer.max_steps=9").rows))


def test_a_mix_that_the_build_made_goes_first():
    assert [draw.parts for draw in parse("llm+bm25", ["llm", "bm25", "llm+bm25"], "x")] == [("llm+bm25",)]
    assert [draw.parts for draw in parse("llm+bm25", ["llm", "bm25"], "x")] == [("llm", "bm25")]


@pytest.mark.parametrize(
    ("also", "words"),
    [
        ({"share": 0.6}, r"share of 0\.6 beside 40 rows takes 60 rows; it has 30: 30 are missing.*at most 0\.4285"),
        ({"share": 0.001}, r"a share of 0\.001 beside 40 rows takes not one row"),
        ({"split": '"test"'}, "has no split 'test'; allowed: train"),
        ({"config": '"en"'}, "has no configuration 'en'; allowed: default"),
        ({"columns": '{query = "asked", positive = "answer"}'}, "no column 'asked'; allowed: id, answer, question"),
        ({"columns": '{query = "id", positive = "answer"}'}, "column 'id' holds int64 and not text"),
        ({"columns": '{query = "answer", positive = "answer"}'}, "columns names one twice: answer, answer"),
        ({"kind": '"bm25"', "split": '"train"'}, "split beside kind; kind is for a data set of ours"),
        ({"kind": '"bm25"'}, "no data set in it"),
        ({"dataset": '"nowhere"'}, "dataset nowhere: no such folder or file; wanted one, or a Hub id"),
        ({"dataset": '"owner/name"'}, "owner/name: a Hub data set needs its revision, such as a tag, a commit or main"),
        ({"share": 1.5}, "also.0.share: expected `float` < 1"),
        ({"share": 0}, "also.0.share: expected `float` > 0"),
        ({"shares": 0.1}, r"unknown key also\.0\.shares; allowed here: dataset, revision, kind, config, split"),
    ],
)
def test_further_data_that_cannot_be_used(load, data, also, words):
    with pytest.raises(UserError, match=words):
        load(also=[general(data, **also)])


def test_further_data_that_does_not_go_together(load, data):
    with pytest.raises(UserError, match="the shares make 1 together, which leaves nothing for ours"):
        load(also=[general(data, share=0.5), triplets(data, share=0.5)])
    with pytest.raises(UserError, match="the same data as general; name each once, with its share"):
        load(also=[general(data), general(data)])
    ours = {"dataset": f'"{data / "ours"}"', "share": 0.1}
    with pytest.raises(UserError, match="the same data as ours/bm25"):
        load(also=[{**ours, "kind": '"bm25"'}])
    assert list(load(also=[{**ours, "kind": '"llm"'}]).rows) == ["ours/bm25", "ours/llm"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"title": ["a"], "body": ["b"]}, "title, body leave a doubt which column is the query and which the positive"),
        ({"query": ["a"], "question": ["a"], "answer": ["b"]}, "query, question, answer leave a doubt"),
        ({"query": ["a"], "answer": ["b"], "label": [0]}, "column 'label' may say that not every row's answer is a"),
        ({"query": ["a", "b"], "answer": ["b", None]}, "row 2: answer is empty; leave such rows out"),
        ({"query": ["a", " \t"], "answer": ["b", "c"]}, "row 2: query is empty"),
        ({"query": ["\u200ba", "\u200b \ufeff\xad\u3164\x07"], "answer": ["b", "c"]}, "row 2: query is empty"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_columns_and_texts(load, tmp_path, columns, words, streaming):
    pq.write_table(pa.table(columns), tmp_path / "some.parquet")
    also = [{"dataset": f'"{tmp_path / "some.parquet"}"', "share": 0.02}]
    overrides = ("streaming=true", "trainer.max_steps=100") if streaming else ()
    with pytest.raises(UserError, match=words):
        list(islice(load(*overrides, also=also).rows, 400))


@pytest.mark.parametrize("second", ['{"query": "c"}', '{"query": "c", "answer": null}'])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_later_file_without_a_text(load, tmp_path, second, streaming):
    folder = tmp_path / "lines"
    folder.mkdir()
    (folder / "train-1.jsonl").write_text('{"query": "a", "answer": "b"}\n')
    (folder / "train-2.jsonl").write_text(f"{second}\n")
    overrides = ("streaming=true", "trainer.max_steps=100") if streaming else ()
    found = "train-2.jsonl, row 1" if streaming else "row 2"
    with pytest.raises(UserError, match=f"{found}: answer is empty"):
        list(islice(load(*overrides, also=[{"dataset": f'"{folder}"', "share": 0.04}]).rows, 400))


def test_a_stream_comes_in_blocks_of_one_source_in_their_shares(load, data):
    training = load(
        "streaming=true", "trainer.max_steps=20", also=[general(data, share=0.25), triplets(data, share=0.25)]
    )
    assert training.streaming
    assert [source["used"] for source in training.sources] == [40, 20, 20]
    assert training.rows.column_names == ["query", "positive", "negative_1"]
    rows = list(islice(training.rows, 80))
    blocks = [rows[start : start + 4] for start in range(0, 80, 4)]
    kinds = [{row["query"].split()[0] for row in block} for block in blocks]
    assert all(len(kind) == 1 for kind in kinds)
    assert Counter(kind.pop() for kind in kinds) == {"question": 10, "ask": 5, "a": 5}
    assert {tuple(row) for row in rows} == {("query", "positive"), ("query", "positive", "negative_1")}
    ours = [row for row in rows if row["query"].startswith("question")]
    assert sorted(row["query"] for row in ours) == sorted(MAIN["query"])
    assert [row["query"] for row in ours] != MAIN["query"]


def test_a_stream_is_the_same_for_the_same_seed_and_goes_on_in_another_order(load):
    def first(*overrides):
        return [row["query"] for row in islice(load("streaming=true", "trainer.max_steps=9", *overrides).rows, 2 * N)]

    once = first()
    assert once == first() != first("seed=2")
    assert sorted(once[:N]) == sorted(once[N:]) == sorted(MAIN["query"])
    assert once[:N] != once[N:]
    near = first("shuffle_buffer=1")
    assert near[:N] == MAIN["query"]


def test_a_streamed_row_has_the_negatives_that_it_has_in_memory(load):
    for kind in ("none", "dense", "llm+bm25", "llm:0.7,bm25:0.3"):
        loaded = {row["query"]: row for row in load(f"kind={kind}").rows}
        streamed = load(f"kind={kind}", "streaming=true", "trainer.max_steps=9")
        assert {row["query"]: row for row in islice(streamed.rows, N)} == loaded
        assert streamed.columns[f"ours/{kind}"] == list(next(iter(loaded.values())))


@pytest.mark.parametrize(
    ("overrides", "share", "words"),
    [
        ([], 0.25, r"needs trainer\.max_steps, since .*; ours/bm25 has 40 rows, all .* max_steps = 14 \(of 4"),
        (["trainer.max_steps=9"], None, "recipe: also: general: a stream has no end, so it needs a share of it"),
        (["trainer.batch_sampler=no_duplicates"], 0.25, "trainer.batch_sampler = 'no_duplicates' needs"),
        (["task=cross-encoder"], 0.25, "streaming: task = 'cross-encoder' needs all rows"),
        (["trainer.multi_dataset_batch_sampler=round_robin"], 0.25, "the shares decide whose turn it is; leave it out"),
    ],
)
def test_what_a_stream_cannot_do(load, data, overrides, share, words):
    with pytest.raises(UserError, match=words):
        load("streaming=true", *overrides, also=[general(data, **({"share": share} if share else {}))])


def test_workers_that_read_ahead_do_not_read_rows_twice(load):
    rows = load("streaming=true", "trainer.max_steps=9").rows
    batches = DataLoader(rows, batch_size=4, num_workers=2, collate_fn=list, multiprocessing_context="forkserver")
    read = [row["query"] for row in chain.from_iterable(islice(batches, 10))]
    assert read == [row["query"] for row in islice(rows, N)]
