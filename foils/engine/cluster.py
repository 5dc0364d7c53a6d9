"""The engine `ray`: an actor per worker on a cluster, which is given numbers of shards and nothing larger.

Ray restarts what dies with a node and gives the shard to another actor, without end; so `Worker` counts, and refuses a
shard that several died of. Ray's own writer and checkpoints are not used.
"""

import logging
import os
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from foils.engine.config import EngineConfig
from foils.engine.worker import Outcome, Worker
from foils.errors import UserError
from foils.tables import one_line

logger = logging.getLogger(__name__)

WAIT_S = 10


class _Actor:
    """A worker in Ray's form: outcomes travel as bytes, so that an error is a row too."""

    def __init__(self, folder: str, gpus: int) -> None:
        self._worker, self._gpus = Worker(Path(folder)), gpus

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        return {"outcome": [msgspec.json.encode(self._made(int(number))) for number in batch["item"]]}

    def _made(self, number: int) -> Outcome:
        if self._gpus and (there := _gpus_here()) < self._gpus:  # Ray believes what a node was started with
            error = (
                f"engine.gpus_per_worker {self._gpus}: torch sees {there} GPUs on {socket.gethostname()}; start Ray "
                "there with the --num-gpus that it has, or install torch for GPUs"
            )
            return Outcome(number, error, fatal=True)
        return self._worker(number)


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


def run(folder: Path, shards: list[int], engine: EngineConfig) -> Generator[Outcome, None, None]:
    """Yields the outcomes of shards as they come.

    Raises:
        UserError: Ray is not installed, no cluster answers, or no node is large enough for a worker.
    """
    ray, room = _joined(engine)
    size = min(room, len(shards))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    numbers = ray.data.from_items(shards, override_num_blocks=len(shards))
    rows = numbers.map_batches(
        _Actor,
        fn_constructor_kwargs={"folder": str(folder), "gpus": engine.gpus_per_worker},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
        num_cpus=engine.cpus_per_worker,
        num_gpus=engine.gpus_per_worker or None,
    )
    try:
        for row in rows.iter_rows():
            yield msgspec.json.decode(row["outcome"], type=Outcome)
    except ray.exceptions.RayError as error:
        raise UserError(
            f"engine.kind ray: {_last_line(error)}; every node needs this checkout of Foils, its environment and "
            f"the folder {folder}; what was finished is kept"
        ) from None


def check(engine: EngineConfig) -> None:
    """Refuses an engine that `run` would refuse."""
    _joined(engine)


def _joined(engine: EngineConfig) -> tuple[Any, int]:
    """Returns Ray once it has joined a cluster, and how many workers there is room for."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise UserError(
            "engine.kind ray: Ray is not installed; run: pip install -c constraints.txt -e '.[ray]'"
        ) from None
    _join(ray, engine)
    return ray, _room(ray, engine)


def _join(ray: Any, engine: EngineConfig) -> None:
    """Joins the cluster, or starts one on this machine, which the stages of a build then share."""
    if ray.is_initialized():
        return
    address = engine.address
    if address not in {None, "auto"}:
        _check_answers(str(address))
    here = {"num_cpus": engine.workers * engine.cpus_per_worker, "include_dashboard": False}
    try:
        ray.init(
            **(here if address is None else {"address": address}), log_to_driver=False, logging_level=logging.ERROR
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"engine.address {address}: {_last_line(error)}; start a cluster (ray start --head) with this version of "
            "Ray and Python, or leave the address out"
        ) from None


def _check_answers(address: str) -> None:
    """Refuses an address where nothing listens: Ray itself would try for minutes, and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), WAIT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"engine.address {address}: no cluster answers there ({one_line(error)}); wanted auto or HOST:PORT of a "
            "running one (ray start --head prints it)"
        ) from None


def _room(ray: Any, engine: EngineConfig) -> int:
    """Returns how many workers fit on the nodes, at most as many as are wanted."""
    cpus, gpus = engine.cpus_per_worker, engine.gpus_per_worker
    nodes: list[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(
        int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else node.get("CPU", 0)))
        for node in nodes
    )
    if not room:
        most = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default={})
        raise UserError(
            f"engine.cpus_per_worker {cpus}, engine.gpus_per_worker {gpus}: no node of the cluster has as many; the "
            f"largest has {most.get('CPU', 0):.0f} CPUs and {most.get('GPU', 0):.0f} GPUs; set them lower"
        )
    if room < engine.workers:
        logger.info("engine.workers %d: %d fit on the cluster", engine.workers, room)
    return min(room, engine.workers)


def _last_line(error: Exception) -> str:
    return one_line(str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__)
