"""Which queries an arm gained or lost most, and what was found for them before and after."""

from collections.abc import Mapping

from eval.measure.tasks import Task
from eval.statistics.tables import Runs
from foils.comparison import ArmChanges, Change, Hit, TaskQueries
from foils.metrics import MAIN_METRIC, Rankings, top
from foils.verdicts import BASE
from foils.words import shortened

SHOWN_HITS = 5
SHOWN_CHANGES = 5
_CHARACTERS = 160


def task_queries(task: Task, runs: Runs, before: Rankings, after: Mapping[str, Rankings]) -> TaskQueries:
    """Every query of a task, and those that each arm changed most.

    Args:
        task: the task.
        runs: what each run scored.
        before: rankings of the base.
        after: arm -> rankings of one of its trainings.
    """
    texts, queries = task.queries(), list(runs[BASE][0])
    scores = {
        arm: {
            seed: {name: [found[query][name] for query in queries] for name in found[queries[0]]}
            for seed, found in by_seed.items()
        }
        for arm, by_seed in runs.items()
    }
    means = {
        arm: {query: sum(found[query][MAIN_METRIC] for found in by_seed.values()) / len(by_seed) for query in queries}
        for arm, by_seed in runs.items()
    }
    arms = [_changes(task, arm, means, before, found) for arm, found in after.items()]
    return TaskQueries(task.name, queries, [texts[query] for query in queries], scores, arms)


def _changes(
    task: Task, arm: str, means: Mapping[str, Mapping[str, float]], base_found: Rankings, arm_found: Rankings
) -> ArmChanges:
    """The queries that an arm gained most, and those that it lost most."""
    texts, qrels, before, after = task.queries(), task.qrels(), means[BASE], means[arm]
    order = sorted(before, key=lambda query: (before[query] - after[query], query))
    gained = [query for query in order[:SHOWN_CHANGES] if after[query] > before[query]]
    lost = [query for query in order[::-1][:SHOWN_CHANGES] if after[query] < before[query]]
    best = {query: [top(found.get(query, {})) for found in (base_found, arm_found)] for query in (*gained, *lost)}
    passages = task.passages(name for hits in best.values() for ranked in hits for name, _ in ranked[:SHOWN_HITS])

    def change(query: str) -> Change:
        judged = [passage for passage, grade in qrels[query].items() if grade > 0]
        first, second = ({passage: rank for rank, (passage, _) in enumerate(hits, start=1)} for hits in best[query])
        hits = [
            [
                Hit(passage, shortened(passages.get(passage, ""), _CHARACTERS), passage in judged)
                for passage, _ in ranked[:SHOWN_HITS]
            ]
            for ranked in best[query]
        ]
        relevant = [(passage, first.get(passage), second.get(passage)) for passage in judged]
        return Change(query, texts[query], before[query], after[query], hits[0], hits[1], relevant)

    return ArmChanges(arm, [change(query) for query in gained], [change(query) for query in lost])
