"""A build's LLM stages on a few of its seed passages, with real calls, and what each of them costs.

The calls are those that the build itself makes for these passages, so it finds them in the call store later.

    recorder = Recorder(session)
    material = Material(..., converse=recorder.converse)
    rehearsal = rehearse(config, sampled, population, recorder, material, retrieve)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple

import numpy as np
import pyarrow as pa

from builders import queries
from builders.estimate.forecast import CALLS, FIGURES, ROWS, Floats, Measured
from builders.llm.chat import REFUSED, ChatAnswer, ChatRequest, Llm, TaskT
from builders.llm.ledger import Spans, bytes_of, tokens_of
from builders.mining import MINERS
from builders.negatives import config_of
from builders.negatives.material import Material
from builders.recipe import BuildRecipe

ROUND_TRIP, ACCEPTED, TRAINING = "round trip", "accepted", "training"
"""Stages without calls: queries that go into the round trip, those that pass it, those with all their negatives."""
WRITERS = ("llm", "llm-with-positive")
"""Kinds of negatives that cost calls."""
ONCE = ""
"""In place of a query's id: calls of no query, such as the priming question's."""


class Outcome(NamedTuple):
    """What became of a stage's rows in the sample: how many there were, how many passed, and what was rejected."""

    stage: str
    asked: int
    accepted: int
    reasons: Counter[str]


class Rehearsal(NamedTuple):
    """What the sample told.

    Attributes:
        measured: per passage and stage.
        outcomes: one a stage, in order.
    """

    measured: Measured
    outcomes: tuple[Outcome, ...]


class Tally:
    """Sums over answers.

    Attributes:
        figures: as `estimate.FIGURES`; no rows.
    """

    def __init__(self) -> None:
        self.figures = np.zeros(len(FIGURES))
        self.busy = Spans()
        self._timed = 0.0

    def add(self, answer: ChatAnswer, prompt_bytes: int) -> None:
        """Counts an answer."""
        self.figures += (0, 1, *tokens_of(answer, prompt_bytes), answer.seconds)
        if answer.ended is not None:
            self.busy.add(answer.ended - answer.seconds, answer.ended)
            self._timed += answer.seconds

    @property
    def concurrency(self) -> float:
        """Calls in flight at once, on average over the time in which there were any."""
        return max(1.0, self._timed / self.busy.seconds) if self.busy.seconds else 1.0


class Log:
    """What a stage's tasks asked and got.

    Attributes:
        all: over all calls.
        by_query: over those of a query, by its id.
        reasons: why answers were rejected.
    """

    def __init__(self) -> None:
        self.all = Tally()
        self.by_query: dict[str, Tally] = {}
        self.reasons: Counter[str] = Counter()


class Recorder:
    """Stands where `Llm.run` stands, and writes down what each query costs.

    Attributes:
        llm: the session.
        logs: stage -> what its tasks asked and got.
        new: over the calls that this run made.
    """

    def __init__(self, llm: Llm) -> None:
        self.llm = llm
        self.logs: dict[str, Log] = {}
        self.new = Tally()
        self._new_calls = llm.ledger.new_calls

    def converse(
        self, stage: str, tasks: Iterable[TaskT], *, total: int, attempts: int, done: Callable[[TaskT], None]
    ) -> None:
        """As `Llm.run`."""
        self.logs.setdefault(stage, Log())
        recorded = (_Recorded(task, stage, self) for task in tasks)
        self.llm.run(stage, recorded, total=total, attempts=attempts, done=lambda settled: done(settled.task))

    def add(self, stage: str, query_id: str, answer: ChatAnswer, prompt_bytes: int) -> None:
        """Counts an answer; the ledger has counted it by now, so that it tells whether this run made the call."""
        log = self.logs[stage]
        tallies = [log.all, log.by_query.setdefault(query_id, Tally())]
        if self.llm.ledger.new_calls > self._new_calls:
            self._new_calls = self.llm.ledger.new_calls
            tallies.append(self.new)
        for tally in tallies:
            tally.add(answer, prompt_bytes)


class _Recorded(Generic[TaskT]):
    """A task that is asked and judged as ever, while its recorder looks on."""

    __slots__ = ("_log", "_prompt_bytes", "_query_id", "_recorder", "_stage", "task")

    def __init__(self, task: TaskT, stage: str, recorder: Recorder) -> None:
        self.task = task
        self._stage = stage
        self._recorder = recorder
        self._query_id: str = getattr(task, "query_id", ONCE)
        self._prompt_bytes = 0

    def request(self, attempt: int) -> ChatRequest:
        request = self.task.request(attempt)
        self._prompt_bytes = bytes_of(request.messages)
        return request

    def take(self, answer: ChatAnswer) -> str | None:
        self._recorder.add(self._stage, self._query_id, answer, self._prompt_bytes)
        reason = self.task.take(answer)
        if reason is not None:
            self._recorder.logs[self._stage].reasons[reason] += 1
        return reason

    def refused(self, detail: str) -> None:
        self._recorder.logs[self._stage].reasons[REFUSED] += 1
        self.task.refused(detail)


def rehearse(
    config: BuildRecipe,
    sampled: pa.Table,
    population: int,
    recorder: Recorder,
    material: Material,
    retrieve: queries.Retrieve,
) -> Rehearsal:
    """Runs the LLM's stages and the round trip on some passages; negatives only if a query was accepted.

    Args:
        config: the recipe.
        sampled: some of the build's seed passages, `schema.CORPUS`.
        population: how many seed passages the build has.
        recorder: of the session.
        material: has the recorder as its LLM.
        retrieve: the build's own, for the round trip.
    """
    written = queries.write(sampled, sampled.num_rows, config.queries, material)
    accepted = queries.round_trip(written.table, retrieve, config.queries.round_trip_k)
    found: dict[str, pa.Table] = {}
    for kind in writers_of(config):
        if accepted.table.num_rows:
            found[kind] = MINERS[kind](accepted.table, material, config_of(config.negatives, kind)).generated
    passing = {
        ROUND_TRIP: written.table,
        ACCEPTED: accepted.table,
        TRAINING: _with_all(accepted.table, found, config.negatives.per_query),
    }
    measured = _measured(config, sampled["_id"].to_pylist(), population, recorder, passing)
    return Rehearsal(measured, tuple(_outcomes(config, sampled.num_rows, written, accepted, found, recorder)))


def writers_of(config: BuildRecipe) -> list[str]:
    """The recipe's kinds of negatives that cost calls."""
    return [kind for kind in config.negatives.kinds if kind in WRITERS]


def _with_all(accepted: pa.Table, found: Mapping[str, pa.Table], per_query: int) -> pa.Table:
    """The queries that have enough written negatives of every kind."""
    for generated in found.values():
        counts = Counter(generated["query-id"].to_pylist())
        enough = [counts[query_id] >= per_query for query_id in accepted["_id"].to_pylist()]
        accepted = accepted.filter(pa.array(enough, pa.bool_()))
    return accepted


def _outcomes(
    config: BuildRecipe,
    passages: int,
    written: queries.Queries,
    accepted: queries.Queries,
    found: Mapping[str, pa.Table],
    recorder: Recorder,
) -> Iterator[Outcome]:
    usable, left = written.table.num_rows, accepted.table.num_rows
    duplicates = written.drops["reason"].to_pylist().count("duplicate")
    reasons = recorder.logs[queries.STAGE].reasons + Counter(duplicate=duplicates)
    yield Outcome(queries.STAGE, passages * config.queries.per_passage, usable, reasons)
    yield Outcome(ROUND_TRIP, usable, left, Counter(accepted.drops["reason"].to_pylist()))
    for kind, generated in found.items():
        texts = left * config_of(config.negatives, kind).count
        yield Outcome(kind, texts, generated.num_rows, recorder.logs[kind].reasons)


def _measured(
    config: BuildRecipe, passages: Sequence[str], population: int, recorder: Recorder, passing: Mapping[str, pa.Table]
) -> Measured:
    """The recorder's logs by passage and stage.

    Args:
        config: the recipe.
        passages: ids of the sampled.
        population: how many seed passages the build has.
        recorder: after the rehearsal.
        passing: stage without calls -> its queries, `queries.TABLE`.
    """
    kinds = writers_of(config)
    stages = (queries.STAGE, ROUND_TRIP, ACCEPTED, *kinds, TRAINING)
    place = {passage_id: position for position, passage_id in enumerate(passages)}
    figures = np.zeros((len(passages), len(stages), len(FIGURES)))
    once, concurrency = np.zeros(figures.shape[1:]), np.ones(len(stages))
    for stage, log in recorder.logs.items():
        at = stages.index(stage)
        concurrency[at] = min(log.all.concurrency, config.llm.concurrency)
        for query_id, tally in log.by_query.items():
            if query_id == ONCE:
                once[at] += tally.figures
            else:
                figures[place[_passage_of(query_id)], at] += tally.figures
    figures[:, 0, ROWS] = config.queries.per_passage
    for stage, table in passing.items():
        for passage_id in table["corpus-id"].to_pylist():
            figures[place[passage_id], stages.index(stage), ROWS] += 1
    for kind in kinds:
        writer = config_of(config.negatives, kind)
        each = -(-writer.count // writer.per_call)
        figures[:, stages.index(kind), ROWS] = each * figures[:, stages.index(ACCEPTED), ROWS]
    unseen = _unseen(config, stages, figures)
    return Measured(stages, figures, once, unseen, concurrency, population)


def _unseen(config: BuildRecipe, stages: Sequence[str], figures: Floats) -> Floats:
    """Typical passages, each with one thing otherwise that no sampled passage showed, at its worst.

    These are: answers that are rejected up to the last attempt, where none was; and queries that are lost, or stay
    without negatives, where none was.
    """
    typical, unseen = figures.mean(axis=0), []
    attempts = {queries.STAGE: config.queries.attempts}
    attempts |= {kind: config_of(config.negatives, kind).attempts for kind in stages if kind in WRITERS}
    for stage, most in attempts.items():
        at = stages.index(stage)
        if most > 1 and np.all(figures[:, at, CALLS] <= figures[:, at, ROWS]):
            unseen.append(typical.copy())
            unseen[-1][at, CALLS:] *= most
    usable, accepted, training = (stages.index(stage) for stage in (ROUND_TRIP, ACCEPTED, TRAINING))
    loses = {
        at: bool(np.any(figures[:, at, ROWS] < figures[:, before, ROWS]))
        for at, before in ((usable, 0), (accepted, usable), (training, accepted))
    }
    loses[accepted] |= not loses[usable]  # either way a query is lost: one kind stands for both
    for at in (at for at, some in loses.items() if not some):
        unseen.append(typical.copy())
        unseen[-1][at:] = 0
    return np.array(unseen).reshape(-1, *typical.shape)


def _passage_of(query_id: str) -> str:
    """The passage that a query was written for.

    >>> _passage_of("docs/1/q2")
    'docs/1'
    """
    return query_id.rpartition("/")[0]
