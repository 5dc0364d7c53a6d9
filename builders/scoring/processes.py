"""Scoring in several processes, one per GPU or a few on a CPU, launched by accelerate."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders.passages import Passages
from builders.scoring.config import CrossEncoderConfig
from builders.scoring.scorer import Pairs
from foils.errors import UserError
from foils.provenance import ROOT

_ROWS = 10_000


class Job(msgspec.Struct, frozen=True):
    """What a process must know beside the pairs; `parent` is the id of the process that waits for it."""

    config: CrossEncoderConfig
    lane: str
    cache: str
    parent: int


def check_processes(wanted: int) -> int:
    """How many processes score: as many as there are GPUs for 0.

    Raises:
        UserError: there are GPUs, but fewer than that.
    """
    import torch

    gpus = torch.cuda.device_count()
    if wanted > gpus > 0:
        raise UserError(
            f"negatives.cross-encoder.processes {wanted}: this machine has {gpus} GPU(s); set it to {gpus} or less, or "
            "to 0 for one per GPU"
        )
    return wanted or max(gpus, 1)


def fill_side_by_side(pairs: Pairs, config: CrossEncoderConfig, lane: str, cache: Path, processes: int) -> None:
    """Has several processes compute and store what is missing.

    Raises:
        UserError: one of them failed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="scoring-", dir=cache) as folder:
        _write(Path(folder), pairs)
        job = Job(config, lane, str(cache.resolve()), os.getpid())
        (Path(folder) / "job.json").write_bytes(msgspec.json.encode(job))
        command = [
            # `--cpu --num_processes 2` starts one process only; `--multi_gpu` starts them all, with or without GPUs
            *(sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--multi_gpu", "--num_machines", "1"),
            *("--num_processes", str(processes), "--main_process_port", "0", "--mixed_precision", "no"),
            *("--dynamo_backend", "no", "--module", "builders.scoring.worker", folder),
        ]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        finished = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": path})
    if finished.returncode != 0:
        raise UserError(
            f"negatives.cross-encoder.processes {processes}: scoring ended with exit code {finished.returncode}; its "
            "output stands above. What was scored is kept: mend the cause and run again, or set processes = 1"
        )


def read_job(folder: Path) -> tuple[Job, Pairs]:
    """What `fill_side_by_side` wrote, mapped from disk."""
    job = msgspec.json.decode((folder / "job.json").read_bytes(), type=Job)
    tables = {name: pa.ipc.open_file(pa.memory_map(str(folder / f"{name}.arrow"))).read_all() for name in _NAMES}
    queries, passages = (tables["pairs"][name].to_numpy() for name in ("query", "passage"))
    return job, Pairs(tables["queries"]["text"], Passages(tables["passages"]), queries, passages)


_NAMES = ("pairs", "queries", "passages")


def _write(folder: Path, pairs: Pairs) -> None:
    """Positions and the texts that they name, no others."""
    needed, numbers = np.unique(pairs.passage_positions, return_inverse=True)
    table = pa.table({"query": pairs.query_positions, "passage": numbers})
    _write_batches(folder / "pairs.arrow", table.schema, iter(table.to_batches(_ROWS)))
    queries = pa.table({"text": pairs.queries})
    _write_batches(folder / "queries.arrow", queries.schema, iter(queries.to_batches(_ROWS)))
    _write_batches(folder / "passages.arrow", pairs.passages.table.schema, _taken(pairs.passages, needed))


def _taken(passages: Passages, positions: npt.NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(positions), _ROWS):
        yield from passages.table.take(pa.array(positions[start : start + _ROWS])).to_batches()


def _write_batches(file: Path, form: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    with pa.ipc.new_file(file, form) as writer:
        for batch in batches:
            writer.write(batch)
