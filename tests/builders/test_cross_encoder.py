"""The miner: a pool, ranked by the cross-encoder's scores; positives are scored too."""

import msgspec
import pyarrow as pa
import pytest

from builders import schema
from builders.context import Context
from builders.negatives.cross_encoder import mine
from builders.scores.config import CrossEncoderConfig
from foils.errors import UserError
from foils.recipe import decode_config
from tests.conftest import ANIMALS, BASE
from tests.fixtures.tiny import word_ranker


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(word_ranker(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture
def context(tmp_path):
    rows = [
        {"_id": name, "title": name, "text": f"{text} w{n} w{n + 7}"} for n, (name, text) in enumerate(ANIMALS.items())
    ]
    return Context(pa.Table.from_pylist(rows, schema.CORPUS), "en", 42, None, tmp_path)


QUERIES = pa.table(
    {"_id": ["b", "a"], "text": ["w1 food ground smell", "w3 hunt at night"], "corpus-id": ["yak", "owl"]}
)


def test_pools_are_ranked_and_positives_scored(model, context):
    config = CrossEncoderConfig(model=model, pool=4, depth=3, max_length=32)
    mined = mine(QUERIES, context, config)
    pools = [[name for name, _ in hits] for hits in context.bm25.search(QUERIES["text"].to_pylist(), 4)]
    scores = {(row["query-id"], row["corpus-id"]): row["score"] for row in mined.scores.to_pylist()}
    assert set(scores) == {("b", name) for name in [*pools[0], "yak"]} | {("a", name) for name in [*pools[1], "owl"]}
    assert mined.scores.num_rows == len(scores)
    assert "yak" not in pools[0]
    rows = []
    for query, pool in zip("ba", pools, strict=True):
        best = sorted(pool, key=lambda name: (-scores[query, name], name))[:3]
        rows += [
            {"query-id": query, "corpus-id": name, "rank": rank, "score": scores[query, name]}
            for rank, name in enumerate(best, 1)
        ]
    assert mined.candidates.to_pylist() == rows
    assert mined.candidates.schema == schema.CANDIDATES
    above = [sum(scores[q, name] < scores[q, own] for name in pool if name != own) for q, own, pool in owned(pools)]
    sizes = [len([name for name in pool if name != own]) for _, own, pool in owned(pools)]
    expected = sum(n / size for n, size in zip(above, sizes, strict=True)) / 2
    assert mined.record == {"own passage above the pool": pytest.approx(expected, abs=1e-4)}


def owned(pools):
    return zip("ba", ("yak", "owl"), pools, strict=True)


def test_a_cross_encoder_that_cannot_tell_is_called_so(model, context, caplog):
    worst = {"query-id": [], "corpus-id": []}
    mined = mine(QUERIES, context, CrossEncoderConfig(model=model, pool=12, max_length=32))
    for query in "ab":  # each query's own passage is now the one that scores lowest of its pool
        scores = {r["corpus-id"]: r["score"] for r in mined.scores.to_pylist() if r["query-id"] == query}
        worst["query-id"].append(query)
        worst["corpus-id"].append(min(scores, key=scores.get))
    texts = dict(zip(QUERIES["_id"].to_pylist(), QUERIES["text"].to_pylist(), strict=True))
    queries = pa.table({"_id": worst["query-id"], "text": [texts[q] for q in "ab"], "corpus-id": worst["corpus-id"]})
    again = mine(queries, context, CrossEncoderConfig(model=model, pool=12, max_length=32))
    assert again.record == {"own passage above the pool": 0.0}
    assert "above 0 % of the passages it scores for it (by chance: 50 %)" in caplog.text


def test_a_query_without_hits_has_its_positive_scored(model, context):
    queries = pa.table({"_id": ["q"], "text": ["nothing-shared"], "corpus-id": ["elk"]})
    mined = mine(queries, context, CrossEncoderConfig(model=model, max_length=32))
    assert mined.candidates.num_rows == 0
    assert mined.scores["corpus-id"].to_pylist() == ["elk"]


def test_a_positive_outside_the_corpus_is_nobody_elses_passage(model, context):
    """Its position, -1, beside a query's number is not the pair of the query before it and the last passage."""
    last = context.corpus.ids[-1].as_py()
    queries = pa.table({"_id": ["q1", "q2"], "text": [ANIMALS[last], "w1 w2 hunt"], "corpus-id": ["owl", "elsewhere"]})
    mined = mine(queries, context, CrossEncoderConfig(model=model, pool=4, max_length=32))
    scores = {(row["query-id"], row["corpus-id"]): row["score"] for row in mined.scores.to_pylist()}
    pool = [name for name in context.corpus.ids.to_pylist() if ("q1", name) in scores and name != "owl"]
    assert last in pool
    below = sum(scores["q1", name] < scores["q1", "owl"] for name in pool)
    assert mined.record["own passage above the pool"] == pytest.approx(below / len(pool), abs=1e-4)


def test_pools_of_bm25_and_dense_are_joined(model, context):
    config = CrossEncoderConfig(model=model, pool=3, pool_from=("bm25", "dense"), dense_model=BASE, max_length=32)
    mined = mine(QUERIES, context, config)
    bm25 = mine(QUERIES, context, msgspec.structs.replace(config, pool_from=("bm25",)))
    pairs, fewer = (
        set(zip(*map(pa.ChunkedArray.to_pylist, m.candidates.columns[:2]), strict=False)) for m in (mined, bm25)
    )
    assert fewer < pairs
    assert len(pairs) == mined.candidates.num_rows


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pool": 101}, "pool: expected `int` <= 100"),
        ({"model": "m", "train_titles": 9}, "train_titles 9 is for a cross-encoder that the build trains"),
        ({"pool_from": []}, r"pool_from \[\]: wanted bm25, dense or both, each once"),
        ({"pool_from": ["bm25", "bm25"]}, r"pool_from \['bm25', 'bm25'\]: wanted"),
        ({"pool_from": ["dense"]}, 'pool_from names "dense" without dense_model; add an embedding model'),
        ({"batch_size": 32}, "unknown key batch_size; allowed here: .*precision"),
        ({"precision": "onnx"}, "precision: invalid enum value 'onnx'; allowed: fp32, bf16, openvino, auto"),
    ],
)
def test_values_that_contradict_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        decode_config(values, CrossEncoderConfig, "r.toml")
