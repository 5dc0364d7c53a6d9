"""Ways to run a cross-encoder: torch in fp32 or bf16, ONNX Runtime, OpenVINO."""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from builders.scoring.config import CrossEncoderConfig
from foils.encode.batches import Features, Floats, Numbers, on_device
from foils.encode.convert import FILES, PACKAGES, convert
from foils.encode.runtimes import Lane, lane_of_file
from foils.errors import UserError
from foils.loading import load_reranker
from foils.models import ModelReference

logger = logging.getLogger(__name__)

Scored = tuple[Numbers, Floats]  # which pairs, and their scores
CONVERTED = {"onnx": PACKAGES["onnx"], "openvino": PACKAGES["openvino"]}
"""The lanes that run a converted model, on the CPU, and the packages that each needs."""


def lane_name(config: CrossEncoderConfig, model: ModelReference) -> str:
    """`fp32`, `bf16`, `onnx` or `openvino`: the recipe's, or the fastest that this machine is good at.

    Raises:
        UserError: the one that the recipe names cannot run here.
    """
    from foils.hardware import has_native_bf16

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
    """The model as a `CrossEncoder` in fp32, its last layer shortened where that changes nothing.

    Raises:
        UserError: it is not a cross-encoder, or gives more than one score.
    """
    from builders.scoring.last_layer import read_first_token_alone

    where = f"negatives.cross-encoder.model {config.model}"
    loaded = load_reranker(model.location, where, max_length=config.max_length, device=device)
    loaded.eval()
    read_first_token_alone(getattr(loaded[0], "model", None))
    return loaded


def lane_of(name: Any, model: Any, cache: Path) -> Lane:
    """Scores by the lane of that name, after the model's own activation as in `CrossEncoder.predict`.

    Args:
        name: as `lane_name` gives it.
        model: the `CrossEncoder`.
        cache: the folder that a converted model is kept in.

    Raises:
        UserError: the model cannot be converted.
    """
    if name in CONVERTED:
        file = cache / FILES[name]
        if not file.exists():
            _write(name, model, cache)
        return _converted(model, lane_of_file(name, file))
    return _torch(model.bfloat16() if name == "bf16" else model)


def _torch(model: Any) -> Lane:
    import torch

    def run(batches: Iterable[tuple[Numbers, Features]]) -> Iterator[Scored]:
        for pairs, features in batches:
            with torch.inference_mode():
                yield pairs, _activated(model, model(on_device(features, model.device))["scores"])

    return run


def _converted(model: Any, lane: Lane) -> Lane:
    """A converted model's scores. It has the weights: what is left in torch is tokeniser and activation."""
    import torch

    model.to("meta")

    def run(batches: Iterable[tuple[Numbers, Features]]) -> Iterator[Scored]:
        for pairs, logits in lane(batches):
            yield pairs, _activated(model, torch.from_numpy(logits))

    return run


def _write(name: Any, model: Any, folder: Path) -> None:
    """Writes the model in a runtime's form, all of it or nothing."""
    logger.info("converting the cross-encoder for %s", name)
    try:
        with _complete(folder) as partial:
            convert(model.float().cpu(), name, partial)
    except UserError as problem:
        raise UserError(f"negatives.cross-encoder.precision {name}: {problem}") from None


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
