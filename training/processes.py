"""Whether as many processes train as were asked for.

`accelerate launch --cpu --num_processes 2` starts one process and says nothing (accelerate 1.15): it starts several
only for GPUs, for its own `--multi_gpu`, or through MPI. `--multi_gpu` works without a GPU too: the processes find none
and talk through gloo.
"""

from itertools import pairwise

import psutil

from foils.errors import UserError

_LAUNCHER, _COUNT = "launch", ("--num_processes", "--num-processes")


def refuse_fewer_than_asked(processes: int) -> None:
    """Compares the number of processes with the command that started them.

    Raises:
        UserError: accelerate was asked for more than it started.
    """
    asked = asked_of(psutil.Process().parent())
    if asked is not None and asked > processes:
        raise UserError(
            f"accelerate was asked for {asked} processes and started {processes}; run: accelerate launch --config_file "
            f"training/accelerate/cpu.yaml --num_processes {asked} training/train.py RECIPE"
        )


def asked_of(parent: psutil.Process | None) -> int | None:
    """The number of processes on an `accelerate launch` command line; None where it is none, or names none."""
    try:
        words = parent.cmdline() if parent is not None else []
    except psutil.Error:
        return None
    if not any("accelerate" in word for word in words) or not any(word.endswith(_LAUNCHER) for word in words):
        return None
    words = [part for word in words for part in word.split("=", 1)]
    for name, value in pairwise(words):
        if name in _COUNT and value.isdecimal():
            return int(value)
    return None
