"""What a build's stages cost in time and memory: kept beside its data set, added up over its attempts.

Not in the data set itself, whose bytes the same inputs make again on any machine.
"""

import json
import logging
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

logger = logging.getLogger(__name__)


def costs_file(dataset: Path) -> Path:
    """Where the costs of a data set's folder stand."""
    return dataset.with_name(f"{dataset.name}-costs.json")


class Stages:
    """Seconds of each stage and the process's peak memory (MB).

    A stage that is interrupted counts as far as it came, unless the process is killed; what an earlier attempt or
    another build left in the cache costs nothing again.

    Args:
        file: keeps the costs; without it they are only logged.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file

    @contextmanager
    def timed(self, stage: str, label: str | None = None) -> Iterator[None]:
        """Logs and keeps how long a stage took; `label` stands for it in the log."""
        started = perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - started
            self._keep(stage, seconds)
        logger.info("%s: %.1f s", label or stage, seconds)

    def _keep(self, stage: str, seconds: float) -> None:
        if self._file is None:
            return
        by_stage, peak = _read(self._file)
        by_stage[stage] = round(by_stage.get(stage, 0.0) + seconds, 3)
        found = {"seconds": by_stage, "peak_memory_mb": max(peak, _peak_memory_mb())}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        partial.replace(self._file)


def _read(file: Path) -> tuple[dict[str, float], int]:
    """Seconds by stage and peak memory as they stand in a file."""
    try:
        found = json.loads(file.read_text("utf-8"))
        return dict(found["seconds"]), int(found["peak_memory_mb"])
    except (OSError, ValueError, KeyError, TypeError):  # costs are reported, never needed: a broken file begins anew
        return {}, 0


def _peak_memory_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
