"""The encoder against sentence-transformers' own `encode`."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from eval.measure.encoder import Encoder
from eval.measure.encoding import Encoding
from eval.measure.results import Key, read_result
from eval.measure.search import evaluate
from eval.measure.tasks import load_task
from foils.encode.drift import Texts
from foils.models import resolve_model
from tests.conftest import BASE
from tests.fixtures import tiny
from tests.fixtures.tasks import task_folder

TEXTS = [f"{'owls hunt mice at night, ' * (number % 7 + 1)}number {number}" for number in range(30)]
TEXTS += ["", TEXTS[3], "a passage longer than all that is read " * 60]
SAMPLE = Texts(queries=TEXTS[:8], passages=TEXTS[8:30], calibration=[])
PROMPTS = {"query": "query: ", "document": "passage: "}


def fresh():
    return SentenceTransformer(resolve_model(BASE).location, device="cpu", prompts=PROMPTS)


@pytest.fixture(scope="module")
def model():
    return fresh()


def cosines(left, right):
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


@pytest.mark.parametrize("devices", [(), ("cpu", "cpu")])
def test_fp32_is_encode_in_the_same_order(model, devices):
    encoder = Encoder(fresh(), "fp32", SAMPLE, batch_tokens=300, devices=devices)
    assert encoder.drift is None
    assert np.allclose(encoder.encode_query(TEXTS), model.encode_query(TEXTS), atol=1e-6)
    assert np.allclose(encoder.encode_document(TEXTS), model.encode_document(TEXTS), atol=1e-6)
    given = encoder.encode_document(TEXTS[:1], prompt="other: ")
    assert np.allclose(given, model.encode(TEXTS[:1], prompt="other: "), atol=1e-6)
    assert not np.allclose(given, model.encode_document(TEXTS[:1]), atol=1e-3)


def test_a_corpus_is_encoded_once(tmp_path):
    encoder, seen = Encoder(fresh(), "fp32", SAMPLE, keep_in=tmp_path), []
    encoder.model[0].register_forward_pre_hook(lambda *_: seen.append(1))
    first = encoder.encode_document(TEXTS)
    count = len(seen)
    assert np.array_equal(encoder.encode_document(list(TEXTS)), first)
    assert len(seen) == count
    assert not np.allclose(encoder.encode_document(TEXTS, prompt="other: "), first, atol=1e-3)
    assert np.allclose(encoder.encode_document(TEXTS[::-1]), first[::-1], atol=1e-6)


def test_cut_vectors(model):
    cut = fresh()
    cut.truncate_dim = 32
    expected = model.encode_document(TEXTS, truncate_dim=32)
    assert np.allclose(Encoder(cut, "fp32", SAMPLE).encode_document(TEXTS), expected, atol=1e-6)


def test_bf16_is_near_and_says_how_near(model):
    encoder = Encoder(fresh(), "bf16", SAMPLE)
    assert cosines(encoder.encode_document(TEXTS), model.encode_document(TEXTS)).min() >= 0.999
    assert (encoder.drift.queries, encoder.drift.passages) == (8, 22)
    assert 0.999 <= encoder.drift.cosine_worst <= 1
    assert encoder.drift.spearman >= 0.9
    assert not np.allclose(encoder.encode_document(TEXTS), model.encode_document(TEXTS), atol=1e-5)


def test_a_table_of_vectors(tmp_path):
    static = tiny.static(tmp_path)
    texts = TEXTS[:5]
    expected = SentenceTransformer(str(static)).encode_document(texts)
    assert np.allclose(Encoder(SentenceTransformer(str(static)), "fp32", SAMPLE).encode_document(texts), expected)
    rounded = Encoder(SentenceTransformer(str(static)), "bf16", SAMPLE)
    assert rounded.drift.cosine_worst > 0.99
    assert np.allclose(rounded.encode_query(texts), expected, atol=0.05)


def test_a_result_keeps_the_drift_and_is_read_again(animals, tmp_path, caplog):
    queries = [("q1", "who hunts mice?"), ("q2", "who lives in hives?")]
    task = load_task(task_folder(animals, queries, ["q1\towl\t1", "q2\tbee\t1"]))
    (exact,) = evaluate(resolve_model(BASE), [task], tmp_path, Encoding())
    assert exact.drift is None
    with caplog.at_level("INFO"):
        (rounded,) = evaluate(resolve_model(BASE), [task], tmp_path, Encoding("bf16"))
    assert 0.99 < rounded.drift.cosine_worst < 1
    assert f"in bf16 against fp32, 2 queries and {rounded.drift.passages} passages of {task.name}: cos" in caplog.text
    folder = Key.of(rounded).folder(tmp_path)
    assert read_result(folder) == rounded
    assert json.loads((folder / "result.json").read_text())["drift"]["cosine_mean"] == rounded.drift.cosine_mean
