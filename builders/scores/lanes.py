"""Ways to run a cross-encoder: torch in fp32 or bf16 on one or more devices, or OpenVINO on the CPU."""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from builders.scores.config import CrossEncoderConfig
from foils.encode.batches import Features, Floats, Numbers, planned, tokenise
from foils.errors import UserError
from foils.folders import partial_folder, put_in_place
from foils.loading import json_object, load_reranker, modules_of
from foils.models import ModelReference

logger = logging.getLogger(__name__)

KEY = "negatives.cross-encoder.precision"
BATCH = {"cpu": 32, "gpu": 128}
"""Pairs of a batch in torch."""
AT_ONCE = {"cpu": 256, "gpu": 2048, "openvino": 2048}
"""Pairs that are given to a device at once, and then stored: what a kill may cost."""
_TOKENS = 2048  # padded tokens of a batch in OpenVINO, which runs several small batches side by side


class Lane(NamedTuple):
    """A cross-encoder that is ready to score.

    Attributes:
        score: pairs of texts to their scores, `(n_pairs,)`.
        at_once: how many pairs it should be given at once.
    """

    score: Callable[[list[tuple[str, str]]], Floats]
    at_once: int


def lane_name(config: CrossEncoderConfig, model: ModelReference) -> str:
    """Returns `fp32`, `bf16` or `openvino`: the recipe's, or the fastest that this machine is good at.

    Raises:
        UserError: the one that the recipe names cannot run here.
    """
    import torch

    from foils.hardware import has_native_bf16

    plain = _is_plain(Path(model.location))
    if config.precision == "auto":
        if plain and find_spec("openvino") and not torch.accelerator.is_available():
            return "openvino"
        return "bf16" if has_native_bf16() else "fp32"
    if config.precision == "bf16" and not has_native_bf16():
        raise UserError(
            f"{KEY} bf16: this machine has no instructions for it, so it would be slower than fp32; set precision = "
            '"fp32", or "openvino" on a CPU'
        )
    if config.precision == "openvino" and not find_spec("openvino"):
        raise UserError(
            f"{KEY} openvino: not installed; run: pip install openvino (or pip install -e '.[fast]'), or set "
            'precision = "fp32"'
        )
    if config.precision == "openvino" and not plain:
        raise UserError(
            f"{KEY} openvino: {config.model} is not a plain sequence classifier, so it cannot be converted; set "
            'precision = "fp32" or "bf16"'
        )
    return config.precision


def load_lane(config: CrossEncoderConfig, reference: ModelReference, name: str, converted: Path) -> Lane:
    """Loads a model in a lane.

    Args:
        config: for the length that is read.
        reference: the model.
        name: see `lane_name`.
        converted: the folder that keeps a converted model.

    Raises:
        UserError: it is not a cross-encoder, gives more than one score, or cannot be converted.
    """
    import torch

    where, device = f"negatives.cross-encoder.model {config.model}", "cpu" if name == "openvino" else None
    model = load_reranker(reference.location, where, max_length=config.max_length, device=device).eval()
    if name == "openvino":
        return Lane(_openvino(model, converted), AT_ONCE[name])
    if name == "bf16":
        model.bfloat16()
    kind = "cpu" if model.device.type == "cpu" else "gpu"
    gpus = torch.cuda.device_count() if model.device.type == "cuda" else 0
    devices = [f"cuda:{number}" for number in range(gpus)] or [str(model.device)]
    return Lane(in_torch(model, devices, BATCH[kind]), AT_ONCE[kind] * len(devices))


def in_torch(model: Any, devices: Sequence[str], batch_size: int) -> Callable[[list[tuple[str, str]]], Floats]:
    """Scores by `CrossEncoder.predict`, on several devices with a copy of the model on each.

    Threads and not processes: the tokenizer and torch let go of Python's lock, and nothing outlives a killed run.
    """
    copies = [copy.deepcopy(model).to(device) for device in devices[1:]]
    models = [model.to(devices[0]), *copies]

    def predict(model: Any, pairs: list[tuple[str, str]]) -> Floats:
        return np.asarray(model.predict(pairs, batch_size=batch_size, show_progress_bar=False), np.float32)

    def score(pairs: list[tuple[str, str]]) -> Floats:
        parts = [pairs[number :: len(models)] for number in range(len(models))]  # equal shares of long and short pairs
        scores = np.empty(len(pairs), np.float32)
        with ThreadPoolExecutor(len(models)) as pool:
            for number, found in enumerate(pool.map(predict, models, parts)):
                scores[number :: len(models)] = found
        return scores

    return score


def _openvino(model: Any, folder: Path) -> Callable[[list[tuple[str, str]]], Floats]:
    """Scores by a model that is converted once; what is left in torch is tokeniser and activation."""
    import torch

    from foils.encode.convert import FILES, convert
    from foils.encode.runtimes import openvino_lane

    if not (folder / FILES["openvino"]).exists():
        logger.info("converting the cross-encoder for openvino")
        partial = partial_folder(folder)
        try:
            convert(model.float().cpu(), "openvino", partial)
        except UserError as problem:
            raise UserError(f"{KEY} openvino: {problem}") from None
        put_in_place(partial, folder)
    run = openvino_lane(folder / FILES["openvino"])
    model.to("meta")  # the converted file has the weights

    def score(pairs: list[tuple[str, str]]) -> Floats:
        tokens = tokenise(model, pairs, model._resolve_prompt(None, None))  # noqa: SLF001  as predict() does
        batches: Iterator[tuple[Numbers, Features]] = (
            (rows, tokens.padded(rows)) for rows in planned(tokens.lengths, _TOKENS)
        )
        scores = np.empty(len(pairs), np.float32)
        for rows, logits in run(batches):
            scores[rows] = model.activation_fn(torch.from_numpy(logits).float()).reshape(-1).numpy()
        return scores

    return score


def _is_plain(folder: Path) -> bool:
    """Whether a model folder holds a transformer with a classification head and no further module or prompt."""
    kinds = json_object(folder / "config.json").get("architectures") or [""]
    return str(kinds[0]).endswith("ForSequenceClassification") and len(modules_of(str(folder))) <= 1
