"""Adapters for real: what they train, that merging changes nothing but the files, and that a killed run goes on."""

import re
import sys

import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    CrossEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.losses import MultipleNegativesRankingLoss

from foils.errors import UserError
from tests.fixtures import tiny
from tests.fixtures.training import TEXTS
from training.model.lora import merge, wrap
from training.recipe import LoraConfig

ROWS = Dataset.from_dict({"query": [f"who? {text}" for text in TEXTS], "positive": TEXTS})
PAIRS = Dataset.from_dict(
    {"query": ["who?"] * 6, "passage": TEXTS, "label": [float(number % 2) for number in range(6)]}
)


@pytest.fixture(scope="module")
def location(tmp_path_factory):
    return str(tiny.retriever("mean", tmp_path_factory.mktemp("base")))


def trained(model, folder, resume=False, **arguments):
    settings = {
        "max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "report_to": "none", "use_cpu": True,
        "save_strategy": "steps", "save_steps": 2, "seed": 3, "disable_tqdm": True,
    }  # fmt: skip
    arguments = {"output_dir": str(folder), **settings, **arguments}
    if isinstance(model, CrossEncoder):
        trainer = CrossEncoderTrainer(
            model, CrossEncoderTrainingArguments(**arguments), train_dataset=PAIRS, loss=BinaryCrossEntropyLoss(model)
        )
    else:
        trainer = SentenceTransformerTrainer(
            model,
            SentenceTransformerTrainingArguments(**arguments),
            train_dataset=ROWS,
            loss=MultipleNegativesRankingLoss(model),
        )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture(scope="module")
def run(location, tmp_path_factory):
    """A retriever that was trained by adapters, with checkpoints at steps 2 and 4; its embeddings before merging."""
    folder = tmp_path_factory.mktemp("lora")
    model = SentenceTransformer(location)
    base, frozen = model.encode(TEXTS), {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)  # A starts at random
    wrapped = wrap(model, LoraConfig(rank=4, alpha=8))
    trainable = sum(each.numel() for each in model.parameters() if each.requires_grad)
    trained(model, folder / "trainer")
    unmerged = model.encode(TEXTS)
    now = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
    moved = [name for name, value in frozen.items() if not torch.equal(value, now[name])]
    merge(model)
    model.save_pretrained(str(folder / "merged"), create_model_card=False)
    return folder, (wrapped, trainable), base, unmerged, moved


def test_only_adapters_train(run):
    _, (modules, trainable), _, _, moved = run
    # 2 layers, of query, key, value, output (32 to 32) and 32 to 64 and back, at rank 4
    assert trainable == 2 * 4 * (4 * 2 * 32 + 2 * (32 + 64))
    assert modules == 12
    assert moved == []


def test_the_merged_model_is_a_plain_one_and_embeds_alike(run, location, monkeypatch):
    folder, _, base, unmerged, _ = run
    assert abs(unmerged - base).max() > 1e-3
    files = {path.name for path in (folder / "merged").rglob("*") if path.is_file()}
    SentenceTransformer(location).save_pretrained(str(folder / "plain"), create_model_card=False)
    assert files == {path.name for path in (folder / "plain").rglob("*") if path.is_file()}
    assert not [name for name in files if "adapter" in name]
    monkeypatch.setitem(sys.modules, "peft", None)  # any import of it fails from here on
    assert abs(SentenceTransformer(str(folder / "merged")).encode(TEXTS) - unmerged).max() < 1e-5


def test_a_checkpoint_holds_adapters_and_resumes_to_the_same_weights(run, location):
    folder, _, _, unmerged, _ = run
    checkpoint = folder / "trainer" / "checkpoint-2"
    assert (checkpoint / "adapter_model.safetensors").exists()
    assert not list(checkpoint.glob("model*.safetensors"))
    again = SentenceTransformer(location)
    wrap(again, LoraConfig(rank=4, alpha=8))
    trainer = trained(again, folder / "again", resume=str(checkpoint))
    assert trainer.state.global_step == 4
    assert abs(again.encode(TEXTS) - unmerged).max() < 1e-6


def test_with_gradient_checkpointing(location, run, tmp_path):
    _, _, _, unmerged, _ = run
    model = SentenceTransformer(location)
    torch.manual_seed(0)
    wrap(model, LoraConfig(rank=4, alpha=8))
    trained(model, tmp_path, gradient_checkpointing=True, save_strategy="no")
    assert abs(model.encode(TEXTS) - unmerged).max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "count"),
    [("distilbert", 12), ("modernbert", 8)],  # q, k, v, out, lin1, lin2; Wqkv, Wo, Wi, Wo
)
def test_layers_of_other_architectures_are_found(kind, count, tmp_path):
    model = SentenceTransformer(str(tiny.retriever("mean", tmp_path, kind=kind)))
    torch.manual_seed(0)
    assert wrap(model, LoraConfig(rank=2)) == count
    trained(model, tmp_path / "trainer", save_strategy="no")
    unmerged = model.encode(TEXTS)
    merge(model)
    assert abs(model.encode(TEXTS) - unmerged).max() < 1e-5


def test_a_cross_encoders_head_is_trained_and_kept(location, tmp_path):
    pairs = [("who?", text) for text in TEXTS]
    torch.manual_seed(0)
    model = CrossEncoder(location, num_labels=1)
    head = model[0].model.classifier.weight.clone()
    wrap(model, LoraConfig(rank=4))
    trained(model, tmp_path / "trainer")
    unmerged = model.predict(pairs)
    torch.manual_seed(0)
    again = CrossEncoder(location, num_labels=1)
    wrap(again, LoraConfig(rank=4))
    trained(again, tmp_path / "again", resume=str(tmp_path / "trainer" / "checkpoint-2"))
    assert abs(again.predict(pairs) - unmerged).max() < 1e-6
    merge(model)
    assert not torch.equal(model[0].model.classifier.weight, head)
    model.save_pretrained(str(tmp_path / "merged"), create_model_card=False)
    assert not list((tmp_path / "merged").glob("adapter*"))
    assert abs(CrossEncoder(str(tmp_path / "merged")).predict(pairs) - unmerged).max() < 1e-5


@pytest.mark.parametrize(("modules", "count"), [("layers", 12), (("query", "self.value"), 4)])
def test_layers_by_name(location, modules, count):
    assert wrap(SentenceTransformer(location), LoraConfig(rank=1, target_modules=modules)) == count


def test_what_cannot_be_wrapped_is_named(location, monkeypatch):
    model = SentenceTransformer(location)
    wanted = "lora.target_modules 'qkv': no linear layer has such a name; allowed: ends of attention.output.dense, "
    with pytest.raises(UserError, match=re.escape(wanted)):
        wrap(model, LoraConfig(target_modules=("qkv", "query")))
    with pytest.raises(UserError, match="has no adapters to merge"):
        merge(model)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=re.escape("run: pip install peft (or pip install -e '.[lora]')")):
        wrap(model, LoraConfig())
