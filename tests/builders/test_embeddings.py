"""Embeddings: those of sentence-transformers, each computed once, kept over a kill."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer

from builders.passages import Passages
from builders.retrieval.embeddings import Embedder, retriever
from builders.retrieval.encoding import Reading, as_texts
from foils.errors import UserError
from foils.loading import own_prompts
from foils.models import resolve_model
from tests.conftest import BASE
from tests.fixtures import ROOT, commands

TEXTS = [f"Passage number {number} tells of {'owls and ' * (number % 7)}bees." for number in range(40)]


def corpus(texts=TEXTS):
    return as_texts([f"p{number}" for number in range(len(texts))], texts)


def rows_in(folder):
    return sum(path.stat().st_size for path in folder.rglob("keys.bin")) // 16


@pytest.fixture(scope="module")
def plain():
    return SentenceTransformer(resolve_model(BASE).location)


@pytest.fixture
def copied(tmp_path):
    """A model folder that a test may change."""
    folder = tmp_path / "model"
    shutil.copytree(resolve_model(BASE).location, folder)
    return folder


def test_vectors_are_those_of_sentence_transformers(plain, tmp_path):
    vectors = Embedder(Reading(BASE), tmp_path).embed(corpus(), "document")
    wanted = plain.encode_document(TEXTS, normalize_embeddings=True)
    assert np.abs(vectors.take(np.arange(40)) - wanted).max() < 1e-5
    some = Embedder(Reading(BASE), tmp_path).embed(corpus(), "document", np.array([31, 2]))
    assert (some.take(np.arange(2)) == vectors.take(np.array([31, 2]))).all()
    prompted = Embedder(Reading(BASE, query_prompt="query: "), tmp_path).embed(corpus(), "query")
    wanted = plain.encode_query(TEXTS, prompt="query: ", normalize_embeddings=True)
    assert np.abs(prompted.take(np.arange(40)) - wanted).max() < 1e-5


def test_only_new_texts_are_encoded_and_no_model_is_loaded_for_none(tmp_path):
    encoded = []

    class Counting(Embedder):
        def _encode(self, texts, role, positions):
            encoded.extend(texts.texts(positions).to_pylist())
            return super()._encode(texts, role, positions)

    first = Counting(Reading(BASE), tmp_path).embed(corpus(TEXTS[:30]), "document")
    assert sorted(encoded) == sorted(TEXTS[:30])
    assert [len(text) for text in encoded] == sorted(map(len, TEXTS[:30]), reverse=True)
    encoded.clear()
    grown = Counting(Reading(BASE), tmp_path).embed(corpus([*TEXTS[25:], *TEXTS[25:], "A new one."]), "document")
    assert sorted(encoded) == sorted([*TEXTS[30:], "A new one."])
    assert (grown.take(np.arange(5)) == first.take(np.arange(25, 30))).all()
    encoded.clear()
    idle = Counting(Reading(BASE), tmp_path)
    assert len(idle.embed(corpus(), "document").places) == 40
    assert encoded == []
    assert "_model" not in vars(idle)
    assert len(idle.embed(corpus([]), "document").places) == 0


def test_the_order_of_texts_changes_no_bit(tmp_path):
    vectors = Embedder(Reading(BASE), tmp_path / "a").embed(corpus(), "document")
    turned = Embedder(Reading(BASE), tmp_path / "b").embed(corpus(TEXTS[::-1]), "document")
    assert (vectors.take(np.arange(40)) == turned.take(np.arange(39, -1, -1))).all()


def test_all_that_shapes_a_vector_is_in_its_key(copied, tmp_path):
    def folder(role="document", **reading):
        return Embedder(Reading(**{"model": str(copied), **reading}), tmp_path).folder(role)

    other = {folder(passage_prompt="passage: "), folder(max_seq_length=64), folder(precision="bf16")}
    assert len({folder(), *other}) == 4
    assert folder("query") == folder() == folder(query_prompt="query: ") == folder(model=BASE)
    before = folder()
    (copied / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 384, "pooling_mode": "cls"}')
    assert folder() != before
    (copied / "1_Pooling" / "config.json").unlink()
    settings = json.loads((copied / "config_sentence_transformers.json").read_text())
    with_prompts = {**settings, "prompts": {"query": "q: ", "document": "d: "}}
    (copied / "config_sentence_transformers.json").write_text(json.dumps(with_prompts))
    assert len({folder(), folder("query"), folder(passage_prompt=""), before}) == 4
    assert folder() == folder(passage_prompt="d: ")
    modules = json.loads((copied / "modules.json").read_text())
    modules[0]["type"] = "sentence_transformers.models.Router"
    (copied / "modules.json").write_text(json.dumps(modules))
    assert folder("query", query_prompt="d: ") != folder()


def test_a_models_own_prompts_are_used(copied, tmp_path):
    settings = json.loads((copied / "config_sentence_transformers.json").read_text())
    assert own_prompts(copied) == {}
    settings["prompts"] = {"query": "query: ", "document": "", "passage": "passage: "}
    (copied / "config_sentence_transformers.json").write_text(json.dumps(settings))
    embedder = Embedder(Reading(str(copied)), tmp_path)
    assert embedder.prompts == {"query": "query: ", "document": "passage: "}
    explicit = Embedder(Reading(BASE, query_prompt="query: ", passage_prompt="passage: "), tmp_path / "other")
    for role in ("query", "document"):
        own, given = (one.embed(corpus(TEXTS[:3]), role).take(np.arange(3)) for one in (embedder, explicit))
        assert (own == given).all()
    assert Embedder(Reading(str(copied), query_prompt=""), tmp_path).prompts["query"] == ""


def test_bf16_is_near_and_the_length_limit_holds(plain, tmp_path):
    wanted = plain.encode(TEXTS, normalize_embeddings=True)
    vectors = Embedder(Reading(BASE, precision="bf16"), tmp_path).embed(corpus(), "document")
    found = vectors.take(np.arange(40))
    assert found.dtype == np.float32
    assert (found * wanted).sum(axis=1).min() > 0.999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
    assert (found != wanted).any()
    long = ["owl " * 30 + "bee", "owl " * 30 + "eel"]
    short = Embedder(Reading(BASE, max_seq_length=16), tmp_path).embed(corpus(long), "document")
    assert np.abs(np.diff(short.take(np.arange(2)), axis=0)).max() < 1e-6


def test_a_model_that_gives_no_numbers_is_refused_with_the_passage(copied, tmp_path):
    weights = load_file(copied / "model.safetensors")
    weights["encoder.layer.5.output.LayerNorm.bias"][:] = np.nan
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"embedding of passage 'p6' is not a number .*set precision to fp32"):
        Embedder(Reading(str(copied)), tmp_path).embed(corpus(TEXTS[:8]), "document")
    with pytest.raises(UserError, match=r"embedding of query 'p0' is not a number"):
        Embedder(Reading(str(copied)), tmp_path).embed(corpus(TEXTS[:1]), "query")
    assert rows_in(tmp_path) == 0


ENCODE = """
import sys
from pathlib import Path
from builders.retrieval import embeddings as embedder
from builders.retrieval import encoding
from tests.builders.test_embeddings import BASE, many
encoding.AT_ONCE["cpu"] = 16
embedder.Embedder(encoding.Reading(BASE), Path(sys.argv[1])).embed(many(), "document")
"""


def many() -> Passages:
    """Enough to be killed amid."""
    return corpus([f"Passage {number} of many: {'more words ' * (number % 30)}" for number in range(400)])


def test_kill_9_loses_no_stored_vector_and_changes_none(tmp_path):
    command = [sys.executable, "-c", ENCODE]
    process = commands.Popen([*command, str(tmp_path / "killed")], cwd=ROOT, stderr=subprocess.DEVNULL)
    commands.kill_once(process, lambda: rows_in(tmp_path / "killed") >= 60)
    stored = rows_in(tmp_path / "killed")
    assert 60 <= stored < 400
    for name in ("killed", "whole"):
        assert commands.run([*command, str(tmp_path / name)], cwd=ROOT, check=False).returncode == 0
    assert rows_in(tmp_path / "killed") == 400
    for file in ("keys.bin", "rows.bin"):
        (killed,), (whole,) = ((tmp_path / name).rglob(file) for name in ("killed", "whole"))
        assert killed.read_bytes() == whole.read_bytes()


class Counted(Passages):
    """Passages that count how many texts were read."""

    read = 0

    def texts(self, positions):
        self.read += len(positions)
        return super().texts(positions)


def test_a_retriever_reads_its_corpus_once(tmp_path):
    passages = Counted(corpus().table)
    retrieve = retriever(BASE, passages, tmp_path)
    first = retrieve(["what does an owl hunt?"], 3)
    read = passages.read
    assert retrieve(["what does an owl hunt?", "another"], 3)[0] == first[0]
    assert passages.read == read > 0
