"""A model's identity: what shapes its output is in it, and nothing else."""

import json
import logging
import shutil

import pytest

from foils.errors import UserError
from foils.models import EMBEDDED_MODELS, remote_identity, resolve_model
from tests.conftest import BASE
from tests.fixtures import tiny

NAME = EMBEDDED_MODELS[BASE.removeprefix("package:")][2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.retriever("mean", tmp_path_factory.mktemp("identity"))


def edit(file, **values):
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **values}))


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "cls"}),
        ("config_sentence_transformers.json", {"prompts": {"query": "q: "}}),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}),
        ("config_sentence_transformers.json", {"truncate_dim": 8}),
        ("config_sentence_transformers.json", {"similarity_fn_name": "dot"}),
        ("sentence_bert_config.json", {"max_seq_length": 8}),
        ("tokenizer_config.json", {"model_max_length": 8}),
        ("tokenizer.json", {"truncation": {"max_length": 8}}),
        ("modules.json", {"2": "Normalize"}),
        ("vocab.txt", {"a": 1}),
        ("2_Dense/config.json", {"out_features": 8}),
        ("2_Dense/pytorch_model.bin", {"w": 1}),
        ("2_Dense/model.safetensors", {"w": 1}),
    ],
)
def test_what_shapes_the_output_is_in_it(model, tmp_path, file, values):
    copy = shutil.copytree(model, tmp_path / "copy")
    before = resolve_model(str(copy))
    assert before.identity == resolve_model(str(model)).identity == before.revision
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).write_text(json.dumps(values)) if file == "modules.json" else edit(copy / file, **values)
    after = resolve_model(str(copy))
    assert after.identity != before.identity
    assert (after.weights == before.weights) is (not file.endswith(".safetensors"))


def test_weights_in_another_form_are_in_it_where_they_are_what_is_read(model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "copy")
    edit(copy / "pytorch_model.bin", w=1)
    assert resolve_model(str(copy)).identity == resolve_model(str(model)).identity
    (copy / "2_Dense").mkdir()
    (copy / "model.safetensors").rename(copy / "2_Dense" / "model.safetensors")
    before = resolve_model(str(copy)).identity
    edit(copy / "pytorch_model.bin", w=2)
    assert resolve_model(str(copy)).identity != before


def test_what_lies_beside_is_not(model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "other-name")
    for path in ("README.md", "run.json", "onnx/config.json", "openvino/openvino_model.bin", "evaluation/scores.json",
                 "checkpoint-3/config.json", ".eval_results/x.json", "optimizer.bin", "training_args.bin"):  # fmt: skip
        (copy / path).parent.mkdir(exist_ok=True)
        (copy / path).write_text("{}")
    assert resolve_model(str(copy)).identity == resolve_model(str(model)).identity


@pytest.mark.hub
def test_on_the_hub(hub, model):
    files = {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    hub.create_repo("model", "alice/identity")
    commit = hub.commit("model", "alice/identity", files)
    there, here = resolve_model("alice/identity"), resolve_model(str(model))
    assert there.revision == commit
    assert there.identity == here.identity == remote_identity("alice/identity", commit)


def test_the_embedded_model_by_its_hub_name_without_a_hub(monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with caplog.at_level(logging.INFO):
        assert resolve_model(NAME) == resolve_model(BASE)
    assert f"model {NAME}: the Hub is not within reach; read from the package" in caplog.text
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):  # a revision that nobody can look up
        resolve_model(f"{NAME}@main")
