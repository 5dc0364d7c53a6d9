"""The most memory that a benchmark's process has held."""

from pathlib import Path


def peak_mb() -> float:
    """Megabytes (2**20), since the process began to run its program.

    `ru_maxrss` would not do: Linux hands a parent's on to the programs that it starts.
    """
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
