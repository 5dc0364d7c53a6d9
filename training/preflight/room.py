"""How much memory and disk a training will take, before it takes it."""

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from msgspec import Struct
from sentence_transformers import CrossEncoder

from training.preflight.report import Problem, Report
from training.preflight.tokens import positions_of

LESS_MEMORY = (
    "lower and trainer.gradient_accumulation_steps higher, or use a cached loss, trainer.gradient_checkpointing or a "
    "smaller max_seq_length"
)
TIGHT = 0.8
"""The share of free memory above which a step is warned of."""
LEAST, PROBE = 4, 512
"""Tokens of the shortest and the longest text that is tried out; a longer one is taken to keep as much a token."""
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


class Room(Struct, frozen=True):
    """The bytes that a training takes beyond what it holds now, by what they are for, and those that are free."""

    of: str
    parts: dict[str, int]
    free: int

    @property
    def need(self) -> int:
        """The sum of the parts."""
        return sum(self.parts.values())


def check(report: Report, memory: Room | None, disk: Room) -> None:
    """Checks memory of one process, None where no text could be measured, and disk."""
    report.figures |= {"memory": memory, "disk": disk}
    lower = f"set trainer.per_device_train_batch_size {LESS_MEMORY}"
    other = "free some, give --out on another disk, or set trainer.save_total_limit lower"
    for label, room, what, remedy in (
        ("memory", memory, "a step of each process takes about {}", lower),
        ("disk", disk, "model and checkpoints take about {}", other),
    ):
        if room is None:
            continue
        parts = ", ".join(f"{name} {_size(size)}" for name, size in room.parts.items())
        report.lines.append((label, f"about {_size(room.need)} more ({room.of}, {_size(room.free)} free): {parts}"))
        if room.need > room.free:
            free = f"{_size(room.free)}, which are free ({room.of})"
            report.problems.append(Problem(label, what.format(_size(room.need)), free, remedy))
        elif room.need > TIGHT * room.free:
            report.warnings.append(what.format(f"{room.need / room.free:.0%} of the {label} that is free"))


def memory_of(
    model: Any, arguments: Any, columns: Mapping[str, int], *, in_batch: bool, mini_batch: int | None, merged: bool
) -> Room:
    """Estimates the peak of a training in one process.

    The longest text of each column goes through the model as in training, with its dropout, attention and precision,
    and the bytes that autograd keeps are added up. So no architecture needs a formula of its own.

    Against measured peaks of all-MiniLM-L6-v2 on a CPU (16 to 64 triplets of 128 and 256 tokens: fp32, bf16 without
    dropout, cached loss; 1.4 to 2.6 GB; `python -m tests.bench.preflight_memory`) it was 5 % to 8 % too low. It is not
    measured on a GPU, and leaves out the guide of a GIST loss.

    Args:
        model: the model.
        arguments: of the trainer.
        columns: tokens of the longest text of each column, as far as it is read.
        in_batch: whether each query is compared with all passages of the batch.
        mini_batch: texts at a time, for a cached loss; None for all.
        merged: whether all columns but the first go through as one, padded to the longest.
    """
    device, rows = torch.device(arguments.device).type, arguments.per_device_train_batch_size
    groups = [(rows, tokens) for tokens in columns.values()]
    if merged and len(groups) > 1:
        groups = [groups[0], (rows * len(groups[1:]), max(tokens for _, tokens in groups[1:]))]
    kept = _activations(model, arguments, groups, mini_batch)
    if in_batch:
        passages = rows * max(len(columns) - 1, 1) * arguments.world_size
        kept += 4 * min(mini_batch or rows, rows) * passages * 4
    kept += 3 * 4 * rows * len(columns) * _of_config(model, "hidden_size", None)  # embeddings
    parts = {
        "gradients": _bytes(each for each in model.parameters() if each.requires_grad),
        "optimiser": states(model, arguments),
        "activations": int(kept),
    }
    if next(iter(model.parameters())).device.type != device:
        parts["weights"] = _bytes(model.parameters())
    return Room(device, parts, free_bytes(device, arguments.world_size))


def states(model: Any, arguments: Any) -> int:
    """Returns the bytes of the optimiser's states."""
    optim = str(getattr(arguments.optim, "value", arguments.optim))
    share = next((share for name, share in _STATES.items() if optim.startswith(name)), _ADAM)
    return int(4 * share * sum(each.numel() for each in model.parameters() if each.requires_grad))


def disk_of(model: Any, arguments: Any, output: Path, *, timed: bool) -> Room:
    """Adds up what a training writes at `output`; `timed` checkpoints are made whatever `save_strategy` says."""
    weights, kept = _bytes(model.parameters()), 0
    strategy, last = getattr(arguments.save_strategy, "value", arguments.save_strategy), arguments.max_steps
    if timed or strategy != "no":
        # A new one is written before an old one goes, and the best one stays beside the last.
        kept = max(arguments.save_total_limit or 1, 1 + bool(arguments.load_best_model_at_end)) + 1
    if strategy == "epoch" and last <= 0:
        kept = min(kept, math.ceil(arguments.num_train_epochs))
    elif strategy == "steps" and last > 0 and arguments.save_steps >= 1:
        kept = min(kept, math.ceil(last / arguments.save_steps))
    parts = {"model": weights + _MARGIN, f"checkpoints ({kept})": kept * (weights + states(model, arguments))}
    folder = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
    return Room("disk", parts, shutil.disk_usage(folder).free)


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


def _activations(model: Any, arguments: Any, groups: list[tuple[int, int]], mini_batch: int | None) -> float:
    """The bytes of activations at the peak of a step that reads `groups`: texts, and tokens of each."""
    layers, width = _of_config(model, "num_hidden_layers", 1), _of_config(model, "hidden_size", None)
    if mini_batch is not None:
        groups = [(min(mini_batch, texts), tokens) for texts, tokens in groups]
    constant = _kept(model, arguments, LEAST)  # such as the weights in a lower precision
    each = [texts * _of_a_text(model, arguments, tokens, constant) for texts, tokens in groups]
    kept = max(each) if mini_batch is not None else sum(each)
    if arguments.gradient_checkpointing:
        of_number = 2 if arguments.bf16 or arguments.fp16 else 4
        kept = sum(texts * tokens for texts, tokens in groups) * width * of_number * layers + max(each) / layers
    fixed = FIXED.get(torch.device(arguments.device).type, 0.0)
    return fixed + constant + kept + WORKING * max(each) / layers


def _of_a_text(model: Any, arguments: Any, tokens: int, constant: int) -> float:
    """The bytes that autograd keeps of a text, beside those that it keeps of any."""
    if not hasattr(model[0], "auto_model"):  # a static embedding keeps next to nothing
        return 4.0 * tokens * _of_config(model, "hidden_size", None)
    probed = max(min(tokens, PROBE, positions_of(model) or PROBE), 2 * LEAST)
    return (_kept(model, arguments, probed) - constant) / 2 / (probed - LEAST) * tokens


def _kept(model: Any, arguments: Any, tokens: int) -> int:
    """The bytes that autograd keeps of the forward pass of two texts, the second half as long as the first."""
    storages: dict[int, int] = {}
    weights = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    texts: list[Any] = ["word " * tokens, "word " * (tokens // 2)]
    if isinstance(model, CrossEncoder):
        texts = [("word", text) for text in texts]
    device = next(iter(model.parameters())).device
    features = {
        key: (value[:, :tokens] if value.ndim > 1 else value).to(device) if torch.is_tensor(value) else value
        for key, value in model.preprocess(texts).items()
    }
    kind, mode = torch.bfloat16 if arguments.bf16 else torch.float16, model.training
    with (
        torch.random.fork_rng(),  # dropout draws
        torch.autocast(device.type, kind, enabled=arguments.bf16 or arguments.fp16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        try:
            held = model.train()(features)
        finally:
            model.train(mode)
    total = sum(storages.values())
    del held  # not before: another tensor could take the place of one that was counted
    return total


def _of_config(model: Any, name: str, default: int | None) -> int:
    """A number of the transformer's configuration; without a transformer the default, or the embedding's size."""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return int(getattr(config, name, None) or default or model.get_embedding_dimension())


def _bytes(tensors: Any) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)


def _size(n_bytes: float) -> str:
    """A number of bytes in a unit that reads well.

    >>> _size(90_900_000), _size(6_500_000_000)
    ('91 MB', '6.5 GB')
    """
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"  # noqa: PLR2004
