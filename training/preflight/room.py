"""How much memory and disk a training will take, before it takes it."""

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from msgspec import Struct
from sentence_transformers import CrossEncoder

from training.preflight.tokens import limit_of, positions_of

PROBE = 256
"""Tokens of the longest text that is tried out; what is longer is extrapolated."""
_TEXTS = 2
# Multiples of the weights that an optimiser keeps in fp32.
_STATES = {
    "sgd": 0.0,
    "adafactor": 0.05,
    **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"), 0.5),
    "lion": 1.0,
}
_ADAM = 2.0
_CGROUP = Path("/sys/fs/cgroup")
WORKING = 2.0
"""The memory that the backward pass computes with at a time, in multiples of what a layer keeps."""
FIXED = {"cpu": 300e6}
"""Measured for the trainer and torch's kernels, whatever the model. A GPU's is taken when the model goes there."""
_MARGIN = 50 * 2**20  # tokenizer, records, logs


class Batch(NamedTuple):
    """The texts that go through the model for a step of one process.

    Attributes:
        rows: of a batch.
        columns: tokens of the longest text of each column, as far as it is read.
        in_batch_negatives: whether each query is compared with all passages of the batch.
        mini_batch: texts at a time, for a cached loss; None for all.
        merged: whether all columns but the first go through as one, padded to the longest.
    """

    rows: int
    columns: Mapping[str, int]
    in_batch_negatives: bool
    mini_batch: int | None
    merged: bool


class Memory(Struct, frozen=True):
    """The memory of one process, in bytes.

    Attributes:
        device: `cpu` or `cuda`.
        weights: of the model.
        gradients: of the weights that are trained.
        optimiser: its states.
        activations: what the forward pass keeps for the backward pass, and what that computes with.
        need: what comes on top of what is held now.
        free: what there is for this process.
    """

    device: str
    weights: int
    gradients: int
    optimiser: int
    activations: int
    need: int
    free: int


class Disk(Struct, frozen=True):
    """The space on the disk, in bytes.

    Attributes:
        model: of the saved weights.
        checkpoint: of one checkpoint: weights and optimiser states.
        checkpoints: the most that are on the disk at the same time.
        need: all together.
        free: where the output folder lies.
    """

    model: int
    checkpoint: int
    checkpoints: int
    need: int
    free: int


class Curve(NamedTuple):
    """The bytes that the forward pass keeps: a constant, and for a text of n tokens `linear * n + square * n^2`."""

    constant: float
    linear: float
    square: float

    def of(self, texts: int, tokens: int) -> float:
        """Returns the bytes of some texts of the same length."""
        return texts * (self.linear * tokens + self.square * tokens**2)


def memory(model: Any, arguments: Any, batch: Batch) -> Memory:
    """Estimates the peak of a training.

    A text of three lengths goes through the model as in training, with its dropout, attention and precision, and the
    bytes that autograd keeps are added up. So no architecture needs a formula of its own.

    Against measured peaks of all-MiniLM-L6-v2 on a CPU (batches of 16 to 64 triplets, 64 to 256 tokens, fp32 and bf16,
    with and without dropout, cached loss; 1.1 to 8.5 GB; `python -m tests.bench.preflight_memory`) it was 8 % too low
    to 12 % too high. It is not measured on a GPU, and leaves out the guide of a GIST loss.

    Args:
        model: a SentenceTransformer or CrossEncoder, as it will be trained.
        arguments: the trainer's.
        batch: what goes through it.
    """
    device = torch.device(arguments.device).type
    weights = _bytes(model.parameters())
    gradients, optimiser = _bytes(each for each in model.parameters() if each.requires_grad), states(model, arguments)
    activations = int(_activations(model, arguments, batch))
    resident = next(iter(model.parameters())).device.type == device
    need = gradients + optimiser + activations + (0 if resident else weights)
    return Memory(device, weights, gradients, optimiser, activations, need, free_bytes(device, arguments.world_size))


def states(model: Any, arguments: Any) -> int:
    """Returns the bytes of the optimiser's states."""
    optim = str(getattr(arguments.optim, "value", arguments.optim))
    share = next((share for name, share in _STATES.items() if optim.startswith(name)), _ADAM)
    return int(4 * share * sum(each.numel() for each in model.parameters() if each.requires_grad))


def disk(model: Any, arguments: Any, output: Path, steps: int, *, timed: bool) -> Disk:
    """Adds up what a training writes.

    Args:
        model: that is trained.
        arguments: how often checkpoints are saved and how many are kept.
        output: the model's folder, which need not exist.
        steps: of the training.
        timed: whether checkpoints are made by the clock, whatever `save_strategy` says.
    """
    weights = _bytes(model.parameters())
    checkpoint, kept = weights + states(model, arguments), _checkpoints(arguments, steps, timed=timed)
    folder = output.absolute()
    while not folder.exists():
        folder = folder.parent
    return Disk(weights, checkpoint, kept, weights + kept * checkpoint + _MARGIN, shutil.disk_usage(folder).free)


def free_bytes(device: str, processes: int = 1) -> int:
    """Memory that there is now for one of the processes: a GPU's, or its share of RAM within the container's limit."""
    if device == "cuda":
        unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0] + unused)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    return int(min(psutil.virtual_memory().available, _within_container()) / here)


def _within_container() -> float:
    """The memory that a container's limit leaves; infinite without one."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return math.inf
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return float(int(limit) - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        return math.inf


def _checkpoints(arguments: Any, steps: int, *, timed: bool) -> int:
    """The checkpoints that are on the disk at once."""
    strategy = getattr(arguments.save_strategy, "value", arguments.save_strategy)
    if strategy == "no" and not timed:
        return 0
    every = arguments.save_steps if arguments.save_steps >= 1 else max(1, arguments.save_steps * steps)
    saved = {"steps": math.ceil(steps / every), "epoch": math.ceil(arguments.num_train_epochs)}.get(strategy)
    if arguments.save_total_limit is None:
        return saved if saved is not None else 1
    # A new one is written before an old one goes, and the best one stays beside the last.
    limit = max(arguments.save_total_limit, 1 + bool(arguments.load_best_model_at_end)) + 1
    return int(limit if saved is None else min(limit, saved))


def _activations(model: Any, arguments: Any, batch: Batch) -> float:
    curve, layers = _measured(model, arguments), _layers(model)
    groups = [(batch.rows, tokens) for tokens in batch.columns.values()]
    if batch.merged and len(groups) > 1:
        groups = [groups[0], (batch.rows * len(groups[1:]), max(tokens for _, tokens in groups[1:]))]
    if batch.mini_batch is not None:
        groups = [(min(batch.mini_batch, rows), tokens) for rows, tokens in groups]
    largest = max(curve.of(*group) for group in groups)
    kept = largest if batch.mini_batch is not None else sum(curve.of(*group) for group in groups)
    if arguments.gradient_checkpointing:
        width = _width(model) * (2 if arguments.bf16 or arguments.fp16 else 4)
        texts = sum(rows * tokens for rows, tokens in groups)
        kept = texts * width * layers + largest / layers
    passages = batch.rows * max(len(batch.columns) - 1, 1) * arguments.world_size
    scores = 4 * min(batch.mini_batch or batch.rows, batch.rows) * passages * 4 if batch.in_batch_negatives else 0
    embeddings = 3 * 4 * batch.rows * len(batch.columns) * _width(model)
    fixed = FIXED.get(torch.device(arguments.device).type, 0.0)
    return fixed + curve.constant + kept + WORKING * largest / layers + scores + embeddings


def _measured(model: Any, arguments: Any) -> Curve:
    """Measures what the forward pass keeps by length, on two texts, one of them padded; leaves no trace."""
    if not hasattr(model[0], "auto_model"):  # a static embedding keeps next to nothing
        return Curve(0.0, 4.0 * _width(model), 0.0)
    most = min(limit_of(model) or PROBE, positions_of(model) or PROBE, PROBE)
    sizes = sorted({max(most // 4, 4), max(most // 2, 5), most})
    kept = [_kept(model, arguments, tokens) for tokens in sizes]
    if len(sizes) < 3:  # noqa: PLR2004 - a curve needs three points
        return Curve(0.0, kept[-1] / _TEXTS / sizes[-1], 0.0)
    square, linear, constant = np.polyfit(sizes, kept, 2)
    return Curve(max(constant, 0.0), linear / _TEXTS, max(square, 0.0) / _TEXTS)


def _kept(model: Any, arguments: Any, tokens: int) -> int:
    """The bytes that autograd keeps of a forward pass over two texts."""
    storages: dict[int, int] = {}
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    kind = torch.bfloat16 if arguments.bf16 else torch.float16
    device = next(iter(model.parameters())).device
    features = {
        key: value.to(device) if torch.is_tensor(value) else value for key, value in _features(model, tokens).items()
    }
    with (
        _as_in_training(model),
        torch.autocast(device.type, kind, enabled=arguments.bf16 or arguments.fp16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        held = model(features)
    total = sum(storages.values())
    del held
    return total


def _features(model: Any, tokens: int) -> dict[str, Any]:
    """Two texts of some tokens, the second half as long."""
    long, short = "word " * tokens, "word " * (tokens // 2)
    texts = [("word", long), ("word", short)] if isinstance(model, CrossEncoder) else [long, short]
    features: dict[str, Any] = model.preprocess(texts)
    return {
        key: value[:, :tokens] if torch.is_tensor(value) and value.ndim == 2 else value  # noqa: PLR2004
        for key, value in features.items()
    }


@contextmanager
def _as_in_training(model: torch.nn.Module) -> Iterator[None]:
    """Dropout at work, and afterwards the random numbers and the mode that were before."""
    before = model.training
    with torch.random.fork_rng():
        model.train()
        try:
            yield
        finally:
            model.train(before)


def _layers(model: Any) -> int:
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return int(getattr(config, "num_hidden_layers", None) or 1)


def _width(model: Any) -> int:
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return int(getattr(config, "hidden_size", None) or model.get_embedding_dimension())


def _bytes(tensors: Any) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)
