"""A cross-encoder's scores: predict()'s, whatever the batching; each text pair once, over kills and devices."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import schema
from builders.context import Context
from builders.mining import SCORERS
from builders.passages import Passages
from builders.scores import lanes
from builders.scores.config import CrossEncoderConfig
from builders.scores.cross_encoder import agreement, sampled, score_located, score_pairs
from builders.scores.lanes import in_torch, lane_name
from builders.scores.pairs import locate
from foils.errors import UserError
from foils.models import ModelReference
from tests.fixtures import ROOT, commands
from tests.fixtures.tiny import WORDS, word_ranker


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return word_ranker(tmp_path_factory.mktemp("tiny") / "model")


def made(count, seed=3):
    """Texts of 1 to 50 words: some pairs are longer than the 32 tokens that are read."""
    choice = np.random.default_rng(seed)
    return [" ".join(choice.choice(WORDS, choice.integers(1, 50))) for _ in range(count)]


def tables(query_texts, passage_texts, rows):
    queries = pa.table({"_id": [f"q{n}" for n in range(len(query_texts))], "text": query_texts})
    columns = {"_id": [f"p{n}" for n in range(len(passage_texts))], "title": [""] * len(passage_texts)}
    passages = Passages(pa.table({**columns, "text": passage_texts}, schema.CORPUS))
    names = pa.schema([("query-id", pa.string()), ("corpus-id", pa.string())])
    pairs = pa.table({"query-id": [f"q{q}" for q, _ in rows], "corpus-id": [f"p{p}" for _, p in rows]}, names)
    return pairs, queries, passages


def context(cache):
    return Context(schema.CORPUS.empty_table(), "en", 42, None, Path(cache))


def config(model, **settings):
    return CrossEncoderConfig(model=str(model), max_length=32, **settings)


def predicted(model, query_texts, passage_texts, rows):
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(str(model), max_length=32, device="cpu")
    return encoder.predict([(query_texts[q], passage_texts[p]) for q, p in rows], show_progress_bar=False)


def stored(cache):
    """Scores in each store under a cache."""
    return sorted(file.stat().st_size // 16 for file in Path(cache).rglob("keys.bin"))


QUERIES, PASSAGES = made(6), made(14, seed=4)
ROWS = [(q, p) for q in range(6) for p in range(14)]


@pytest.fixture(scope="module")
def expected(model):
    return dict(zip(ROWS, predicted(model, QUERIES, PASSAGES, ROWS), strict=True))


@settings(max_examples=6)
@given(rows=st.lists(st.sampled_from(ROWS), max_size=40), split=st.integers(0, 40), size=st.integers(1, 40))
def test_scores_are_those_of_predict_whatever_the_batching(model, expected, rows, split, size):
    with TemporaryDirectory() as cache, mock.patch.dict(lanes.AT_ONCE, cpu=size):
        for part in (rows[:split], rows):
            given_tables = tables(QUERIES, PASSAGES, part)
            found = score_pairs(*given_tables, context(cache), config(model))
            assert found.schema == schema.SCORES
            assert found.select(["query-id", "corpus-id"]).equals(given_tables[0])
            assert np.allclose(found["score"].to_numpy(), [expected[row] for row in part], atol=1e-4, rtol=0)
        assert sum(stored(cache)) == len(set(rows))


def test_equal_texts_are_scored_once(model, tmp_path):
    texts = [PASSAGES[0], PASSAGES[1], PASSAGES[0]]
    rows = [(q, p) for q in range(2) for p in range(3)]
    found = SCORERS["cross-encoder"](*tables([QUERIES[0]] * 2, texts, rows), context(tmp_path), config(model))
    scores = found["score"].to_pylist()
    assert stored(tmp_path) == [2]
    assert scores == [scores[0], scores[1], scores[0]] * 2
    assert scores[0] != scores[1]


KILLED = """
import sys
from pathlib import Path
from builders.scores import cross_encoder, lanes
from tests.builders import test_scoring as t
cross_encoder.BLOCK, lanes.AT_ONCE["cpu"] = 75, 10
rows = [(q, p) for q in range(5) for p in range(100)]
given = t.tables(t.made(5), t.made(100, 4), rows)
found = t.score_pairs(*given, t.context(sys.argv[2]), t.config(sys.argv[1]))
print(found["score"].to_pylist())
"""


def scoring(model, cache):
    command = [sys.executable, "-c", KILLED, model, cache]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_a_killed_run_goes_on_where_it_was(model, tmp_path):
    whole, cache = tmp_path / "whole", tmp_path / "killed"
    undisturbed = scoring(model, whole).communicate()[0]
    run = scoring(model, cache)
    commands.kill_once(run, lambda: sum(stored(cache)) >= 125)
    (kept,) = stored(cache)
    assert 125 <= kept < 500
    assert scoring(model, cache).communicate()[0] == undisturbed
    assert undisturbed.count(",") == 499
    assert stored(cache) == stored(whole) == [500]  # rows are only ever added: none was scored twice


def test_several_devices_score_what_one_does(model, expected):
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(str(model), max_length=32, device="cpu")
    pairs = [(QUERIES[q], PASSAGES[p]) for q, p in ROWS]
    for number in (1, 3):
        found = in_torch(encoder, ["cpu"] * number, 8)(pairs)
        assert np.allclose(found, [expected[row] for row in ROWS], atol=1e-5, rtol=0)


def test_openvino_ranks_as_fp32_and_is_converted_once(model, expected, tmp_path):
    pytest.importorskip("openvino")
    given_tables = tables(QUERIES, PASSAGES, ROWS)
    asked, ids = config(model, precision="openvino"), given_tables[1]["_id"]
    found, record = score_located(locate(*given_tables), ids, context(tmp_path), asked)
    assert np.allclose(found, [expected[row] for row in ROWS], atol=0.1, rtol=0)
    assert record["lane"] == "openvino"
    assert record["spearman"] >= 0.99
    (converted,) = tmp_path.rglob("openvino_model.xml")
    before = converted.stat().st_mtime_ns
    again = score_located(locate(*given_tables), ids, context(tmp_path), asked)
    assert (again[0] == found).all()
    assert again[1] == record
    assert converted.stat().st_mtime_ns == before
    assert stored(tmp_path) == [len(ROWS), len(ROWS)]  # the lane's, and the fp32 scores of the sample


@pytest.mark.parametrize(
    ("architecture", "installed", "message"),
    [
        (
            *("BertForSequenceClassification", False),
            "not installed; run: pip install openvino (or pip install -e '.[fast]'), or set precision = \"fp32\"",
        ),
        (
            *("BertModel", True),
            'm is not a plain sequence classifier, so it cannot be converted; set precision = "fp32" or "bf16"',
        ),
    ],
)
def test_a_lane_that_cannot_run_says_why(tmp_path, monkeypatch, architecture, installed, message):
    if installed:
        pytest.importorskip("openvino")
    else:
        monkeypatch.setitem(sys.modules, "openvino", None)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    asked = CrossEncoderConfig(model="m", precision="openvino")
    with pytest.raises(UserError) as refused:
        lane_name(asked, ModelReference("m", "", str(tmp_path), "", ""))
    assert str(refused.value) == f"negatives.cross-encoder.precision openvino: {message}"


def test_a_lane_that_ranks_otherwise_is_refused():
    scores = np.arange(40.0)
    with pytest.raises(UserError) as refused:
        agreement("bf16", scores, scores[::-1].copy())
    assert str(refused.value) == (
        "negatives.cross-encoder.precision: bf16 ranks 40 sampled pairs otherwise than fp32 does (Spearman -1.0000; "
        'wanted 0.99 or more); set precision = "fp32"'
    )
    assert agreement("bf16", scores, scores**3) == agreement("bf16", np.ones(3), np.ones(3)) == 1


def test_the_sample_depends_on_ids_alone():
    asked = np.repeat(np.arange(50), 100)
    ids = [f"q{n}" for n in range(50)]
    rows = sampled(ids, asked, 1)
    assert len(rows) == 300
    chosen = {ids[query] for query in asked[rows]}
    assert {ids[::-1][query] for query in asked[sampled(ids[::-1], asked, 1)]} == chosen
    assert {ids[query] for query in asked[sampled(ids, asked, 2)]} != chosen


def test_a_model_with_several_scores_is_refused(tmp_path):
    folder = word_ranker(tmp_path / "three", labels=3)
    with pytest.raises(UserError, match=r"model .*three: gives 3 scores per pair; wanted a model with one relevance"):
        score_pairs(*tables(["w1"], ["w2"], [(0, 0)]), context(tmp_path), config(folder))


def test_unknown_ids_are_named(model, tmp_path):
    with pytest.raises(UserError, match="pairs to score: corpus-id 'p1' is not among the passages"):
        score_pairs(*tables(["w1"], ["w2"], [(0, 1)]), context(tmp_path), config(model))
