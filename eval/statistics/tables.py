"""What a comparison found: a table and verdicts for each task, and for all tasks together."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from eval.statistics.differences import Floats, differences, estimate, pooled
from eval.statistics.verdicts import verdicts
from foils.comparison import BASE, Estimate, Row, Table
from foils.kinds import NO_NEGATIVES
from foils.metrics import MAIN_METRIC, METRICS, RESAMPLES, PerQuery, means

Runs = Mapping[str, Mapping[int, PerQuery]]
"""Arm -> seed -> scores by query; the untouched base has one run, of seed 0."""


OVERALL = "mean over tasks"


class Measured(NamedTuple):
    """A task's name, the revision of its data, and what each run scored on it."""

    task: str
    revision: str
    runs: Runs


def tables(
    measured: Sequence[Measured],
    margin: float,
    say: Callable[[str], None] = lambda _: None,
    resamples: int = RESAMPLES,
) -> list[Table]:
    """A table of each task and, where there are several, one of their mean.

    Args:
        measured: by task; the same arms and seeds in all.
        margin: of nDCG@10, below which a difference is of no account.
        say: reports what is being computed.
        resamples: of bootstrap and randomization.

    Raises:
        UserError: runs were measured on different queries.
    """
    by_pair = [_differences(task) for task in measured]
    found = []
    for task, pairs in zip(measured, by_pair, strict=True):
        say(f"{task.task}: {len(pairs)} pairs")
        estimates = _estimates({pair: [table] for pair, table in pairs.items()}, [task.runs], margin, resamples)
        rows = [_row([task.runs], arm, estimates) for arm in task.runs]
        queries = len(task.runs[BASE][0])
        found.append(Table(task.task, task.revision, queries, rows, verdicts(estimates, margin)))
    if len(measured) > 1:
        say(f"{OVERALL}: {len(by_pair[0])} pairs")
        together = {pair: [task[pair] for task in by_pair] for pair in by_pair[0]}
        estimates = _estimates(together, [task.runs for task in measured], margin, resamples)
        rows = [_row([task.runs for task in measured], arm, estimates) for arm in measured[0].runs]
        queries = sum(table.queries for table in found)
        turned = _turned(together, [task.task for task in measured], margin)
        found.append(Table(OVERALL, "", queries, rows, verdicts(estimates, margin), turned))
    return found


def _differences(task: Measured) -> dict[tuple[str, str], Floats]:
    """(later arm, earlier arm) -> their differences by seed and query; base and control count as the earliest."""
    order = sorted(task.runs, key=lambda arm: (arm != BASE, arm != NO_NEGATIVES))
    return {
        (later, earlier): differences(
            list(task.runs[later].values()),
            list(task.runs[earlier].values()),
            MAIN_METRIC,
            f"{task.task}, {later} against {earlier}",
        )
        for earlier, later in combinations(order, 2)
    }


def _estimates(
    by_pair: Mapping[tuple[str, str], Sequence[Floats]], tasks: Sequence[Runs], margin: float, resamples: int
) -> dict[tuple[str, str], Estimate]:
    """Estimates the difference of each pair; how much trainings vary is taken from all arms."""
    trained = {arm: len(runs) for arm, runs in tasks[0].items() if arm != BASE}
    spread = pooled(
        [
            np.mean([[means(scores)[MAIN_METRIC] for scores in runs[arm].values()] for runs in tasks], axis=0)
            for arm in trained
        ]
    )
    return {
        pair: estimate(
            by_task,
            margin,
            None if spread is None else spread.of_difference(*(trained[arm] for arm in pair if arm != BASE)),
            resamples,
        )
        for pair, by_task in by_pair.items()
    }


def _row(tasks: Sequence[Runs], arm: str, estimates: Mapping[tuple[str, str], Estimate]) -> Row:
    by_seed = {seed: [means(runs[arm][seed]) for runs in tasks] for seed in tasks[0][arm]}
    every = [found for over_tasks in by_seed.values() for found in over_tasks]
    return Row(
        arm=arm,
        metrics={name: sum(found[name] for found in every) / len(every) for name in METRICS},
        by_seed={}
        if arm == BASE
        else {seed: sum(each[MAIN_METRIC] for each in found) / len(found) for seed, found in by_seed.items()},
        difference=estimates.get((arm, BASE)),
    )


def _turned(together: Mapping[tuple[str, str], Sequence[Floats]], tasks: Sequence[str], margin: float) -> list[str]:
    """Sentences on pairs of which a single task decides who is ahead, by more than a difference of no account."""
    found = []
    for (first, second), by_task in together.items():
        values = [float(table.mean()) for table in by_task]
        whole = sum(values) / len(values)
        for left_out, task in enumerate(tasks):
            rest = (sum(values) - values[left_out]) / (len(values) - 1)
            if rest * whole < 0 and max(abs(rest), abs(whole)) > margin:
                found.append(
                    f"{first} is {'ahead of' if whole > 0 else 'behind'} {second} over all tasks ({whole:+.4f}), and "
                    f"{'behind' if whole > 0 else 'ahead of'} it without {task} ({rest:+.4f})."
                )
    return found
