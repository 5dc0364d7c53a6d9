"""Ways to run a cross-encoder: torch in fp32 or bf16, ONNX Runtime, OpenVINO."""

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builders.scoring.batches import Features, Numbers
from builders.scoring.config import CrossEncoderConfig
from cards.errors import UserError
from cards.models import ModelReference

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Scored = tuple[Numbers, Floats]  # which pairs, and their scores
Lane = Callable[[Iterable[tuple[Numbers, Features]]], Iterator[Scored]]
"""Batches in, scores out, after the model's own activation as in `CrossEncoder.predict`; in any order."""
CONVERTED = {"onnx": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",)}
"""The lanes that run a converted model, on the CPU, and the packages that each needs."""


def lane_name(config: CrossEncoderConfig, model: ModelReference) -> str:
    """`fp32`, `bf16`, `onnx` or `openvino`: the recipe's, or the fastest that this machine is good at.

    Raises:
        UserError: the one that the recipe names cannot run here.
    """
    from cards.hardware import has_native_bf16

    plain = _is_plain(Path(model.location))
    if config.precision == "auto":
        if plain and find_spec("openvino") and not _on_gpu():
            return "openvino"
        return "bf16" if has_native_bf16() else "fp32"
    if config.precision == "bf16" and not has_native_bf16():
        raise UserError(
            "negatives.cross-encoder.precision bf16: this machine has no instructions for it, so it would be slower "
            'than fp32; set precision = "fp32", or "openvino" on a CPU'
        )
    if config.precision in CONVERTED:
        missing = [name for name in CONVERTED[config.precision] if find_spec(name) is None]
        if missing:
            raise UserError(
                f"negatives.cross-encoder.precision {config.precision}: not installed: {', '.join(missing)}; run: pip "
                f"install {' '.join(missing)} (or pip install -e '.[fast]')"
            )
        if not plain:
            raise UserError(
                f"negatives.cross-encoder.precision {config.precision}: {config.model} is not a plain sequence "
                'classifier, so it cannot be converted; set precision = "fp32" or "bf16"'
            )
    return config.precision


def load(config: CrossEncoderConfig, model: ModelReference, device: str | None = None) -> Any:
    """The model as a `CrossEncoder`, its last layer shortened where that changes nothing.

    Raises:
        UserError: it gives more than one score.
    """
    from sentence_transformers import CrossEncoder

    from builders.scoring.last_layer import read_first_token_alone

    loaded = CrossEncoder(
        model.location, max_length=config.max_length, device=device, model_kwargs={"use_safetensors": True}
    )
    if loaded.num_labels != 1:
        raise UserError(
            f"negatives.cross-encoder.model {config.model}: gives {loaded.num_labels} scores per pair; wanted a model "
            "with one relevance score, such as cross-encoder/ms-marco-MiniLM-L6-v2"
        )
    loaded.eval()
    read_first_token_alone(getattr(loaded[0], "model", None))
    return loaded


def lane_of(name: str, model: Any, cache: Path) -> Lane:
    """The lane of that name for a loaded `CrossEncoder`, whose weights it takes over.

    Args:
        name: as `lane_name` gives it.
        model: the `CrossEncoder`.
        cache: the folder that a converted model is kept in.

    Raises:
        UserError: the model cannot be converted.
    """
    if name == "onnx":
        return _onnx(model, cache)
    if name == "openvino":
        return _openvino(model, cache)
    return _torch(model.bfloat16() if name == "bf16" else model.float())


def _torch(model: Any) -> Lane:
    import torch

    def run(batches: Iterable[tuple[Numbers, Features]]) -> Iterator[Scored]:
        for pairs, features in batches:
            with torch.inference_mode():
                scores = model({name: _on_device(values, model.device) for name, values in features.items()})["scores"]
                yield pairs, _activated(model, scores)

    return run


def _onnx(model: Any, cache: Path) -> Lane:
    """In fp32, one batch after the other, each on as many threads as torch would take."""
    import onnxruntime
    import torch

    file = cache / "model.onnx"
    if not file.exists():
        _export_onnx(model, file)
    model.to("meta")  # as for OpenVINO
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]

    def run(batches: Iterable[tuple[Numbers, Features]]) -> Iterator[Scored]:
        for pairs, features in batches:
            (logits,) = session.run(None, {name: features[name] for name in names})
            yield pairs, _activated(model, torch.from_numpy(logits))

    return run


def _openvino(model: Any, cache: Path) -> Lane:
    """One stream per thread, so that threads never wait for each other; bf16 where the CPU has instructions for it."""
    import openvino
    import torch

    from cards.hardware import has_native_bf16

    file = cache / "model.xml"
    if not file.exists():
        _convert_openvino(model, file)
    model.to("meta")  # the weights are OpenVINO's now; the tokeniser and the activation are still needed
    threads = torch.get_num_threads()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if has_native_bf16() and not _on_gpu() else "f32",
        "NUM_STREAMS": threads,
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    names = [port.get_any_name() for port in compiled.inputs]

    def run(batches: Iterable[tuple[Numbers, Features]]) -> Iterator[Scored]:
        finished: list[tuple[Numbers, Any]] = []
        queue = openvino.AsyncInferQueue(compiled)
        queue.set_callback(lambda request, pairs: finished.append((pairs, request.get_output_tensor(0).data.copy())))
        for pairs, features in batches:
            queue.start_async({name: features[name] for name in names}, userdata=pairs)
            while finished:
                done, logits = finished.pop()
                yield done, _activated(model, torch.from_numpy(logits))
        queue.wait_all()
        for done, logits in finished:
            yield done, _activated(model, torch.from_numpy(logits))

    return run


def _export_onnx(model: Any, file: Path) -> None:
    """Writes the model in ONNX's form, its weights in a file beside it: one file could not hold 2 GB."""
    import torch

    logger.info("converting the cross-encoder for ONNX Runtime")
    module, sample = _as_module(model)
    shape = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision, which no text model needs
    with _complete(file.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                tuple(sample.values()),
                folder / file.name,
                input_names=list(sample),
                output_names=["logits"],
                dynamic_shapes=((shape,) * len(sample),),
                dynamo=True,
                external_data=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as problem:
            reason = str(problem.__cause__ or problem).strip().splitlines()[0]
            raise UserError(
                f"negatives.cross-encoder.precision onnx: torch cannot export this model ({reason}); set precision = "
                '"fp32", "bf16" or "openvino"'
            ) from problem


def _convert_openvino(model: Any, file: Path) -> None:
    """Writes the model in OpenVINO's form."""
    import openvino

    logger.info("converting the cross-encoder for OpenVINO")
    module, sample = _as_module(model)
    converted = openvino.convert_model(module, example_input=tuple(sample.values()))
    for port, name in zip(converted.inputs, sample, strict=True):
        port.get_tensor().set_names({name})
    with _complete(file.parent) as folder:
        openvino.save_model(converted, folder / file.name, compress_to_fp16=False)


def _as_module(model: Any) -> tuple[Any, dict[str, Any]]:
    """The classifier with tensors as its arguments and its result, and a batch that it takes, by name."""
    import torch

    classifier = model[0].model.float().cpu()
    sample = model.preprocess([("query", "passage"), ("query", "a longer passage")])
    tensors = {name: values for name, values in sample.items() if isinstance(values, torch.Tensor)}

    class Logits(torch.nn.Module):
        """See above."""

        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.classifier(**dict(zip(tensors, values, strict=True))).logits
            return logits

    return Logits().eval(), tensors


@contextmanager
def _complete(folder: Path) -> Iterator[Path]:
    """A new folder to write in that then takes this name: complete or absent, whichever of several is first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        yield partial
        with suppress(OSError):  # another process has put it there
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _activated(model: Any, scores: Any) -> Floats:
    """What `predict` makes of a model's output: upcast, activation, one number a pair."""
    values: Floats = model.activation_fn(scores.float()).reshape(-1).cpu().numpy()
    return values


def _on_device(values: Any, device: Any) -> Any:
    import torch

    return torch.from_numpy(values).to(device) if isinstance(values, np.ndarray) else values


def _on_gpu() -> bool:
    import torch

    return bool(torch.accelerator.is_available())


def _is_plain(folder: Path) -> bool:
    """Whether a model folder holds a transformer with a classification head and no further module or prompt."""

    def read(name: str, otherwise: Any) -> Any:
        file = folder / name
        return json.loads(file.read_text("utf-8")) if file.exists() else otherwise

    kinds = read("config.json", {}).get("architectures") or [""]
    further = len(read("modules.json", [{}])) > 1
    return kinds[0].endswith("ForSequenceClassification") and not further
