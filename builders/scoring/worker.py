"""One of several scoring processes; `builders/scoring/processes.py` launches it.

accelerate launch --multi_gpu --num_processes 2 --module builders.scoring.worker FOLDER
"""

import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from builders.scoring.processes import read_job
from builders.scoring.scorer import Scorer
from foils.errors import run_entry


def main(folder: Path) -> None:
    """Computes this process's share of what is missing."""
    state = PartialState(cpu=not torch.accelerator.is_available())
    # accelerate gives each process one thread unless told otherwise, which wastes a machine without a GPU.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // state.num_processes))
    job, pairs = read_job(folder)
    scorer = Scorer(job.config, job.lane, Path(job.cache), str(state.device))
    for _ in scorer.fill(pairs, state.process_index, state.num_processes):
        if not _alive(job.parent):
            return
    state.destroy_process_group()


def _alive(process: int) -> bool:
    """Whether the one that waits for the scores still does: when it was killed, nobody else stops its workers."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(run_entry(lambda: main(Path(sys.argv[1]))))
