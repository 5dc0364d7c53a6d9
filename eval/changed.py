"""Which queries an arm gained or lost most, and what was found for them before and after."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from eval.runs import BASE
from eval.tables import Runs
from eval.tasks import Task
from foils.metrics import MAIN_METRIC, Qrels, Rankings, top
from foils.texts import passage_text

SHOWN_HITS = 5
SHOWN_CHANGES = 5
_CHARACTERS = 160


class Hit(Struct, frozen=True):
    """A passage in a ranking: its id, the start of its text, and whether it is judged relevant."""

    id: str
    text: str
    relevant: bool


class Change(Struct, frozen=True):
    """A query before and after training.

    Attributes:
        query: its id; `text` what it asks.
        before: nDCG@10 of the base; `after`: of the arm, mean over seeds.
        hits_before: what the base ranks best; `hits_after`: what the arm's first seed ranks best.
        relevant: judged passages, and the rank of each before and after (None: not among those kept).
    """

    query: str
    text: str
    before: float
    after: float
    hits_before: list[Hit]
    hits_after: list[Hit]
    relevant: list[tuple[str, int | None, int | None]]


class QueryLine(Struct, frozen=True):
    """A query with nDCG@10 of the base and each arm (mean over seeds), in the table's order of arms."""

    query: str
    text: str
    scores: list[float]


class Texts(NamedTuple):
    """A task's texts by id."""

    queries: Mapping[str, str]
    passages: Mapping[str, str]


def texts_of(task: Task) -> Texts:
    """Queries and passages of a task, loading the data if need be; a title stands before its passage."""
    task.qrels()
    data = task.mteb.dataset["default"][task.split]
    queries = data["queries"]
    corpus = data["corpus"]
    titles = corpus["title"] if "title" in corpus.column_names else [""] * len(corpus)
    passages = {
        name: passage_text(title, text) for name, title, text in zip(corpus["id"], titles, corpus["text"], strict=True)
    }
    return Texts(dict(zip(queries["id"], queries["text"], strict=True)), passages)


def query_lines(runs: Runs, texts: Texts) -> list[QueryLine]:
    """Every query with its scores, those that differ most between arms first."""
    means = {arm: _mean_scores(list(by_seed.values())) for arm, by_seed in runs.items()}
    lines = [
        QueryLine(query, texts.queries[query], [round(scores[query], 4) for scores in means.values()])
        for query in means[BASE]
    ]
    return sorted(lines, key=lambda line: (min(line.scores) - max(line.scores), line.query))


def changes(
    runs: Runs, arm: str, rankings: tuple[Rankings, Rankings], qrels: Qrels, texts: Texts
) -> tuple[list[Change], list[Change]]:
    """The queries that an arm gained most, and those that it lost most.

    Args:
        runs: what each run scored.
        arm: which one.
        rankings: of the base, and of one training of the arm.
        qrels: the judgements.
        texts: of the task.
    """
    before, after = _mean_scores(list(runs[BASE].values())), _mean_scores(list(runs[arm].values()))
    order = sorted(before, key=lambda query: (before[query] - after[query], query))

    def told(query: str) -> Change:
        found = [top(ranked.get(query, {})) for ranked in rankings]
        judged = [passage for passage, grade in qrels[query].items() if grade > 0]
        first, second = ({passage: rank for rank, (passage, _) in enumerate(hits, start=1)} for hits in found)
        return Change(
            query=query,
            text=texts.queries[query],
            before=before[query],
            after=after[query],
            hits_before=_hits(found[0], judged, texts),
            hits_after=_hits(found[1], judged, texts),
            relevant=[(passage, first.get(passage), second.get(passage)) for passage in judged],
        )

    gained = [told(query) for query in order[:SHOWN_CHANGES] if after[query] > before[query]]
    lost = [told(query) for query in order[::-1][:SHOWN_CHANGES] if after[query] < before[query]]
    return gained, lost


def _hits(ranked: Sequence[tuple[str, float]], judged: Sequence[str], texts: Texts) -> list[Hit]:
    return [
        Hit(passage, _short(texts.passages.get(passage, "")), passage in judged) for passage, _ in ranked[:SHOWN_HITS]
    ]


def _mean_scores(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    return {query: sum(scores[query][MAIN_METRIC] for scores in runs) / len(runs) for query in runs[0]}


def _short(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS].rsplit(" ", 1)[0] + " ..."
