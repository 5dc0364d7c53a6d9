"""A build's LLM stages on a few of its seed passages, with real calls, and from them the whole build.

The calls are those that the build itself makes for these passages, so it finds them in the call store later. All that
one passage costs, its queries and their negatives, is one row; a total is the mean row times the passages.
"""

import math
from collections import Counter
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import t

from builders.context import Context
from builders.estimate.trial import ROUND_TRIP, Tried, try_exam, try_stages, written_kinds
from builders.exam import STAGE as EXAM
from builders.funnel import ANOTHER_LLM, Funnel
from builders.llm.client import Llm
from builders.llm.ledger import HOUR_S, MILLION, bytes_of, tokens_of
from builders.llm.messages import ChatAnswer, ChatRequest, Task
from builders.negatives import config_of
from builders.queries import STAGE
from builders.recipe import BuildRecipe

Floats = npt.NDArray[np.float64]
ROWS, CALLS, TOKENS_IN, TOKENS_OUT, SECONDS, WALL, MONEY = FIGURES = range(7)
"""Per passage and stage: rows, calls, tokens in and out, seconds in calls, and what follows from these for the whole
build: seconds during which calls are in flight, and money."""
LEVEL = 0.9


class Estimate(NamedTuple):
    """A figure of the whole build with the half width of its 90 % interval; 0 where it is known."""

    value: float
    margin: float


class Sample:
    """What a sample of a build's seed passages costs.

    Args:
        config: the recipe.
        llm: the session, which is watched.
        passages: the sampled ones, `schema.CORPUS`.
        population: seed passages of the whole build.

    Attributes:
        size: the number of sampled passages.
        population: as given.
        figures: stage -> `(size + 1, 7)`; the last row is what is paid once, such as the priming question. Those of an
            exam by an LLM of its own are what as many training queries cost.
        outcomes: of each stage, in order, with the reasons for what was rejected.
    """

    def __init__(self, config: BuildRecipe, llm: Llm, passages: pa.Table, population: int) -> None:
        self.size, self.population = passages.num_rows, population
        self.figures = {stage: np.zeros((self.size + 1, len(FIGURES))) for stage in (STAGE, *written_kinds(config))}
        self.outcomes: list[tuple[Tried, Counter[str]]] = []
        self._config, self._llm, self._passages = config, llm, passages
        wanted = config.exam.wanted if config.exam else 0
        self._exam_wanted, self._tries_exam = wanted, wanted > 0 and config.exam is not None and config.exam.llm is None
        if self._tries_exam:
            self.figures[EXAM] = np.zeros((self.size + 1, len(FIGURES)))
        self._row = {passage_id: row for row, passage_id in enumerate(passages["_id"].to_pylist())}
        llm.watch = self._saw

    def _saw(self, stage: str, task: Task, request: ChatRequest, answer: ChatAnswer) -> None:
        query_id = getattr(task, "query_id", None)
        row = -1 if query_id is None else self._row[query_id.rpartition("/")[0]]  # the query of PASSAGE/q1
        self.figures[stage][row] += [0, 1, *tokens_of(answer, bytes_of(request.messages)), answer.seconds, 0, 0]

    def run(self, context: Context) -> None:
        """Runs the LLM's stages and the round trip; `context` asks through the session.

        Raises:
            UserError: no query is accepted, or no negative.
        """
        funnel = Funnel()
        accepted = np.zeros(self.size)  # queries of each passage
        self.figures[STAGE][:-1, ROWS] = self._config.queries.per_passage
        of_exam = try_exam(self._config, self._passages, context, None) if self._tries_exam else ()
        for tried in chain(try_stages(self._config, self._passages, context), of_exam):
            reasons = Counter(tried.drops["reason"].to_pylist())
            left = tried.found.num_rows
            funnel.step(tried.stage, left, tried.drops, left + tried.drops.num_rows, ANOTHER_LLM)
            if tried.stage == ROUND_TRIP:
                rows = [self._row[passage_id] for passage_id in tried.found["corpus-id"].to_pylist()]
                accepted += np.bincount(rows, minlength=self.size)
            elif tried.stage != EXAM:
                reasons = self._llm.rejections[tried.stage].reasons + Counter(duplicate=reasons["duplicate"])
            if tried.stage in self.figures and tried.stage not in {STAGE, EXAM}:
                writer = config_of(self._config.negatives, tried.stage)
                self.figures[tried.stage][:-1, ROWS] = -(-writer.count // writer.per_call) * accepted
            self.outcomes.append((tried, reasons))
        exam = self._config.exam
        if self._exam_wanted:
            like = EXAM if self._tries_exam else STAGE
            tried = next(each for each, _ in self.outcomes if each.stage == like)
            self.figures[like][:-1, ROWS] = tried.asked / self.size
            usable = tried.found.num_rows / tried.asked * self.total(ROWS, like).value
            self.figures[EXAM] = self._exam_wanted / usable * self.figures[like]
        for stage, figures in self.figures.items():
            prices = ((exam and stage == EXAM and exam.llm) or self._config.llm).prices
            asked_like = STAGE if stage == EXAM and not self._tries_exam else stage
            figures[:, WALL] = figures[:, SECONDS] / self.concurrency(asked_like)
            tokens = figures[:, TOKENS_IN] * prices.input + figures[:, TOKENS_OUT] * prices.output
            figures[:, MONEY] = tokens / MILLION + figures[:, WALL] * prices.hour / HOUR_S

    def concurrency(self, stage: str) -> float:
        """Calls in flight at once, on average over the time in which there were any; at least 1."""
        account = self._llm.ledger.account(stage).summary()
        busy = account["busy_seconds"]
        return min(max(1.0, account["call_seconds"] / busy if busy else 1.0), self._config.llm.concurrency)

    def budgeted(self) -> Estimate:
        """The money that `llm.budget` is for: an LLM of the exam's own has a budget of its own."""
        exam = self._config.exam
        return self.total(MONEY, *self.figures.keys() - ({EXAM} if exam and exam.llm else set()))

    def total(self, figure: int, *stages: str) -> Estimate:
        """One of `FIGURES` of stages, or of all stages, which follow each other."""
        rows = np.zeros(self.size + 1)
        for name in stages or self.figures:
            rows += self.figures[name][:, figure]
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
