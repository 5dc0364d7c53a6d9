"""What a comparison found: a table and verdicts for each task, and for all tasks together."""

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from eval.statistics.differences import Floats, estimate, pooled
from eval.statistics.verdicts import verdicts
from foils.comparison import BASE, Estimate, Row, Table
from foils.errors import UserError
from foils.kinds import NO_NEGATIVES
from foils.metrics import MAIN_METRIC, METRICS, RESAMPLES, PerQuery, means
from foils.words import listed

logger = logging.getLogger(__name__)

Runs = Mapping[str, Mapping[int, PerQuery]]
"""Arm -> seed -> scores by query; the untouched base has one run, of seed 0."""
OVERALL = "mean over tasks"


class Measured(NamedTuple):
    """A task's name, the revision of its data, and what each run scored on it."""

    task: str
    revision: str
    runs: Runs


def tables(measured: Sequence[Measured], margin: float, resamples: int = RESAMPLES) -> list[Table]:
    """A table of each task and, where there are several, one of their mean.

    Args:
        measured: by task; the same arms and seeds in all.
        margin: of nDCG@10, below which a difference is of no account.
        resamples: of bootstrap and randomization.

    Raises:
        UserError: runs were measured on different queries, or on a single one.
    """
    found = [_table(task.task, task.revision, [task], margin, resamples) for task in measured]
    return found if len(measured) == 1 else [*found, _table(OVERALL, "", measured, margin, resamples)]


def _table(name: str, revision: str, tasks: Sequence[Measured], margin: float, resamples: int) -> Table:
    scores, runs = [_scores(task) for task in tasks], [task.runs for task in tasks]
    arms = sorted(scores[0], key=lambda arm: (arm != BASE, arm != NO_NEGATIVES))
    pairs = {  # base and control count as the earliest, so that the others are set beside them
        (later, earlier): [by_arm[later] - by_arm[earlier] for by_arm in scores]
        for earlier, later in combinations(arms, 2)
    }
    logger.info("%s: %d pairs", name, len(pairs))
    trained = {arm: len(seeds) for arm, seeds in runs[0].items() if arm != BASE}
    spread = pooled(  # how much trainings vary is taken from all arms
        [
            np.mean([[means(found)[MAIN_METRIC] for found in each[arm].values()] for each in runs], axis=0)
            for arm in trained
        ]
    )
    estimates = {}
    for pair, differences in pairs.items():
        of_pair = sum(1 / trained[arm] for arm in pair if arm != BASE)
        trainings = None if spread is None else spread._replace(variance=spread.variance * of_pair)
        estimates[pair] = estimate(differences, margin, trainings, resamples)
    rows = [_row(runs, arm, estimates) for arm in runs[0]]
    turned = _turned(pairs, [task.task for task in tasks], margin) if len(tasks) > 1 else []
    queries = sum(len(each[BASE][0]) for each in runs)
    return Table(name, revision, queries, rows, verdicts(estimates, margin), turned)


def _scores(task: Measured) -> dict[str, Floats]:
    """Arm -> nDCG@10 by training and query `(n_seeds, n_queries)`.

    Raises:
        UserError: see `tables`.
    """
    queries = list(task.runs[BASE][0])
    if len(queries) < 2:  # noqa: PLR2004
        raise UserError(f"{task.task}: one judged query says nothing of others; name a task with two or more")
    found = {}
    for arm, runs in task.runs.items():
        for scores in runs.values():
            odd = sorted(scores.keys() ^ set(queries))
            if odd:
                raise UserError(
                    f"{task.task}: {arm} and {BASE} were measured on different queries ({len(scores)} and "
                    f"{len(queries)}; not in both: {listed(odd, 3)}); measure them again on one revision of the task"
                )
        found[arm] = np.array([[scores[query][MAIN_METRIC] for query in queries] for scores in runs.values()])
    return found


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


def _turned(pairs: Mapping[tuple[str, str], Sequence[Floats]], tasks: Sequence[str], margin: float) -> list[str]:
    """Sentences on pairs of which a single task decides who is ahead, by more than a difference of no account."""
    found = []
    for (first, second), by_task in pairs.items():
        values = [float(table.mean()) for table in by_task]
        whole = sum(values) / len(values)
        for left_out, task in enumerate(tasks):
            rest = (sum(values) - values[left_out]) / (len(values) - 1)
            if rest * whole < 0 and max(abs(rest), abs(whole)) > margin:
                places = ("ahead of", "behind") if whole > 0 else ("behind", "ahead of")
                found.append(
                    f"{first} is {places[0]} {second} over all tasks ({whole:+.4f}), and {places[1]} it without {task} "
                    f"({rest:+.4f})."
                )
    return found
