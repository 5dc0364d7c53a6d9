"""The report of pre-flight: its figures, the lines of its table, problems and warnings."""

from collections.abc import Collection
from typing import get_args

from msgspec import Struct

from foils.errors import UserError
from foils.records import Seen
from training.preflight.batches import Batches
from training.preflight.room import Disk, Memory
from training.preflight.texts import Texts
from training.preflight.tokens import Lengths
from training.recipe import Allowable

_LABEL = 10


class Plan(Struct, frozen=True):
    """The settings that the figures depend on.

    Attributes:
        base: its name.
        sampler: of batches.
        batch_size: of one process.
        processes: that train.
        accumulation: batches to a step.
        max_seq_length: tokens that are read; None without a limit.
        loss: its name.
        in_batch_negatives: whether the loss compares each query with all passages of the batch.
        prompts: column -> prompt.
    """

    base: str
    sampler: str
    batch_size: int
    processes: int
    accumulation: int
    max_seq_length: int | None
    loss: str
    in_batch_negatives: bool
    prompts: dict[str, str]


class Figures(Struct, frozen=True):
    """All that was counted; the run record holds it.

    Attributes:
        plan: what the recipe asks for.
        batches: batches and steps.
        memory: None where the lengths of texts are not known.
        disk: for model and checkpoints.
        tokens: data set -> the lengths of each column.
        texts: data set -> what its texts say.
        seen: overlap with evaluation sets; None where it was not looked up.
        streamed: rows that were looked at where the data is streamed; None where it is not.
    """

    plan: Plan
    batches: Batches
    memory: Memory | None
    disk: Disk
    tokens: dict[str, list[Lengths]]
    texts: dict[str, Texts]
    seen: Seen | None
    streamed: int | None = None


class Problem(Struct, frozen=True):
    """Something that would waste the time of a training.

    Attributes:
        key: stable, such as `no-batches`; `allow` in a recipe takes those of `Allowable`.
        found: the value.
        allowed: what would be in its place.
        remedy: what to do.
    """

    key: str
    found: str
    allowed: str
    remedy: str

    @property
    def line(self) -> str:
        """The problem on one line."""
        allow = f", or set allow = [{self.key!r}]" if self.key in get_args(Allowable) else ""
        return " ".join(f"{self.found}; allowed: {self.allowed}; {self.remedy}{allow}".split())


class Report(Struct):
    """The figures, and what each check adds.

    Attributes:
        figures: for the run record.
        lines: of the table, each a label and a text.
        problems: to solve, or to allow, before training.
        warnings: to know before training.
    """

    figures: Figures
    lines: list[tuple[str, str]] = []
    problems: list[Problem] = []
    warnings: list[str] = []

    def table(self) -> str:
        """The report for the terminal, about 20 lines."""
        warnings = [("warning", warning) for warning in self.warnings]
        problems = [("problem", " ".join(problem.found.split())) for problem in self.problems]
        return "\n".join(f"{label:<{_LABEL}}{text}".rstrip() for label, text in [*self.lines, *warnings, *problems])

    def refuse(self, allowed: Collection[Allowable] = ()) -> None:
        """Refuses what must not be trained with; `allowed` holds the recipe's keys of problems to let through.

        Raises:
            UserError: there are problems; all of them, one line each.
        """
        left = [problem for problem in self.problems if problem.key not in allowed]
        if left:
            raise UserError("\n".join(["pre-flight: not started:", *(f"  {problem.line}" for problem in left)]))
