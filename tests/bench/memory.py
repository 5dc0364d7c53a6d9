"""Memory of a benchmark's process, and benchmarks in processes of their own."""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


def held_mb(figure: str, process: str = "self") -> float:
    """Returns a figure of `/proc/PROCESS/status` in megabytes (2**20), such as VmRSS."""
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    return int(status.partition(f"{figure}:")[2].split()[0]) / 1024


def held_by_all_mb(figure: str) -> float:
    """Returns a figure of this process and of those that it has started."""
    found = held_mb(figure)
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            with suppress(OSError, IndexError):  # it has just ended
                found += held_mb(figure, child)
    return found


def peak_mb() -> float:
    """Returns the most that the process has held since it began to run its program.

    `ru_maxrss` would not do: Linux hands a parent's on to the programs that it starts.
    """
    return held_mb("VmHWM")


class Most:
    """The most of a figure, children's included, while the block runs, in `mb`, sampled every `every_s` seconds.

    The default leaves mapped files out: their pages go when others need the memory.
    """

    def __init__(self, figure: str = "RssAnon", every_s: float = 0.1) -> None:
        self.mb = held_by_all_mb(figure)
        self._figure, self._every_s = figure, every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(self._every_s):
            self.mb = max(self.mb, held_by_all_mb(self._figure))


def in_own_process(benchmark: str, *words: object) -> dict[str, float]:
    """Runs `python -m tests.bench.BENCHMARK WORDS` and returns the JSON on its last line."""
    command = [sys.executable, "-m", f"tests.bench.{benchmark}", *map(str, words)]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(finished.stdout.splitlines()[-1])
