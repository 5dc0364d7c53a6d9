"""Energy is read from the kernel's counters, or not told."""

import pytest
import torch

from cards.hardware import EnergyMeter


def zone(folder, name, micro_joules, wraps_at=1_000_000_000):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{micro_joules}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{wraps_at}\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's share comes on top")
def test_processors_are_summed_and_counters_may_wrap(tmp_path):
    zone(tmp_path, "intel-rapl:0", 5_000_000)
    zone(tmp_path, "intel-rapl:1", 999_000_000)
    meter = EnergyMeter(tmp_path)
    zone(tmp_path, "intel-rapl:0", 365_000_000)  # 360 J
    zone(tmp_path, "intel-rapl:1", 2_999_000)  # wrapped: 3.999 J
    assert meter.kwh() == pytest.approx((360 + 3.999) / 3.6e6, abs=1e-6)


def test_what_cannot_be_read_is_not_guessed(tmp_path):
    assert EnergyMeter(tmp_path).kwh() is None
    zone(tmp_path, "intel-rapl:0", 1)
    meter = EnergyMeter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.kwh() is None
