"""The most memory that a benchmark's process has held."""

import threading
from pathlib import Path
from typing import Self


def peak_mb() -> float:
    """Megabytes (2**20), since the process began to run its program.

    `ru_maxrss` would not do: Linux hands a parent's on to the programs that it starts.
    """
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class Unmapped:
    """The most memory that was held while it was open, mapped files left out, in `mb`; looked at ten times a second.

    What is mapped from a file goes when others need the memory.
    """

    def __init__(self) -> None:
        self.mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.1):
            status = Path("/proc/self/status").read_text("utf-8")
            self.mb = max(self.mb, int(status.partition("RssAnon:")[2].split()[0]) / 1024)
