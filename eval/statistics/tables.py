"""What a comparison found: a table and verdicts for each task, and for all tasks together.

A verdict is a word, better, worse, equivalent within a margin or undecided, and what would decide it.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from eval.statistics.differences import LEVEL, POWER, Floats, estimate, needed, pooled, rounded
from foils.errors import UserError
from foils.kinds import NO_NEGATIVES
from foils.metrics import MAIN_METRIC, REPORTED, RESAMPLES, PerQuery, means
from foils.verdicts import BASE, Estimate, Half, Row, Table, Verdict
from foils.words import listed

logger = logging.getLogger(__name__)

Runs = Mapping[str, Mapping[int, PerQuery]]
"""Arm -> seed -> scores by query; the untouched base has one run, of seed 0."""
OVERALL = "mean over tasks"
_LEAST = 4
"""Queries that have halves of which each has a variance."""


class Measured(NamedTuple):
    """What each run scored on a task.

    Attributes:
        task: its name.
        revision: of its data.
        runs: the scores.
        given: arms that were not trained here, whose one run is the model itself.
        overlap: query -> share of its content words that stand in its passage; empty for not known.
        bm25: what BM25 scored; empty where it was not measured.
        is_generated: whether an LLM wrote its queries, whose words may then decide who is ahead.
        first: see `foils.verdicts.Table`.
    """

    task: str
    revision: str
    runs: Runs
    given: Collection[str] = ()
    overlap: Mapping[str, float] = {}
    bm25: Mapping[str, Mapping[str, float]] = {}
    is_generated: bool = False
    first: Mapping[str, float] = {}


def tables(measured: Sequence[Measured], margin: float, resamples: int = RESAMPLES, beside: str = "") -> list[Table]:
    """A table of each task and, where several of them count, one of their mean; the last one speaks for all.

    Args:
        measured: by task; the same arms and seeds in all.
        margin: of nDCG@10, below which a difference is of no account.
        resamples: of bootstrap and randomization.
        beside: the task that comes first and counts for itself alone.

    Raises:
        UserError: runs were measured on different queries, or on a single one.
    """
    in_order = sorted(measured, key=lambda task: task.task != beside)
    counted = [task for task in measured if task.task != beside]
    found = [_table(task.task, task.revision, [task], margin, resamples) for task in in_order]
    return found if len(counted) == 1 else [*found, _table(OVERALL, "", counted, margin, resamples)]


def _table(name: str, revision: str, tasks: Sequence[Measured], margin: float, resamples: int) -> Table:
    scores, runs = [_scores(task) for task in tasks], [task.runs for task in tasks]
    given = {BASE, *tasks[0].given}
    estimates = _estimates(scores, given, margin, resamples)
    logger.info("%s: %d pairs", name, len(estimates))
    places = [found for task in tasks if (found := _halves(task))]
    halves = [[each[half] for each in places] for half in (0, 1)] if len(places) == len(tasks) else []
    by_half = [_estimates(_only(scores, half), given, margin, resamples) for half in halves]
    rows = [_row(runs, arm, estimates, given) for arm in runs[0]]
    turned = _turned(scores, estimates, [task.task for task in tasks], margin) if len(tasks) > 1 else []
    queries = sum(len(each[BASE][0]) for each in runs)
    decided = verdicts(estimates, margin, by_half, may_turn=any(task.is_generated for task in tasks))
    first = dict(tasks[0].first) if len(tasks) == 1 else {}
    return Table(name, revision, queries, rows, decided, turned, [_half(tasks, half) for half in halves], first)


def _estimates(
    scores: Sequence[Mapping[str, Floats]], given: Collection[str], margin: float, resamples: int
) -> dict[tuple[str, str], Estimate]:
    """The difference of each pair of arms, the base's first; how much trainings vary is taken from all arms."""
    arms = sorted(scores[0], key=lambda arm: (arm != BASE, arm != NO_NEGATIVES))
    trained = {arm: len(scores[0][arm]) for arm in arms if arm not in given}
    spread = pooled([np.mean([each[arm].mean(axis=1) for each in scores], axis=0) for arm in trained])
    estimates = {}
    for earlier, later in combinations(arms, 2):  # base and control are the earliest, so that others stand beside them
        of_pair = sum(1 / trained[arm] for arm in (earlier, later) if arm in trained)
        trainings = None if spread is None or not of_pair else spread._replace(variance=spread.variance * of_pair)
        found = estimate([each[later] - each[earlier] for each in scores], margin, trainings, resamples)
        estimates[later, earlier] = found if of_pair else replace(found, seeds=0)
    return estimates


def _halves(task: Measured) -> tuple[list[int], list[int]] | None:
    """The places of the queries with the fewest and with the most words of their passages, ties broken by id."""
    queries = list(task.runs[BASE][0])
    if len(queries) < _LEAST or not task.overlap:
        return None
    order = sorted(range(len(queries)), key=lambda place: (task.overlap[queries[place]], queries[place]))
    return order[: len(order) // 2], order[len(order) // 2 :]


def _only(scores: Sequence[Mapping[str, Floats]], places: Sequence[Sequence[int]]) -> list[dict[str, Floats]]:
    """The scores of some queries of each task."""
    return [{arm: values[:, kept] for arm, values in each.items()} for each, kept in zip(scores, places, strict=True)]


def _half(tasks: Sequence[Measured], places: Sequence[Sequence[int]]) -> Half:
    """What is said of some queries of each task, of which each counts alike."""
    kept = [[list(task.runs[BASE][0])[place] for place in some] for task, some in zip(tasks, places, strict=True)]

    def mean(value: Callable[[Measured, str], float]) -> float:
        by_task = [[value(task, query) for query in some] for task, some in zip(tasks, kept, strict=True)]
        return float(np.mean([np.mean(values) for values in by_task]))

    return Half(
        overlap=mean(lambda task, query: task.overlap[query]),
        queries=sum(map(len, kept)),
        base=mean(lambda task, query: task.runs[BASE][0][query][MAIN_METRIC]),
        bm25=mean(lambda task, query: task.bm25[query][MAIN_METRIC]) if all(task.bm25 for task in tasks) else None,
    )


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


def _row(tasks: Sequence[Runs], arm: str, estimates: Mapping[tuple[str, str], Estimate], given: Collection[str]) -> Row:
    by_seed = {seed: [means(runs[arm][seed], REPORTED) for runs in tasks] for seed in tasks[0][arm]}
    every = [found for over_tasks in by_seed.values() for found in over_tasks]
    return Row(
        arm=arm,
        metrics={name: sum(found[name] for found in every) / len(every) for name in REPORTED},
        by_seed={}
        if arm in given
        else {seed: sum(each[MAIN_METRIC] for each in found) / len(found) for seed, found in by_seed.items()},
        difference=estimates.get((arm, BASE)),
    )


def _turned(
    scores: Sequence[Mapping[str, Floats]], pairs: Iterable[tuple[str, str]], tasks: Sequence[str], margin: float
) -> list[str]:
    """Sentences on pairs of which a single task decides who is ahead, by more than a difference of no account."""
    found = []
    for first, second in pairs:
        values = [float(each[first].mean() - each[second].mean()) for each in scores]
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


def verdicts(
    estimates: Mapping[tuple[str, str], Estimate],
    margin: float,
    by_half: Sequence[Mapping[tuple[str, str], Estimate]] = (),
    *,
    may_turn: bool = True,
) -> list[Verdict]:
    """Verdicts on pairs, of which those with the base are one family and all others a second.

    Each of the two questions is asked at a level of 5 % over a whole family (Holm), so that pairs among arms take
    nothing from what is known of an arm beside the base.

    Args:
        estimates: (first, second) -> their difference.
        margin: as the estimates were made with.
        by_half: the estimates on the queries with the fewest and with the most words of their passages.
        may_turn: whether a pair whose order differs between the halves is left undecided: an LLM's queries favour word
            matching, while people's words are what a retriever has to find.
    """
    found = {}
    for is_base in (True, False):
        family = {pair: each for pair, each in estimates.items() if (pair[1] == BASE) == is_base}
        if family:
            different, alike = (
                holm([getattr(each, name) for each in family.values()]) for name in ("p", "p_equivalent")
            )
            for (pair, each), p, p_equivalent in zip(family.items(), different, alike, strict=True):
                fewest, most = (half[pair] for half in by_half) if by_half else (None, None)
                verdict = Verdict(*pair, each, float(p), float(p_equivalent), "", False, "", fewest, most)
                turned = may_turn and _is_turned(verdict, len(family))
                found[pair] = _worded(replace(verdict, turned=turned), margin, len(family))
    return [found[pair] for pair in estimates]


def holm(values: Sequence[float]) -> Floats:
    """The p of a family after Holm's correction.

    >>> holm([0.04, 0.01, 0.03]).tolist()
    [0.06, 0.03, 0.06]
    """
    order = np.argsort(values)  # statsmodels' own collects garbage at each call, which takes longer than all tests
    corrected = np.empty(len(values))
    corrected[order] = np.maximum.accumulate(np.array(values)[order] * np.arange(len(values), 0, -1))
    return np.minimum(corrected, 1.0)


def _worded(verdict: Verdict, margin: float, family: int) -> Verdict:
    found, first, second = verdict.estimate, verdict.first, verdict.second
    differs, small = verdict.p <= LEVEL, verdict.p_equivalent <= LEVEL
    word = ("better" if found.mean > 0 else "worse") if differs else "equivalent" if small else "undecided"
    size = f"{found.mean:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
    here = " in this training" if found.seeds == 1 else ""
    if verdict.turned and verdict.fewest and verdict.most:
        word = "undecided"
        text = (
            f"{first} against {second} is not decided ({size}): {verdict.most.mean:+.4f} on the half of the queries "
            f"that shares most words with its passages, {verdict.fewest.mean:+.4f} on the half that shares fewest."
        )
    elif differs:
        text = f"{first} is {word}{here} than {second} ({size}){f', though by less than {margin:g}' if small else ''}."
    elif small:
        text = f"{first} and {second} are equivalent{here} within {margin:g} ({size})."
    else:
        alone = f"by itself it would count (p {found.p:.2g}), among {family} pairs it does not; "
        text = (
            f"{first} against {second} is undecided ({size}); {alone if found.p <= LEVEL else ''}"
            f"{decisive(found, margin, family)}."
        )
    return replace(verdict, word=word, small=small, text=text)


def _is_turned(verdict: Verdict, family: int) -> bool:
    """Whether the order is certain on one half of the queries and the other way round on the other."""
    fewest, most = verdict.fewest, verdict.most
    if fewest is None or most is None:
        return False
    level = LEVEL if verdict.p <= LEVEL else LEVEL / 2 / family  # else chance would turn one undecided pair in ten
    return fewest.mean * most.mean < 0 and min(fewest.p, most.p) <= level


def decisive(found: Estimate, margin: float, family: int) -> str:
    """What an experiment would need to decide a pair, with a power of 80 %."""
    ways, size = needed(found, margin, family)
    words = []
    for queries, seeds in ways:
        counts = ((queries, found.queries, "queries"), (seeds, found.seeds, "seeds"))
        words.append(
            " and ".join(f"{rounded(new):,} {what} in place of {old:,}" for new, old, what in counts if new != old)
        )
    return f"to find {size:.2g} with a power of {POWER:.0%} it takes about {' or '.join(words)}".replace("%", " %")
