"""The report of pre-flight: the lines of its table, problems and warnings, and the figures for the run record."""

from collections.abc import Collection
from typing import Any, get_args

from msgspec import Struct

from foils.errors import UserError
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
    """What the checks find: each adds its figures, lines of the table (label and text), problems and warnings."""

    plan: Plan
    figures: dict[str, Any] = {}
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
