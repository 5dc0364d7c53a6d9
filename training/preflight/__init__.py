"""Pre-flight: what a training will really do, found out before its first step, and a refusal of what wastes a night.

preflight.check_base(base, task)                       # before the base is loaded
report = preflight.examine(Asked(rows, model, ...))    # seconds, also for a million rows
print(preflight.table(report))
preflight.refuse(report, config.allow)                 # raises, with a remedy for each problem

The same without training: python -m training.preflight RECIPE [--set key=value]
"""

from training.preflight.checks import Asked, Loss, check_base, examine
from training.preflight.findings import Judgement, Notice, Problem
from training.preflight.report import Report, refuse, table

__all__ = ["Asked", "Judgement", "Loss", "Notice", "Problem", "Report", "check_base", "examine", "refuse", "table"]
