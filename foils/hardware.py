"""What the machine is good at, and how much of its memory a training takes."""

import gc
from threading import Event, Thread
from typing import Any, Self

import psutil
import torch

_EVERY_S = 0.1


def has_native_bf16() -> bool:
    """Whether bf16 is faster than fp32 here: on a GPU, or on a CPU with instructions for it; else it is emulated."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16, whatever GPUs there are."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


class PeakMemory:
    """The most memory that is held while it is entered: on the GPU where there is one, else by the process.

    The process is asked ten times a second, so that what an earlier training held does not count for a later one.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._left = Event()

    def __enter__(self) -> Self:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        else:
            gc.collect()
            self._asking = Thread(target=self._ask, daemon=True)
            self._asking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if torch.cuda.is_available():
            self._bytes = torch.cuda.max_memory_allocated()
        else:
            self._asking.join()

    def figures(self) -> dict[str, Any]:
        """The peak in MiB, and what held it; of several processes together, the first one's."""
        return {"mib": round(self._bytes / 2**20), "of": "GPU" if torch.cuda.is_available() else "process"}

    def _ask(self) -> None:
        process = psutil.Process()
        while True:
            self._bytes = max(self._bytes, process.memory_info().rss)
            if self._left.wait(_EVERY_S):
                return
