"""Converted models for real, by every runtime that is installed: what they give, and what record and card say."""

import json
import re
import shutil
import sys

import msgspec
import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from cards.publish.files import local_files
from cards.templates import environment
from cards.verify.artefact import Artefact, check_files
from foils.encode.convert import FILES, load, write_onnx
from foils.encode.drift import Scored, compare, sample_texts
from foils.errors import UserError
from tests.fixtures import tiny
from tests.fixtures.training import recipe_for
from training import export as exporting
from training import train
from training.export import export, main
from training.publish import compare as change_between

WORDS = ["owls", "mice", "bees", "eels", "ants", "bats", "cows", "dance", "swim", "hunt", "chew", "hear"]
TEXTS = [" ".join(WORDS[(start + step) % 12] for step in range(2 + start % 5)) + f" {start}" for start in range(24)]
ROWS = {
    "query": [f"who is {text}?" for text in TEXTS],
    "positive": TEXTS,
    "negative_1": TEXTS[7:] + TEXTS[:7],
}
ALL = tuple(FILES)


@pytest.fixture(scope="module")
def texts():
    return sample_texts(Dataset.from_dict(ROWS))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A trained retriever with prompts, in its folder, with its data set."""
    folder = tmp_path_factory.mktemp("model")
    prompts = 'query_prompt = "query: "\npassage_prompt = "passage: "\n'
    recipe = recipe_for(folder, tiny.retriever("mean", folder / "base"), ROWS, top=prompts)
    train.main(recipe("trainer.max_steps=2", "trainer.per_device_train_batch_size=4"), folder / "trained")
    main(folder / "trained", ALL, str(folder / "dataset"))
    return folder / "trained"


def test_files_lie_where_sentence_transformers_looks_and_the_record_vouches_for_them(model):
    record = json.loads((model / "run.json").read_text())
    assert [each["format"] for each in record["exports"]] == list(ALL)
    for each in record["exports"]:
        assert (model / each["file"]).is_file()
        assert each["file"] in record["files"]
    assert "openvino/openvino_model.bin" in record["files"]
    assert not [path for path in model.rglob("*") if "exporting" in path.name or "partial" in path.name]
    assert check_files(Artefact("trained", "model", model)).status == "verified"
    published = {file.path for file in local_files(model, "run.json", "card")}
    assert {"onnx/model.onnx", "openvino/openvino_model_qint8_quantized.bin"} <= published


def test_plain_formats_give_the_models_embeddings_and_every_drift_is_measured(model):
    figures = {each["format"]: each for each in json.loads((model / "run.json").read_text())["exports"]}
    assert figures["onnx"]["cosine_worst"] > 0.99999
    assert figures["onnx"]["spearman"] > 0.999
    assert figures["openvino"]["cosine_worst"] > 0.999
    for name in ("onnx-int8", "openvino-int8"):
        assert 0.9 < figures[name]["cosine_worst"] < 0.999999
        assert figures[name]["mb"] < figures[name.removesuffix("-int8")]["mb"]
    assert all(each["queries"] == 8 and each["passages"] >= 10 for each in figures.values())
    assert all(each["per_second"] > 0 and each["torch_per_second"] > 0 for each in figures.values())
    card = (model / "README.md").read_text("utf-8")
    for each in figures.values():
        assert f"| `{each['file']}` | {each['format']} |" in card
        assert (f"**`{each['file']}` ranks otherwise" in card) == each["drifted"]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_the_cards_code_ranks_as_the_model_does(similarity, form, texts, tmp_path, monkeypatch):
    if form == "openvino" and similarity != "cosine":
        pytest.skip("one more is enough")
    transformer = Transformer(str(tiny.raw("bert", tmp_path / "raw")))
    model = SentenceTransformer(
        modules=[transformer, Pooling(32, "mean")], truncate_dim=8, similarity_fn_name=similarity, device="cpu",
        prompts={"query": "find: ", "document": "text: "},
    )  # fmt: skip
    with torch.no_grad():  # embeddings of very different lengths
        transformer.auto_model.encoder.layer[-1].output.LayerNorm.weight.mul_(torch.linspace(0.1, 9, 32))
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    (figures,) = export(tmp_path / "model", [form], texts)
    card = environment.get_template("model_use.md").render(
        record={"task": "retriever", "exports": [figures]}, repo=None, version=None
    )
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[1]
    assert "torch" not in code
    queries, passages = [f"who is {text}?" for text in TEXTS[:8]], TEXTS
    code = re.sub(r'embed\(\["find: " \+ .*\)', f'embed(["find: " + each for each in {queries}])', code)
    code = re.sub(r'embed\(\["text: " \+ .*\)', f'embed(["text: " + each for each in {passages}])', code)
    shown = []
    space = {"print": shown.append}
    monkeypatch.chdir(tmp_path / "model")
    exec(code, space)
    wanted = model.similarity(model.encode_query(queries), model.encode_document(passages)).numpy()
    assert shown[0].shape == wanted.shape == (8, 24)
    assert (shown[0].argsort(axis=1)[:, -10:] == wanted.argsort(axis=1)[:, -10:]).all()
    assert abs(shown[0] - wanted).max() < 1e-3 * abs(wanted).max()


def test_a_second_export_replaces_and_keeps_what_people_wrote(model, tmp_path):
    shutil.copytree(model, tmp_path / "copy")
    shutil.copytree(model.parent / "dataset", tmp_path / "dataset")
    card = tmp_path / "copy" / "README.md"
    card.write_text(card.read_text() + "\nWritten by a person.\n")
    before = json.loads((tmp_path / "copy" / "run.json").read_text())
    main(tmp_path / "copy", ["openvino"], str(tmp_path / "dataset"))
    after = json.loads((tmp_path / "copy" / "run.json").read_text())
    assert "Written by a person." in card.read_text()
    assert {each["format"] for each in after["exports"]} == set(ALL)
    assert before["model"] == after["model"]
    said = change_between({**before, "exports": []}, after)
    assert said.level == "minor"
    assert "exports: none -> " in said.reasons[0]


def test_a_cross_encoder_of_another_shape(texts, tmp_path, monkeypatch):
    folder = tiny.cross_encoder(tmp_path / "cross")
    (figures,) = export(folder, ["onnx"], texts)
    assert figures["cosine_mean"] is None
    assert figures["spearman"] > 0.9999
    assert figures["difference"] < 1e-4
    record = {"task": "cross-encoder", "exports": [figures]}
    card = environment.get_template("model_use.md").render(record=record, repo=None, version=None)
    monkeypatch.chdir(folder)
    space = {}
    exec(re.findall(r"```python\n(.*?)```", card, re.DOTALL)[1], space)
    pairs = [("who swims?", text) for text in TEXTS]
    logits = CrossEncoder(str(folder)).predict(pairs, activation_fn=torch.nn.Identity())
    assert abs(space["score"](pairs).ravel() - logits).max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "pooling", "formats"),
    [("distilbert", "cls", ["openvino"]), ("modernbert", "cls", ["onnx"]), ("modernbert", "mean", ["openvino"])],
)
def test_other_architectures_and_poolings(kind, pooling, formats, texts, tmp_path):
    folder = tiny.retriever(pooling, tmp_path / kind, kind=kind, length=64)
    uneven = msgspec.structs.replace(texts, queries=["owl", *texts.queries[1:]])  # padded beyond ModernBERT's window
    figures = export(folder, formats, uneven)
    assert min(each["cosine_worst"] for each in figures) > 0.999


def test_a_model_above_two_gigabytes_keeps_its_weights_beside(tmp_path):
    module = torch.nn.Linear(64, 64).eval()
    program = torch.onnx.export(module, (torch.zeros(1, 64),), dynamo=True, verbose=False)
    write_onnx(program, tmp_path / "model.onnx", one_file=False)
    assert (tmp_path / "model.onnx_data").stat().st_size > 64 * 64 * 4 - 1
    assert (tmp_path / "model.onnx").stat().st_size < 10_000
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    ones = np.ones((1, 64), np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: ones})
    assert abs(found - module(torch.from_numpy(ones)).detach().numpy()).max() < 1e-5


def test_calibration_and_measuring_share_no_row(texts):
    assert len(texts.queries) == 8
    assert not set(texts.queries) & {query for query, _ in texts.calibration}
    assert len(texts.calibration) == 16
    with pytest.raises(UserError, match="has 1 rows; wanted 2, to"):
        sample_texts(Dataset.from_dict({"query": ["a"], "positive": ["b"]}))


def test_drift_is_what_it_says():
    scores = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    vectors = np.eye(5, dtype=np.float32)
    same = compare(Scored(scores, vectors, 10.0), Scored(scores + 0.01, vectors * 2, 20.0))
    assert (same.spearman, same.top, same.cosine_worst, same.drifted) == (1.0, 1.0, 1.0, False)
    assert same.difference == pytest.approx(0.01, abs=1e-6)
    turned = compare(Scored(scores, vectors, 10.0), Scored(-scores, vectors[::-1], 20.0))
    assert (turned.spearman, turned.top, turned.cosine_worst, turned.drifted) == (-1.0, 0.0, 0.0, True)
    assert "ranks otherwise" in turned.line()


def test_what_cannot_be_converted_is_named(texts, model, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="StaticEmbedding is a table of vectors"):
        load(tiny.static(tmp_path / "static"))
    with pytest.raises(UserError, match="--to onnx,tflite: unknown: tflite; allowed: onnx, onnx-int8, openvino"):
        exporting._formats("onnx,tflite")
    with pytest.raises(UserError, match="was trained on a folder, dataset; name it with --dataset FOLDER"):
        main(model, ["onnx"])
    with pytest.raises(UserError, match="holds no finished run"):
        main(tmp_path, ["onnx"])
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UserError, match="not installed: nncf; run: pip install nncf"):
        export(model, ["openvino-int8"], texts)
