"""Whether model and checkpoints fit on the disk."""

import math
import shutil
from pathlib import Path
from typing import Any

from msgspec import Struct

_MARGIN = 50 * 2**20  # tokenizer, records, logs


class Disk(Struct, frozen=True):
    """Bytes.

    Attributes:
        model: of the saved weights.
        checkpoint: of one checkpoint: weights and, unless they are left out, optimiser states.
        checkpoints: on the disk at the same time, at most.
        need: all together.
        free: where the output folder lies.
    """

    model: int
    checkpoint: int
    checkpoints: int
    need: int
    free: int


def examined(output: Path, arguments: Any, memory: tuple[int, int], steps: int, timed: bool) -> Disk:
    """What a training writes.

    Args:
        output: the model's folder, which need not exist.
        arguments: how often checkpoints are saved and how many are kept.
        memory: bytes of weights and of optimiser states.
        steps: of the training.
        timed: whether checkpoints are made by the clock, whatever `save_strategy` says.
    """
    weights, optimiser = memory
    checkpoint = weights + (0 if arguments.save_only_model else optimiser)
    checkpoints = _kept(arguments, steps, timed)
    folder = output.absolute()
    while not folder.exists():
        folder = folder.parent
    need = weights + checkpoints * checkpoint + _MARGIN
    return Disk(weights, checkpoint, checkpoints, need, shutil.disk_usage(folder).free)


def _kept(arguments: Any, steps: int, timed: bool) -> int:
    """Checkpoints that are on the disk at once."""
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
