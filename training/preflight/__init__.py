"""Pre-flight: what a training will really do, found out before its first step, and a refusal of what wastes a night.

check_base(base, task)              # before the base is loaded
report = examine(ready)             # seconds; minutes for a million rows
print(report.table())
report.refuse(config.allow)         # raises, with a remedy for each problem

The same without training: foils preflight RECIPE [--set key=value]
"""

from training.preflight.base import check_base
from training.preflight.examine import examine

__all__ = ["check_base", "examine"]
