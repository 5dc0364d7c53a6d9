"""The engine `local`: a loop in this process, or processes on this machine."""

import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from foils.engine.config import EngineConfig
from foils.engine.worker import TRIES, Outcome, Worker
from foils.errors import UserError

logger = logging.getLogger(__name__)


def run(folder: Path, shards: list[int], engine: EngineConfig) -> Generator[Outcome, None, None]:
    """Yields the outcomes of shards as they come."""
    if engine.workers == 1:
        yield from map(Worker(folder), shards)
        return
    workers = min(engine.workers, len(shards))
    waiting, died, busy, idle = deque(shards), Counter[int](), dict[Connection, _Process](), deque[_Process]()
    settings = deque(environments(engine, workers))
    try:
        while waiting or busy:
            while waiting and (idle or settings):
                process = idle.popleft() if idle else _Process(folder, settings.popleft())
                busy[process.connection] = process
                process.give(waiting.popleft())
            for connection in wait([*busy]):
                process = busy.pop(cast("Connection", connection))
                outcome = process.outcome()
                if outcome is not None:
                    idle.append(process)
                    yield outcome
                    continue
                settings.append(process.variables)
                died[process.shard] += 1
                if died[process.shard] < TRIES:
                    waiting.append(process.shard)
                else:
                    yield Outcome(process.shard, f"its process died {TRIES} times (exit code {process.exit_code()})")
    finally:
        for process in [*busy.values(), *idle]:
            process.end()


class _Process:
    """A worker in another process.

    Args:
        folder: the plan's.
        variables: of its environment.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        context = get_context("spawn")  # forked ones would share the locks of this process's threads
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(folder, theirs), daemon=True)
        self.variables, self.shard = variables, -1
        with _environment(variables):
            self._process.start()
        theirs.close()

    def give(self, shard: int) -> None:
        self.shard = shard
        try:
            self.connection.send(shard)
        except OSError:
            return  # it has died; `outcome` finds that

    def outcome(self) -> Outcome | None:
        """Returns what came of the shard; None where the process died of it."""
        try:
            found: Outcome = self.connection.recv()
        except (EOFError, OSError):
            return None
        return found

    def exit_code(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(folder: Path, connection: Connection) -> None:
    """Works until the other end is closed: an interrupted or killed driver leaves no process behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends its workers
    worker = Worker(folder)
    try:
        while True:
            connection.send(worker(connection.recv()))
    except (EOFError, OSError):
        return


def environments(engine: EngineConfig, workers: int) -> list[Mapping[str, str]]:
    """Returns each worker's share of cores and GPUs, as libraries read them.

    Raises:
        UserError: there are too few GPUs.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(engine.cpus_per_worker))
    threads["TQDM_DISABLE"] = "1"  # the driver has the bar
    each = engine.gpus_per_worker
    import torch

    if not each:
        if torch.cuda.is_available():
            logger.warning("engine.gpus_per_worker 0: workers do not use this machine's GPUs; set it to 1")
        return [{**threads, "CUDA_VISIBLE_DEVICES": ""} for _ in range(workers)]
    there = torch.cuda.device_count()
    names = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(there)))).split(",")[:there]
    if there < workers * each:
        raise UserError(
            f"engine.workers {workers} with engine.gpus_per_worker {each}: this machine has {there} GPUs; wanted "
            "engine.workers times engine.gpus_per_worker to be at most that"
        )
    shares = [names[number * each : (number + 1) * each] for number in range(workers)]
    return [{**threads, "CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Has a process that starts meanwhile find variables: they are read when libraries are imported."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
