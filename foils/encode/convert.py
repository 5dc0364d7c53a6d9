"""Embedding models and cross-encoders in ONNX's and OpenVINO's form, plain and in 8 bits.

The files have the names, and the names of inputs and outputs, that sentence-transformers' own exporters give. Those go
through optimum-onnx, which cannot be imported beside any transformers 5 (and sentence-transformers 6 needs one), and
optimum-intel, which needs transformers below 5.6; and its 8-bit export calibrates on a data set of the Hub alone, where
here the training texts are at hand. So the whole model, pooling and all, goes through torch's exporter directly.
"""

import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from foils.encode.drift import Model, Texts, calibrating
from foils.errors import UserError
from foils.loading import in_fp32, json_object

Format = Literal["onnx", "onnx-int8", "openvino", "openvino-int8"]
FILES: dict[Format, str] = {
    "onnx": "onnx/model.onnx",
    "onnx-int8": "onnx/model_qint8.onnx",
    "openvino": "openvino/openvino_model.xml",
    "openvino-int8": "openvino/openvino_model_qint8_quantized.xml",
}
PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "onnx", "onnxscript"),
    "onnx-int8": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino",),
    "openvino-int8": ("openvino", "nncf"),
}
_ONE_FILE_BYTES = 1_900_000_000  # a protobuf file ends at 2 GB


def load(folder: Path) -> Model:
    """A model folder's model on the CPU in fp32.

    Raises:
        UserError: it cannot be converted, and why.
    """
    kind = json_object(folder / "config_sentence_transformers.json").get("model_type")
    model: Model = in_fp32(CrossEncoder if kind == "CrossEncoder" else SentenceTransformer, str(folder), device="cpu")
    if not hasattr(model[0], "model"):
        raise UserError(
            f"export {folder}: {type(model[0]).__name__} is a table of vectors or has several ways, and cannot be "
            "converted; a table reads as fast as it is; leave it in torch"
        )
    if any(not getattr(module, "include_prompt", True) for module in model):
        raise UserError(
            f"export {folder}: its pooling passes over the prompt's tokens, whose number a converted file cannot know; "
            "leave it in torch"
        )
    if isinstance(model, CrossEncoder) and model.num_labels != 1:
        raise UserError(f"export {folder}: gives {model.num_labels} scores a pair; wanted a model with one")
    return model.eval()


def convert(model: Model, name: Format, root: Path, texts: Texts | None = None) -> Path:
    """Writes one format under `root`, and the plain format before its 8-bit form.

    Args:
        model: in fp32 on the CPU.
        name: the format.
        root: the folder that its files lie under, by `FILES`.
        texts: to calibrate `openvino-int8` with, which needs them.

    Returns:
        Its file; further ones lie beside it.

    Raises:
        UserError: torch cannot export the model.
    """
    file = root / FILES[name]
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    if name == "onnx":
        _to_onnx(model, file)
    elif name == "openvino":
        _to_openvino(model, file)
    elif name == "onnx-int8":
        _to_onnx_int8(convert(model, "onnx", root, texts), file)
    elif texts is not None:
        _to_openvino_int8(convert(model, "openvino", root, texts), file, model, texts)
    else:
        raise ValueError("openvino-int8 needs texts to calibrate with")
    return file


def parts_of(file: Path) -> list[Path]:
    """All files of a format, what is read first last: weights that lie apart stand before what names them.

    >>> parts_of(Path("nowhere/model.onnx"))
    []
    """
    candidates = [file.with_name(f"{file.name}_data"), file.with_suffix(".bin"), file]
    return [part for part in candidates if part.exists()]


def _to_onnx(model: Model, file: Path) -> None:
    module, sample, outputs = _as_module(model)
    shape = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    for chatty in ("torch.onnx", "onnxscript", "onnx_ir"):  # of torchvision, and of every constant that they fold
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                tuple(sample.values()),
                input_names=list(sample),
                output_names=outputs,
                dynamic_shapes=((shape,) * len(sample),),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as problem:
            reason = str(problem.__cause__ or problem).strip().splitlines()[0]
            raise UserError(f"onnx: torch cannot export this model ({reason}); try openvino") from problem
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    write_onnx(program, file, one_file=size < _ONE_FILE_BYTES)


def write_onnx(program: Any, file: Path, *, one_file: bool) -> None:
    """Writes an exported program, its weights inside or in a file beside it, named as optimum looks for it."""
    if one_file:
        program.save(str(file), external_data=False)
        return
    import onnx

    onnx.save_model(program.model_proto, str(file), save_as_external_data=True, location=f"{file.name}_data")


def _to_onnx_int8(plain: Path, file: Path) -> None:
    """Weights in 8 bits, activations too, their ranges found as they come.

    One scale for each column of a matrix, as one for all of it loses much more (MiniLM: mean cosine .93 where this has
    .99), and 7 of the 8 bits, as products would overflow on processors without VNNI instructions.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a step that is for images
    try:
        quantize_dynamic(plain, file, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    finally:
        logger.setLevel(level)


def _to_openvino(model: Model, file: Path) -> None:
    import openvino

    module, sample, outputs = _as_module(model)
    encoder: Any = model[0].model
    attention = encoder.config._attn_implementation  # noqa: SLF001  # transformers has no other name for it
    encoder.set_attn_implementation("eager")  # OpenVINO's own gives NaN where a padding token may look at nothing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(module, example_input=tuple(sample.values()))
    finally:
        encoder.set_attn_implementation(attention)
    for ports, names in ((converted.inputs, sample), (converted.outputs, outputs)):
        for port, name in zip(ports, names, strict=True):
            port.get_tensor().set_names({name})
    openvino.save_model(converted, file, compress_to_fp16=False)


def _to_openvino_int8(plain: Path, file: Path, model: Model, texts: Texts) -> None:
    """Weights and activations in 8 bits, the ranges of these from the calibration texts."""
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    converted = openvino.Core().read_model(plain)
    names = [port.any_name for port in converted.inputs]
    rows = [{name: features[name].numpy() for name in names} for features in calibrating(model, texts)]
    quantised = nncf.quantize(
        converted, nncf.Dataset(rows), subset_size=len(rows), model_type=nncf.ModelType.TRANSFORMER
    )
    openvino.save_model(quantised, file, compress_to_fp16=False)


def _as_module(model: Model) -> tuple[torch.nn.Module, dict[str, torch.Tensor], list[str]]:
    """The whole model with tensors as arguments and results; a batch that it takes, by name; its results' names."""
    pairs = isinstance(model, CrossEncoder)
    sample = model.preprocess([("a query", "passage"), ("query", "a longer passage")] if pairs else ["one", "and two"])
    tensors = {name: values for name, values in sample.items() if isinstance(values, torch.Tensor)}
    others = {name: value for name, value in sample.items() if name not in tensors}

    class Whole(torch.nn.Module):
        """See above."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: torch.Tensor) -> Any:
            features = self.model({**others, **dict(zip(tensors, values, strict=True))})
            return features["scores"] if pairs else (features["token_embeddings"], features["sentence_embedding"])

    return Whole().eval(), tensors, ["logits"] if pairs else ["last_hidden_state", "sentence_embedding"]
