"""Bases that are nothing to train, told apart by their files."""

import json
import shutil

import pytest
from transformers import (
    BartConfig,
    BartModel,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from cards.errors import UserError
from cards.models import resolve_model
from tests.conftest import BASE, SHARED
from tests.training.small_models import save_small_encoder
from training import preflight

ALLOWED = (
    "; allowed: an encoder (BERT, MPNet, ModernBERT, ... with a tokenizer), or an embedding model with modules.json"
)


def refused(folder, task="retriever"):
    with pytest.raises(UserError) as error:
        preflight.check_base(resolve_model(str(folder)), task)
    return str(error.value)


def test_encoders_pass(tmp_path):
    preflight.check_base(resolve_model(BASE), "retriever")
    preflight.check_base(resolve_model(BASE), "cross-encoder")
    preflight.check_base(resolve_model(str(save_small_encoder(tmp_path / "mlm", BertForMaskedLM))), "retriever")


def test_decoders(tmp_path):
    folder = save_small_encoder(tmp_path / "gpt", GPT2LMHeadModel, GPT2Config, n_embd=32, n_layer=1, n_head=2)
    assert refused(folder) == (
        "base gpt: is a decoder, which reads a text from left to right only: GPT2LMHeadModel (model_type gpt2 in "
        f"config.json){ALLOWED}; name another base"
    )
    (folder / "modules.json").write_text("[]")  # somebody made an embedding model of it
    preflight.check_base(resolve_model(str(folder)), "retriever")


def test_encoders_and_decoders_in_one(tmp_path):
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    folder = save_small_encoder(tmp_path / "bart", BartModel, BartConfig, **sizes)
    assert "base bart: is no encoder of text that transformers knows: BartModel (model_type bart" in refused(folder)


def test_heads(tmp_path):
    folder = save_small_encoder(tmp_path / "nli", BertForSequenceClassification)
    assert "base nli: is a reranker or classifier, whose head would be thrown away: BertForSeq" in refused(folder)
    preflight.check_base(resolve_model(str(folder)), "cross-encoder")


@pytest.mark.skipif(not (SHARED / "models" / "cross-encoder-mini").exists(), reason="needs the shared reranker")
def test_a_reranker_that_sentence_transformers_saved():
    folder = SHARED / "models" / "cross-encoder-mini"
    assert refused(folder) == (
        "base cross-encoder-mini: is a reranker (model_type CrossEncoder in config_sentence_transformers.json)"
        f"{ALLOWED}; name such a base, or train one with task = 'cross-encoder'"
    )
    preflight.check_base(resolve_model(str(folder)), "cross-encoder")


def test_no_tokenizer(tmp_path):
    folder = save_small_encoder(tmp_path / "dumb")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    for name in ("vocab.txt", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    assert refused(folder) == (
        f"base dumb: has no tokenizer; it holds config.json, model.safetensors{ALLOWED}; save its tokenizer beside it "
        "(tokenizer.save_pretrained(FOLDER))"
    )


def test_a_config_that_is_none(tmp_path):
    folder = save_small_encoder(tmp_path / "odd")
    (folder / "config.json").write_text(json.dumps({"model_type": "my-own"}))
    assert "is no encoder of text that transformers knows: no architecture (model_type my-own" in refused(folder)
    shutil.rmtree(folder)
