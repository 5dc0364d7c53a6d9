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

from cards.publish.files import write_files

logger = logging.getLogger(__name__)


def costs_file(dataset: Path) -> Path:
    """The file with the costs of a data set, beside its folder."""
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
            if self._file is not None:
                _add(self._file, stage, seconds)
        logger.info("%s: %.1f s", label or stage, seconds)


def _add(file: Path, stage: str, seconds: float) -> None:
    try:
        known = json.loads(file.read_text("utf-8"))
        by_stage, peak = dict(known["seconds"]), int(known["peak_memory_mb"])
    except (OSError, ValueError, KeyError, TypeError):  # costs are reported, never needed: a broken file begins anew
        by_stage, peak = {}, 0
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)
    by_stage[stage] = round(by_stage.get(stage, 0.0) + seconds, 3)
    costs = {"seconds": by_stage, "peak_memory_mb": max(peak, now)}
    write_files(file.parent, {file.name: json.dumps(costs, indent=2).encode()})
