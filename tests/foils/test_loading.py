"""Models are loaded in fp32 whatever they are saved in, and models of another kind are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder, SentenceTransformer

from builders.retrieval.embeddings import Embedder
from builders.retrieval.encoding import Reading, as_texts
from eval.measure.encoder import Encoder
from foils.encode.convert import load as load_to_convert
from foils.encode.drift import Texts
from foils.errors import UserError
from foils.loading import load_reranker, load_retriever
from tests.fixtures import tiny
from training.model.base import load_cross_encoder
from training.model.base import load_retriever as load_base

TEXTS = ["owls hunt mice", "bees dance"]
SAMPLE = Texts(queries=TEXTS, passages=TEXTS, calibration=[])


def half(folder, model, dtype):
    """A copy of a model, saved in half precision."""
    kind = CrossEncoder if "cross" in str(model) else SentenceTransformer
    kind(str(model), device="cpu").to(dtype).save_pretrained(str(folder), create_model_card=False)
    return str(folder)


@pytest.fixture
def bf16(tmp_path):
    return half(tmp_path / "half", tiny.retriever("mean", tmp_path / "plain"), torch.bfloat16)


def formats(model):
    return {value.dtype for value in model.state_dict().values() if value.is_floating_point()}


@pytest.mark.parametrize("make", [lambda folder: tiny.retriever("cls", folder), tiny.static], ids=["bert", "static"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_retrievers(tmp_path, make, dtype):
    folder = half(tmp_path / "half", make(tmp_path / "plain"), dtype)
    assert formats(SentenceTransformer(folder)) == {dtype}  # what the library makes of it
    assert formats(load_retriever(folder)) == formats(load_base(folder)) == {torch.float32}


def test_cross_encoders(tmp_path):
    folder = half(tmp_path / "half", tiny.cross_encoder(tmp_path / "cross"), torch.bfloat16)
    assert formats(CrossEncoder(folder)) == {torch.bfloat16}
    for loaded in (
        load_reranker(folder, "cross_encoder x"),
        load_cross_encoder(folder, 32),
        load_to_convert(Path(folder)),
    ):
        assert formats(loaded) == {torch.float32}


def test_fp32_vectors_of_a_bf16_checkpoint_are_those_of_its_weights_in_fp32(bf16, tmp_path):
    wanted = SentenceTransformer(bf16, device="cpu").float().encode(TEXTS)
    assert np.allclose(Encoder(load_retriever(bf16), "fp32", SAMPLE).encode_document(TEXTS), wanted, atol=1e-6)
    stored = Embedder(Reading(bf16), tmp_path / "cache").embed(as_texts(["a", "b"], TEXTS), "document")
    assert np.allclose(stored.take(np.arange(2)), wanted, atol=1e-6)


def test_training_moves_weights_that_are_saved_in_fp32(bf16):
    model = load_base(bf16)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-5)  # a step below what bf16 can hold
    model(model.preprocess(TEXTS))["sentence_embedding"].std().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser.step()
    model.save_pretrained(bf16)
    saved = load_file(f"{bf16}/model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}
    layer = next(name for name in before if name.endswith("layer.0.output.dense.weight"))
    assert (saved[layer.removeprefix("0.model.").removeprefix("0.auto_model.")] != before[layer]).float().mean() > 0.9


def test_models_of_another_kind_are_refused(tmp_path):
    ranker, retriever = tiny.cross_encoder(tmp_path / "cross"), tiny.retriever("mean", tmp_path / "plain")
    with pytest.raises(UserError, match="is a cross-encoder, which scores pairs, and not an embedding model; name"):
        load_retriever(str(ranker))
    with pytest.raises(UserError, match="is a cross-encoder"):
        load_retriever(str(tmp_path / "cross" / "raw"))  # as older ones lie on the Hub
    for folder in (retriever, tmp_path / "plain" / "raw"):
        with pytest.raises(UserError, match="cross_encoder x: not a cross-encoder: it has no trained head"):
            load_reranker(str(folder), "cross_encoder x")
    about = retriever / "config_sentence_transformers.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "model_type": "SparseEncoder"}))
    with pytest.raises(UserError, match="is a sparse encoder, and not an embedding model; name an embedding model"):
        load_retriever(str(retriever))
