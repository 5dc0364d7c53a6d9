"""Which queries an arm gained or lost most, and what was found for them before and after."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eval.measure.tasks import Task
from eval.statistics.tables import Runs
from foils.comparison import BASE, ArmChanges, Change, Hit, TaskQueries
from foils.metrics import MAIN_METRIC, Qrels, Rankings, top
from foils.words import shortened

SHOWN_HITS = 5
SHOWN_CHANGES = 5
_CHARACTERS = 160


class QueryLine(NamedTuple):
    """A query with nDCG@10 of the base and each arm (mean over seeds), in the table's order of arms."""

    query: str
    text: str
    scores: list[float]


class Context(NamedTuple):
    """What changes of a task's queries are shown with.

    Attributes:
        task: whose passages are read, those that are shown alone.
        texts: query id -> text.
        qrels: the judgements.
        before: the base's rankings.
    """

    task: Task
    texts: Mapping[str, str]
    qrels: Qrels
    before: Rankings


def task_queries(task: Task, runs: Runs, before: Rankings, after: Mapping[str, Rankings]) -> TaskQueries:
    """Every query of a task, and those that each arm changed most.

    Args:
        task: the task.
        runs: what each run scored.
        before: rankings of the base.
        after: arm -> rankings of one of its trainings.
    """
    context = Context(task, task.queries(), task.qrels(), before)
    queries = list(runs[BASE][0])
    scores = {
        arm: {
            seed: {name: [found[query][name] for query in queries] for name in found[queries[0]]}
            for seed, found in by_seed.items()
        }
        for arm, by_seed in runs.items()
    }
    arms = [_changes(context, arm, runs, found) for arm, found in after.items()]
    return TaskQueries(task.name, queries, [context.texts[query] for query in queries], scores, arms)


def query_lines(task: TaskQueries) -> list[QueryLine]:
    """Every query with its scores, those that differ most between arms first."""
    means = [
        [sum(values) / len(values) for values in zip(*(run[MAIN_METRIC] for run in by_seed.values()), strict=True)]
        for by_seed in task.scores.values()
    ]
    lines = [
        QueryLine(query, text, [round(score, 4) for score in scores])
        for query, text, scores in zip(task.queries, task.texts, zip(*means, strict=True), strict=True)
    ]
    return sorted(lines, key=lambda line: (min(line.scores) - max(line.scores), line.query))


def _changes(context: Context, arm: str, runs: Runs, found: Rankings) -> ArmChanges:
    """The queries that an arm gained most, and those that it lost most."""
    before, after = (_mean_scores(list(runs[name].values())) for name in (BASE, arm))
    order = sorted(before, key=lambda query: (before[query] - after[query], query))
    gained = [query for query in order[:SHOWN_CHANGES] if after[query] > before[query]]
    lost = [query for query in order[::-1][:SHOWN_CHANGES] if after[query] < before[query]]
    best = {query: [top(ranked.get(query, {})) for ranked in (context.before, found)] for query in (*gained, *lost)}
    shown = {passage for hits in best.values() for ranked in hits for passage, _ in ranked[:SHOWN_HITS]}
    passages = context.task.passages(shown)

    def change(query: str) -> Change:
        judged = [passage for passage, grade in context.qrels[query].items() if grade > 0]
        first, second = ({passage: rank for rank, (passage, _) in enumerate(hits, start=1)} for hits in best[query])
        hits = [
            [
                Hit(passage, shortened(passages.get(passage, ""), _CHARACTERS), passage in judged)
                for passage, _ in ranked[:SHOWN_HITS]
            ]
            for ranked in best[query]
        ]
        relevant = [(passage, first.get(passage), second.get(passage)) for passage in judged]
        return Change(query, context.texts[query], before[query], after[query], hits[0], hits[1], relevant)

    return ArmChanges(arm, [change(query) for query in gained], [change(query) for query in lost])


def _mean_scores(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    return {query: sum(scores[query][MAIN_METRIC] for scores in runs) / len(runs) for query in runs[0]}
