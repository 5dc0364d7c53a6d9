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
    """The settings that the figures depend on; `batch_size` is of one process, `prompts` maps columns to prompts."""

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
    """All that was counted, for the run record.

    Tokens and texts are by data set; of a stream, `streamed` rows were looked at. None stands for not looked up.
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
    """Something that would waste the time of a training; a recipe may `allow` the keys of `Allowable`."""

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
    """The figures, and what each check adds: lines of the table (label and text), problems to solve, warnings."""

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
        left = [problem.line for problem in self.problems if problem.key not in allowed]
        if left:
            raise UserError(
                "\n  ".join(["pre-flight: not started:", *left] if left[1:] else [f"pre-flight: {left[0]}"])
            )
