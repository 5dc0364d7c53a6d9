"""Ways to run a cross-encoder: torch in fp32 or bf16, OpenVINO."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
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


def lane_name(config: CrossEncoderConfig, model: ModelReference) -> str:
    """`fp32`, `bf16` or `openvino`: the recipe's, or the fastest that this machine is good at.

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
    if config.precision == "openvino":
        if find_spec("openvino") is None:
            raise UserError(
                "negatives.cross-encoder.precision openvino: the package openvino is not installed; run: pip install "
                "openvino (or pip install -e '.[fast]')"
            )
        if not plain:
            raise UserError(
                f"negatives.cross-encoder.precision openvino: {config.model} is not a plain sequence classifier, so it "
                'cannot be converted; set precision = "fp32" or "bf16"'
            )
    return config.precision


def load(config: CrossEncoderConfig, model: ModelReference, device: str | None = None) -> Any:
    """The model as a `CrossEncoder`.

    Raises:
        UserError: it gives more than one score.
    """
    from sentence_transformers import CrossEncoder

    loaded = CrossEncoder(
        model.location, max_length=config.max_length, device=device, model_kwargs={"use_safetensors": True}
    )
    if loaded.num_labels != 1:
        raise UserError(
            f"negatives.cross-encoder.model {config.model}: gives {loaded.num_labels} scores per pair; wanted a model "
            "with one relevance score, such as cross-encoder/ms-marco-MiniLM-L6-v2"
        )
    loaded.eval()
    return loaded


def lane_of(name: str, model: Any, cache: Path) -> Lane:
    """The lane of that name for a loaded `CrossEncoder`, whose weights it takes over.

    Args:
        name: as `lane_name` gives it.
        model: the `CrossEncoder`.
        cache: the file that a converted model is kept in, without its ending.
    """
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


def _openvino(model: Any, cache: Path) -> Lane:
    """One stream per thread, so that threads never wait for each other; bf16 where the CPU has instructions for it."""
    import openvino
    import torch

    from cards.hardware import has_native_bf16

    file = cache / "model.xml"
    if not file.exists():
        _convert(model, file)
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


def _convert(model: Any, file: Path) -> None:
    """Writes the model in OpenVINO's form; complete or absent, whichever of several processes is first."""
    import openvino
    import torch

    logger.info("converting the cross-encoder for OpenVINO")
    classifier = model[0].model.float().cpu()
    sample = model.preprocess([("query", "passage"), ("query", "a longer passage")])
    names = [name for name, values in sample.items() if isinstance(values, torch.Tensor)]

    class Logits(torch.nn.Module):
        """The classifier with tensors as its arguments and its result."""

        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.classifier(**dict(zip(names, values, strict=True))).logits
            return logits

    converted = openvino.convert_model(Logits().eval(), example_input=tuple(sample[name] for name in names))
    for port, name in zip(converted.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    file.parent.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=file.parent.parent))
    openvino.save_model(converted, partial / file.name, compress_to_fp16=False)
    try:
        partial.rename(file.parent)
    except OSError:  # another process has put it there
        shutil.rmtree(partial)


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
