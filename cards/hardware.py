"""What the machine is good at, and what it draws."""

from pathlib import Path
from time import time

import torch

POWERCAP = Path("/sys/class/powercap")


def has_native_bf16() -> bool:
    """Whether bf16 is faster than fp32 here: on a GPU, or on a CPU with instructions for it; else it is emulated."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


class EnergyMeter:
    """The energy that processors and GPUs have drawn since the meter was made, for all that runs on the machine.

    CPU packages by Linux's powercap counters (often readable by root only), NVIDIA GPUs by the mean of their power at
    both ends. What cannot be read is not guessed.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._powercap = powercap
        self._started = time()
        self._joules = self._counters()
        self._watts = _gpu_watts()

    def kwh(self) -> float | None:
        """Kilowatt hours; None where nothing can be read, or not all of it: half a figure would mislead."""
        now, watts = self._counters(), _gpu_watts()
        if not now or now.keys() != self._joules.keys() or (torch.cuda.is_available() and watts is None):
            return None
        joules = sum(_grown(self._joules[zone], now[zone], self._range(zone)) for zone in now)
        if watts is not None and self._watts is not None:
            joules += (watts + self._watts) / 2 * (time() - self._started)
        return round(joules / 3.6e6, 6)

    def _counters(self) -> dict[str, float]:
        """Processor package -> joules so far."""
        counters = {}
        for zone in sorted(self._powercap.glob("intel-rapl:[0-9]")):
            try:
                counters[zone.name] = int((zone / "energy_uj").read_text()) / 1e6
            except (OSError, ValueError):
                return {}
        return counters

    def _range(self, zone: str) -> float:
        """The joules at which a counter starts again from 0."""
        return int((self._powercap / zone / "max_energy_range_uj").read_text()) / 1e6


def _grown(before: float, now: float, wraps_at: float) -> float:
    """How far a counter went that starts again at its end.

    >>> _grown(90.0, 10.0, 100.0)
    20.0
    """
    return now - before if now >= before else now + wraps_at - before


def _gpu_watts() -> float | None:
    """What all visible GPUs draw now; None where that cannot be asked."""
    if not torch.cuda.is_available():
        return None
    try:
        return sum(torch.cuda.power_draw(device) for device in range(torch.cuda.device_count())) / 1000
    except (RuntimeError, ModuleNotFoundError, AttributeError):  # needs NVIDIA's management library
        return None
