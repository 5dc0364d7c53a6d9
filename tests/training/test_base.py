"""Bases that cannot be trained, recognised by their files."""

import json

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Router, Transformer
from torch import nn
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartModel,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from foils.errors import UserError
from foils.loading import load_retriever
from foils.models import resolve_model
from tests.conftest import BASE, SHARED
from tests.fixtures import tiny
from tests.fixtures.small_models import save_small_encoder
from tests.fixtures.training import recipe_for
from training import train
from training.loop.making import set_dropout
from training.preflight.base import check_base

ALLOWED = (
    "; allowed: an encoder (BERT, MPNet, ModernBERT, ... with a tokenizer), or an embedding model with modules.json"
)


def refused(folder, task="retriever"):
    with pytest.raises(UserError) as error:
        check_base(resolve_model(str(folder)), task)
    return str(error.value)


def test_encoders_pass(tmp_path):
    check_base(resolve_model(BASE), "retriever")
    check_base(resolve_model(BASE), "cross-encoder")
    check_base(resolve_model(str(save_small_encoder(tmp_path / "mlm", BertForMaskedLM))), "retriever")


def test_decoders(tmp_path):
    folder = save_small_encoder(tmp_path / "gpt", GPT2LMHeadModel, GPT2Config, n_embd=32, n_layer=1, n_head=2)
    assert refused(folder) == (
        "base gpt: is a decoder, which reads a text from left to right only: GPT2LMHeadModel (model_type gpt2 in "
        f"config.json){ALLOWED}; name another base"
    )
    (folder / "modules.json").write_text("[]")  # now it is an embedding model
    check_base(resolve_model(str(folder)), "retriever")


def test_encoders_and_decoders_in_one(tmp_path):
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    folder = save_small_encoder(tmp_path / "bart", BartModel, BartConfig, **sizes)
    assert "base bart: is not an encoder of text that transformers knows: BartModel (model_type bart" in refused(folder)


def test_heads(tmp_path):
    folder = save_small_encoder(tmp_path / "nli", BertForSequenceClassification)
    assert "nli: is a cross-encoder, which scores pairs, and not an embedding model" in refused(folder)
    assert "nli: is a classifier with 2 scores a pair, where one is trained" in refused(folder, "cross-encoder")


@pytest.mark.skipif(not (SHARED / "models" / "cross-encoder-mini").exists(), reason="needs the shared reranker")
def test_a_reranker_that_sentence_transformers_saved():
    folder = SHARED / "models" / "cross-encoder-mini"
    assert refused(folder).endswith(
        "cross-encoder-mini: is a cross-encoder, which scores pairs, and not an embedding model; name another base, or "
        "train this one with task = 'cross-encoder'"
    )
    check_base(resolve_model(str(folder)), "cross-encoder")


def test_no_tokenizer(tmp_path):
    folder = save_small_encoder(tmp_path / "dumb")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    for name in ("vocab.txt", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    assert refused(folder) == (
        "base dumb: has no tokenizer; it holds config.json, model.safetensors; save it beside the weights "
        "(tokenizer.save_pretrained(FOLDER))"
    )
    with pytest.raises(UserError, match="dumb: has no tokenizer"):  # whoever loads it
        load_retriever(str(folder))


def test_a_config_that_is_none(tmp_path):
    folder = save_small_encoder(tmp_path / "odd")
    (folder / "config.json").write_text(json.dumps({"model_type": "my-own"}))
    assert "is not an encoder of text that transformers knows: no architecture (model_type my-own" in refused(folder)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("adapter", r"is an adapter \(adapter_config.json\) and not a whole model; merge it"),
        ("code", r"code of its own \(auto_map in config.json\), which is never run"),
        ("module", r"code of its own \(mine.Module in modules.json\), which is never run"),
        ("pad", "it has no pad token; set tokenizer.pad_token"),
        ("pooling", r"sentence-transformers cannot use it \(KeyError: 'sentence_embedding'\)"),
        ("weights", r"sentence-transformers cannot use it \(SafetensorError: .*\); name another"),
        ("shapes", "its weights have other shapes than its config.json says"),
        ("tokens", r"its tokenizer has \d+ tokens and the model embeddings of \d+; call"),
    ],
)
@pytest.mark.usefixtures("one_thread")
def test_a_base_that_cannot_be_trained_is_one_line(tmp_path, spoil, words):
    base = tiny.retriever("mean", tmp_path / "base")
    _spoil(base, spoil)
    with pytest.raises(UserError, match=words) as refused:
        train.main(recipe_for(tmp_path, base)(), tmp_path / "m", 1)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("behind", [False, True])
def test_a_base_of_two_ways_is_trained_and_loads(tmp_path, behind):
    ways = [[Transformer(str(tiny.raw("bert", tmp_path / name))), Pooling(32, "mean")] for name in ("query", "passage")]
    both = Transformer(str(tiny.raw("bert", tmp_path / "both"))), Pooling(32, "mean")
    tails = Router.for_query_document(query_modules=[Dense(32, 8)], document_modules=[Dense(32, 8)])
    router = Router.for_query_document(query_modules=ways[0], document_modules=ways[1])
    SentenceTransformer(modules=[*both, tails] if behind else [router]).save_pretrained(str(tmp_path / "router"))
    (tmp_path / "router" / "lora").mkdir()
    (tmp_path / "router" / "lora" / "adapter_config.json").write_text("{}")  # of an earlier training
    train.main(recipe_for(tmp_path, tmp_path / "router")(), tmp_path / "m", 1)
    before, after = (SentenceTransformer(str(tmp_path / name), device="cpu") for name in ("router", "m"))
    for encode in ("encode_query", "encode_document"):
        assert abs(getattr(before, encode)(["owls"]) - getattr(after, encode)(["owls"])).max() > 0


def test_dropout_is_set_wherever_it_is(tmp_path):
    model = SentenceTransformer(resolve_model(BASE).location)
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert {layer.p for layer in layers} == {0.1}
    set_dropout(model, 0.0)
    assert {layer.p for layer in layers} == {0.0}
    model.save_pretrained(str(tmp_path), create_model_card=False)
    assert SentenceTransformer(str(tmp_path))[0].auto_model.config.hidden_dropout_prob == 0.1


def _spoil(base, spoil):
    """Breaks a base that was fine before."""

    def edit(file, **values):
        content = json.loads((base / file).read_text())
        (base / file).write_text(json.dumps({**content, **values}))

    modules = json.loads((base / "modules.json").read_text())
    if spoil == "adapter":
        (base / "adapter_config.json").write_text("{}")
    elif spoil == "code":
        edit("config.json", auto_map={"AutoModel": "m.M"}, model_type="of-mine")
    elif spoil == "pooling":
        (base / "modules.json").write_text(json.dumps(modules[:1]))
    elif spoil == "weights":
        (base / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    elif spoil == "shapes":
        edit("config.json", vocab_size=7)
    elif spoil == "module":
        (base / "modules.json").write_text(json.dumps([*modules, {**modules[0], "type": "mine.Module"}]))
    elif spoil == "pad":
        edit("tokenizer_config.json", pad_token=None)
    else:
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.add_tokens(["zzznew"])
        tokenizer.save_pretrained(base)
