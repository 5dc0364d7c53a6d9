"""The engines `slurm` and `hf-jobs`: a command per range of shards, printed or submitted."""

import os
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from foils.engine.config import EngineConfig
from foils.engine.parts import as_ranges
from foils.errors import UserError
from foils.provenance import ROOT

FLAVORS = {0: "cpu-upgrade", 1: "l4x1", 4: "l4x4", 8: "l40sx8"}
"""GPUs of a worker -> hardware of the Hub's jobs."""
IMAGE = "IMAGE"
"""Stands for a Docker image with Foils and its packages."""


def commands(folder: Path, left: list[int], engine: EngineConfig, image: str = IMAGE) -> list[list[str]]:
    """Returns a command per worker that makes its share of what is left.

    Raises:
        UserError: the Hub has no machine with that number of GPUs.
    """
    count = min(engine.workers, len(left))
    edges = [len(left) * part // count for part in range(count + 1)] if count else [0]
    ranges = [as_ranges(left[start:end]) for start, end in pairwise(edges)]
    make = _slurm if engine.kind == "slurm" else _hf_jobs
    return [make(folder, shards, engine, image) for shards in ranges]


def submission(folder: Path, engine: EngineConfig) -> str:
    """The command that starts an engine's jobs."""
    command = ["foils", "shard", str(folder), "--engine", engine.kind, "--workers", str(engine.workers)]
    command += ["--cpus-per-worker", str(engine.cpus_per_worker), "--gpus-per-worker", str(engine.gpus_per_worker)]
    command += ["--address", str(engine.address), "--image", IMAGE] if engine.kind == "hf-jobs" else []
    return shlex.join([*command, "--submit"])


def submit(folder: Path, left: list[int], engine: EngineConfig, image: str | None) -> list[str]:
    """Starts the jobs and returns what names them.

    Raises:
        UserError: there is no `sbatch` or no image, or the service refuses.
    """
    if engine.kind == "hf-jobs":
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError

        if image is None:
            raise UserError("--submit to hf-jobs: wanted --image, a Docker image with Foils and its packages")
        urls: list[str] = []
        for command in commands(folder, left, engine, image):
            try:
                urls.append(_run_job(folder, command, engine, image))
            except (HfHubHTTPError, httpx2.TransportError, OSError) as error:  # also without a token
                raise UserError(f"hf-jobs: {' '.join(str(error).split())}; started so far: {urls}") from None
        return urls
    if shutil.which("sbatch") is None:
        raise UserError("--submit: no sbatch on this machine; run it where Slurm is, or leave --submit out to print")
    found: list[str] = []
    for command in commands(folder, left, engine):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"sbatch: {' '.join(done.stderr.split()) or done.returncode}; started so far: {found}")
        found.append(done.stdout.strip())
    return found


def _work(folder: Path, shards: str, python: str) -> str:
    return f"{python} -m foils.engine {shlex.quote(str(folder))} --shards {shards}"


def _slurm(folder: Path, shards: str, engine: EngineConfig, _: str) -> list[str]:
    """Partition, account and time come from Slurm's own variables, such as SBATCH_PARTITION."""
    gpus = [f"--gpus={engine.gpus_per_worker}"] if engine.gpus_per_worker else []
    cpus = engine.cpus_per_worker
    work = f"cd {shlex.quote(str(ROOT))} && OMP_NUM_THREADS={cpus} {_work(folder, shards, shlex.quote(sys.executable))}"
    log = f"--output={folder}/slurm-%j.log"
    return ["sbatch", "--job-name=foils", f"--cpus-per-task={cpus}", *gpus, log, f"--wrap={work}"]


def _hf_jobs(folder: Path, shards: str, engine: EngineConfig, image: str) -> list[str]:
    """The bucket holds the plan's folder under its name, and the job sees it at the same place as this machine."""
    volume = f"hf://buckets/{engine.address}:{folder.parent}"
    work = _work(folder, shards, "python")
    return ["hf", "jobs", "run", "--detach", "--flavor", _flavor(engine), "-v", volume, image, "bash", "-c", work]


def _flavor(engine: EngineConfig) -> str:
    if engine.gpus_per_worker not in FLAVORS:
        raise UserError(
            f"engine.gpus_per_worker {engine.gpus_per_worker}: hf-jobs takes {', '.join(map(str, FLAVORS))}"
        )
    return FLAVORS[engine.gpus_per_worker]


def _run_job(folder: Path, command: list[str], engine: EngineConfig, image: str) -> str:
    from huggingface_hub import Volume, run_job

    volume = Volume(type="bucket", source=str(engine.address), mount_path=os.fspath(folder.parent))
    return str(run_job(image=image, command=command[-3:], flavor=_flavor(engine), volumes=[volume]).url)
