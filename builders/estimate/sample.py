"""A build's LLM stages on a few of its seed passages, with real calls, and from them the whole build.

The calls are those that the build itself makes for these passages, so it finds them in the call store later. All that
one passage costs, its queries and their negatives, is one row; a total is the mean row times the passages.
"""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import t

from builders.context import Context
from builders.estimate.trial import ROUND_TRIP, try_stages, written_kinds
from builders.funnel import check_queries
from builders.llm.client import Llm
from builders.llm.ledger import HOUR_S, MILLION, bytes_of, tokens_of
from builders.llm.messages import ChatAnswer, ChatRequest, Task
from builders.negatives import config_of
from builders.queries import STAGE
from builders.queries.round_trip import Retrieve
from builders.recipe import BuildRecipe

Floats = npt.NDArray[np.float64]
ROWS, CALLS, TOKENS_IN, TOKENS_OUT, SECONDS = FIGURES = range(5)
"""What is measured per passage and stage: rows, calls, tokens in and out, seconds in calls."""
ACCEPTED = "accepted"
"""A stage without calls, as `ROUND_TRIP` is: queries that pass that."""
LEVEL = 0.9


class Estimate(NamedTuple):
    """A figure of the whole build with the half width of its 90 % interval; 0 where it is known."""

    value: float
    margin: float


class Outcome(NamedTuple):
    """What became of a stage's rows in the sample: how many there were, how many passed, and what was rejected."""

    stage: str
    asked: int
    accepted: int
    reasons: Counter[str]


class Sample:
    """What a sample of a build's seed passages costs.

    Args:
        config: the recipe.
        llm: the session, which is watched.
        passages: ids of the sampled passages.
        population: seed passages of the whole build.

    Attributes:
        size: the number of sampled passages.
        population: as given.
        kinds: the recipe's kinds of negatives that cost calls.
        stages: names along the second axis of `figures`.
        figures: `(size + 1, n_stages, 5)`; the last row is what is paid once, such as the priming question.
        outcomes: one a stage, in order.
    """

    def __init__(self, config: BuildRecipe, llm: Llm, passages: list[str], population: int) -> None:
        self.size, self.population = len(passages), population
        self.kinds = written_kinds(config)
        self.stages = (STAGE, ROUND_TRIP, ACCEPTED, *self.kinds)
        self.figures = np.zeros((self.size + 1, len(self.stages), len(FIGURES)))
        self.outcomes: list[Outcome] = []
        self._config, self._llm = config, llm
        self._row = {passage_id: row for row, passage_id in enumerate(passages)}
        llm.watch = self._saw

    def _saw(self, stage: str, task: Task, request: ChatRequest, answer: ChatAnswer | None, reason: str | None) -> None:  # noqa: ARG002
        if answer is not None:
            query_id = getattr(task, "query_id", None)
            row = -1 if query_id is None else self._row[query_id.rpartition("/")[0]]  # the query of PASSAGE/q1
            figures = [0, 1, *tokens_of(answer, bytes_of(request.messages)), answer.seconds]
            self.figures[row, self.stages.index(stage)] += figures

    def run(self, sampled: pa.Table, context: Context, retrieve: Retrieve) -> None:
        """Runs the LLM's stages and the round trip.

        Args:
            sampled: the passages, `schema.CORPUS`.
            context: asks through the session.
            retrieve: the build's own, for the round trip.

        Raises:
            UserError: no query is accepted, or no negative.
        """
        self.figures[:-1, 0, ROWS] = self._config.queries.per_passage
        drops = []
        for stage, asked, found, dropped in try_stages(self._config, sampled, context, retrieve):
            reasons = Counter(dropped["reason"].to_pylist())
            if stage in {STAGE, ROUND_TRIP}:
                number = self.stages.index(ROUND_TRIP) + (stage == ROUND_TRIP)
                for passage_id in found["corpus-id"].to_pylist():
                    self.figures[self._row[passage_id], number, ROWS] += 1
                drops.append(dropped)
            else:
                writer = config_of(self._config.negatives, stage)
                per_query = -(-writer.count // writer.per_call)
                self.figures[:, self.stages.index(stage), ROWS] = per_query * self.figures[:, 2, ROWS]
            if stage == ROUND_TRIP:
                check_queries(found, *drops, leaked=False)
            else:
                duplicates = reasons["duplicate"]
                reasons = self._llm.rejections[stage].reasons + Counter(duplicate=duplicates)
            self.outcomes.append(Outcome(stage, asked, found.num_rows, reasons))

    def concurrency(self, stage: str) -> float:
        """Calls in flight at once, on average over the time in which there were any; at least 1."""
        account = self._llm.ledger.account(stage).summary()
        busy = account["busy_seconds"]
        return min(max(1.0, account["call_seconds"] / busy if busy else 1.0), self._config.llm.concurrency)

    def total(self, figure: int, stage: str | None = None) -> Estimate:
        """One of `FIGURES` of a stage, or of all."""
        return self._total(self.figures[:, :, figure], stage)

    def wall(self, stage: str | None = None) -> Estimate:
        """Seconds during which calls of a stage are in flight, or of all stages, which follow each other."""
        return self._total(self._wall(), stage)

    def money(self, stage: str | None = None) -> Estimate:
        """What a stage costs, or all of them."""
        prices, figures = self._config.llm.prices, self.figures
        tokens = figures[:, :, TOKENS_IN] * prices.input + figures[:, :, TOKENS_OUT] * prices.output
        return self._total(tokens / MILLION + self._wall() * prices.hour / HOUR_S, stage)

    def _wall(self) -> Floats:
        seconds: Floats = self.figures[:, :, SECONDS] / [self.concurrency(stage) for stage in self.stages]
        return seconds

    def _total(self, by_stage: Floats, stage: str | None) -> Estimate:
        """The total of rows by stage, the last of which is paid once."""
        rows = by_stage.sum(axis=1) if stage is None else by_stage[:, self.stages.index(stage)]
        value, margin = total_of(rows[:-1], self.population)
        return Estimate(value + float(rows[-1]), margin)


def total_of(rows: Floats, population: int) -> Estimate:
    """The sum over a population of which some rows were sampled at random, with Student's t.

    The sampled rows are known. The others are estimated by the mean, with a prediction interval for their sum.

    >>> total_of(np.array([1.0, 2.0]), 2), total_of(np.array([2.0, 2.0, 2.0]), 10)
    (Estimate(value=3.0, margin=0.0), Estimate(value=20.0, margin=0.0))
    """
    n, left = len(rows), population - len(rows)
    value = float(rows.sum() + left * rows.mean())
    if not left:
        return Estimate(value, 0.0)
    error = float(rows.std(ddof=1)) * left * math.sqrt(1 / n + 1 / left)
    return Estimate(value, float(t.ppf((1 + LEVEL) / 2, n - 1)) * error)


def at_most(sampled: int) -> float:
    """The largest share, at 95 %, of what 0 of `sampled` rows were: the rule of three, about 3 / n, exactly.

    >>> round(at_most(24), 3), round(at_most(300), 4)
    (0.117, 0.0099)
    """
    return float(1 - ((1 - LEVEL) / 2) ** (1 / sampled))
