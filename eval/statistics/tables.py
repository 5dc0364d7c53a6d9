"""What a comparison found: a table and verdicts for each task, and for all tasks together.

A verdict is a word, better, worse, equivalent within a margin or undecided, and what would decide it.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from statsmodels.stats.multitest import multipletests

from eval.statistics.differences import LEVEL, POWER, Floats, estimate, pooled
from foils.comparison import BASE, Estimate, Row, Table, Verdict
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


def verdicts(estimates: Mapping[tuple[str, str], Estimate], margin: float) -> list[Verdict]:
    """Verdicts on a family of pairs: each of the two questions at a level of 5 % over the whole family (Holm).

    Args:
        estimates: (first, second) -> their difference.
        margin: as the estimates were made with.
    """
    if not estimates:
        return []
    different = multipletests([found.p for found in estimates.values()], LEVEL, "holm")[1]
    alike = multipletests([found.p_equivalent for found in estimates.values()], LEVEL, "holm")[1]
    return [
        _verdict(first, second, found, (float(p), float(p_equivalent)), margin)
        for ((first, second), found), p, p_equivalent in zip(estimates.items(), different, alike, strict=True)
    ]


def _verdict(first: str, second: str, found: Estimate, corrected: tuple[float, float], margin: float) -> Verdict:
    p, p_equivalent = corrected
    differs, small = p <= LEVEL, p_equivalent <= LEVEL
    word = ("better" if found.mean > 0 else "worse") if differs else "equivalent" if small else "undecided"
    size = f"{found.mean:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
    if differs:
        text = f"{first} is {word} than {second} ({size}){f', though by less than {margin:g}' if small else ''}."
    elif small:
        text = f"{first} and {second} are equivalent within {margin:g} ({size})."
    else:
        alone = f"by itself it would count (p {found.p:.2g}), among all pairs it does not; " if found.p <= LEVEL else ""
        text = f"{first} against {second} is undecided ({size}); {alone}{decisive(found, margin)}."
    return Verdict(first, second, found, p, p_equivalent, word, small, text)


def decisive(found: Estimate, margin: float) -> str:
    """What an experiment would need to find a difference of the margin.

    Sizes are for a single pair; a family of several asks for somewhat more.
    """
    if found.smallest <= margin:  # it had the power and still did not decide: chance, or the family's correction
        return f"this experiment could have found {found.smallest:.4f}; more seeds or queries would narrow the interval"
    ways = []
    if found.queries_needed is not None:
        ways.append(f"about {_rounded(found.queries_needed):,} queries in place of {found.queries:,}")
    if found.seeds_needed is not None:
        ways.append(f"about {_rounded(found.seeds_needed):,} seeds in place of {found.seeds}")
    if not ways:
        return f"to find {margin:g} more queries alone do not suffice: it takes more seeds too"
    return f"to find {margin:g} with a power of {POWER:.0%} it takes {' or '.join(ways)}".replace("%", " %")


def _rounded(count: int) -> int:
    """Rounds up to two digits, as estimates of variances are no better.

    >>> _rounded(12345), _rounded(7)
    (13000, 7)
    """
    step = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // step) * step if count >= step else count
