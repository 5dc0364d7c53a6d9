"""A build's LLM stages on a few of its seed passages, with real calls, and what each of them costs.

The calls are those that the build itself makes for these passages, so it finds them in the call store later.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from builders.context import Context
from builders.estimate.forecast import FIGURES, ROWS, Floats, Measured
from builders.llm.client import Llm
from builders.llm.ledger import Spans, bytes_of, tokens_of
from builders.llm.messages import ChatAnswer, ChatRequest, Task
from builders.mining import MINERS
from builders.negatives import config_of
from builders.queries import STAGE, Queries
from builders.queries.round_trip import Retrieve, round_trip
from builders.queries.written import write
from builders.recipe import WRITTEN, BuildRecipe

ROUND_TRIP, ACCEPTED = "round trip", "accepted"
"""Stages without calls: queries that go into the round trip, and those that pass it."""


class Outcome(NamedTuple):
    """What became of a stage's rows in the sample: how many there were, how many passed, and what was rejected."""

    stage: str
    asked: int
    accepted: int
    reasons: Counter[str]


class Trial(NamedTuple):
    """What the sample showed.

    Attributes:
        measured: per passage and stage.
        outcomes: one a stage, in order.
    """

    measured: Measured
    outcomes: tuple[Outcome, ...]


class Tally:
    """Sums over answers.

    Attributes:
        figures: as `forecast.FIGURES`; no rows.
        busy: when calls were in flight.
    """

    def __init__(self) -> None:
        self.figures = np.zeros(len(FIGURES))
        self.busy = Spans()
        self._timed = 0.0

    def add(self, answer: ChatAnswer, figures: Floats) -> None:
        """Counts an answer."""
        self.figures += figures
        if answer.ended is not None:
            self.busy.add(answer.ended - answer.seconds, answer.ended)
            self._timed += answer.seconds

    @property
    def concurrency(self) -> float:
        """Calls in flight at once, on average over the time in which there were any."""
        return max(1.0, self._timed / self.busy.seconds) if self.busy.seconds else 1.0


class Recorder:
    """Writes down what each passage costs, while a session asks.

    Args:
        llm: the session.
        passages: ids of the sampled.

    Attributes:
        figures: stage -> `(n_passages + 1, 5)`; the last row is for calls of no query, such as the priming question's.
        stages: stage -> sums over its answers.
        reasons: stage -> why answers were rejected.
        new: over the calls that this run made.
    """

    def __init__(self, llm: Llm, passages: list[str]) -> None:
        self.figures: dict[str, Floats] = defaultdict(lambda: np.zeros((len(passages) + 1, len(FIGURES))))
        self.stages: dict[str, Tally] = defaultdict(Tally)
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self.new = Tally()
        self.place = {passage_id: position for position, passage_id in enumerate(passages)}
        self._ledger, self._new_calls = llm.ledger, llm.ledger.new_calls
        llm.watch = self._saw

    def _saw(self, stage: str, task: Task, request: ChatRequest, answer: ChatAnswer | None, reason: str | None) -> None:
        if reason is not None:
            self.reasons[stage][reason] += 1
        if answer is None:
            return
        query_id = getattr(task, "query_id", None)
        row = -1 if query_id is None else self.place[passage_of(query_id)]
        figures = np.array([0, 1, *tokens_of(answer, bytes_of(request.messages)), answer.seconds])
        self.figures[stage][row] += figures
        self.stages[stage].add(answer, figures)
        if self._ledger.new_calls > self._new_calls:
            self._new_calls = self._ledger.new_calls
            self.new.add(answer, figures)


def run_trial(
    config: BuildRecipe,
    sampled: pa.Table,
    population: int,
    recorder: Recorder,
    material: Context,
    retrieve: Retrieve,
) -> Trial:
    """Runs the LLM's stages and the round trip on some passages; negatives only if a query was accepted.

    Args:
        config: the recipe.
        sampled: some of the build's seed passages, `schema.CORPUS`.
        population: how many seed passages the build has.
        recorder: of the session.
        material: asks through that session.
        retrieve: the build's own, for the round trip.
    """
    written = write(sampled, config.queries, material)
    accepted = round_trip(written.table, retrieve, config.queries.round_trip_k)
    found: dict[str, pa.Table] = {}
    for kind in writers_of(config):
        if accepted.table.num_rows:
            found[kind] = MINERS[kind](accepted.table, material, config_of(config.negatives, kind)).generated
    measured = _measured(config, population, recorder, {ROUND_TRIP: written.table, ACCEPTED: accepted.table})
    return Trial(measured, tuple(_outcomes(config, sampled.num_rows, written, accepted, found, recorder)))


def writers_of(config: BuildRecipe) -> list[str]:
    """The recipe's kinds of negatives that cost calls."""
    return [kind for kind in config.negatives.kinds if kind in WRITTEN]


def _outcomes(
    config: BuildRecipe,
    passages: int,
    written: Queries,
    accepted: Queries,
    found: Mapping[str, pa.Table],
    recorder: Recorder,
) -> Iterator[Outcome]:
    usable, left = written.table.num_rows, accepted.table.num_rows
    duplicates = written.drops["reason"].to_pylist().count("duplicate")
    reasons = recorder.reasons[STAGE] + Counter(duplicate=duplicates)
    yield Outcome(STAGE, passages * config.queries.per_passage, usable, reasons)
    yield Outcome(ROUND_TRIP, usable, left, Counter(accepted.drops["reason"].to_pylist()))
    for kind, generated in found.items():
        texts = left * config_of(config.negatives, kind).count
        yield Outcome(kind, texts, generated.num_rows, recorder.reasons[kind])


def _measured(config: BuildRecipe, population: int, recorder: Recorder, passing: Mapping[str, pa.Table]) -> Measured:
    """What was recorded, by passage and stage; `passing` has the queries of the stages without calls."""
    kinds = writers_of(config)
    stages = (STAGE, ROUND_TRIP, ACCEPTED, *kinds)
    figures = np.stack([recorder.figures[stage] for stage in stages], axis=1)
    figures[:-1, 0, ROWS] = config.queries.per_passage
    for stage, table in passing.items():
        for passage_id in table["corpus-id"].to_pylist():
            figures[recorder.place[passage_id], stages.index(stage), ROWS] += 1
    for kind in kinds:
        writer = config_of(config.negatives, kind)
        each = -(-writer.count // writer.per_call)
        figures[:, stages.index(kind), ROWS] = each * figures[:, stages.index(ACCEPTED), ROWS]
    reached = [min(recorder.stages[stage].concurrency, config.llm.concurrency) for stage in stages]
    return Measured(stages, figures, np.array(reached), population)


def passage_of(query_id: str) -> str:
    """The passage that a query was written for.

    >>> passage_of("docs/1/q2")
    'docs/1'
    """
    return query_id.rpartition("/")[0]
