"""The plan of a comparison: which runs it has, how each is made, and which are done."""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from eval.measure.encoding import resolve_precision
from eval.measure.results import MEASURING
from eval.measure.tasks import Task
from eval.recipe import CompareRecipe, EvalRecipe
from foils.errors import UserError
from foils.hub import pin
from foils.models import resolve_model
from foils.provenance import sha256_file, sha256_json
from foils.recipe import as_overrides
from foils.records import read_record
from foils.verdicts import BASE
from foils.words import duration

READING = ("query_prompt", "passage_prompt", "pooling")
"""Keys of a training recipe that the base is measured with too."""


class Run(NamedTuple):
    """One arm trained with one seed; `arm` is `BASE` for the model that nothing was done to.

    A model that was trained elsewhere has one run, of seed 0.
    """

    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Names the run's model folder, log and stamp."""
        return "base" if self.arm == BASE else f"{self.arm}-seed{self.seed}"


class Stamp(Struct, frozen=True):
    """What a finished run leaves: the fingerprint that it finished under, and its seconds; 0 for not known."""

    fingerprint: str
    seconds: float = 0.0


class Plan(NamedTuple):
    """How runs are made, and which are done.

    Attributes:
        config: the comparison.
        training: the training recipe.
        base: the model that all arms start from.
        reading: those of `READING` that the training recipe sets.
        fingerprint: of all that could change a run's figures; a finished run with another one is looked at again.
        fresh: models of other rows or of another recipe are trained again and replaced.
        own: arms that set more than their kind -> a fingerprint with that in it.
    """

    config: CompareRecipe
    training: str
    base: str
    reading: dict[str, Any]
    fingerprint: str
    fresh: bool = False
    own: Mapping[str, str] = {}

    def trains(self, run: Run) -> bool:
        """Whether a run trains its model, and does not only measure one."""
        return run.arm != BASE and "model" not in self.config.arm(run.arm)

    def model(self, run: Run) -> str:
        """The model of a run: the base, one that was trained elsewhere, or the folder that its training writes."""
        if self.trains(run):
            return str(self.config.folder() / "models" / run.name)
        return self.base if run.arm == BASE else str(self.config.arm(run.arm)["model"])

    def file(self, run: Run, ending: str) -> Path:
        """A file of a run: its `json` is the stamp, its `log` what its processes printed."""
        file = self.config.folder() / "runs" / f"{run.name}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def finished(self, run: Run) -> Stamp | None:
        """What a run left that finished under this plan's fingerprint; None where it is to be run.

        Raises:
            UserError: its stamp is broken.
        """
        if self.trains(run) and not (Path(self.model(run)) / "run.json").exists():  # the model was deleted
            return None
        found = read_record(self.file(run, "json"), Stamp, "delete it, and the run is looked at again")
        expected = self.own.get(run.arm, self.fingerprint)
        return found if found is not None and found.fingerprint == expected else None

    def without(self, failed: Iterable[Run]) -> "Plan":
        """The plan with those arms alone of which no run failed."""
        lost = {run.arm for run in failed}
        arms = {arm: self.config.arm(arm) for arm in self.config.arms if arm not in lost}
        return self._replace(config=msgspec.structs.replace(self.config, arms=arms))

    def runs(self) -> list[Run]:
        """The runs of all arms and seeds, without the base."""
        return [run for arm in self.config.arms for run in self.runs_of(arm)]

    def runs_of(self, arm: str) -> list[Run]:
        """The runs of an arm."""
        return [Run(arm, seed) for seed in (self.config.seeds if self.trains(Run(arm, 0)) else (0,))]

    def seconds_of_one(self, runs: Iterable[Run]) -> float:
        """The seconds of one of some runs, mean over those that finished; 0 where none has or no time is known."""
        stamps = [self.finished(run) for run in runs]
        seconds = [stamp.seconds for stamp in stamps if stamp is not None and stamp.seconds]
        return sum(seconds) / len(seconds) if seconds else 0.0

    def training_command(self, run: Run) -> list[str]:
        """The command line that trains the model of a run."""
        dataset, revision = self.config.data_of(run.arm)
        values = {"kind": None, "seed": run.seed, "dataset": dataset, "revision": revision, **self.config.arm(run.arm)}
        settings = as_overrides({key: value for key, value in values.items() if value is not None})
        overrides = (word for setting in settings for word in ("--set", setting))
        return [sys.executable, "-m", "training.train", self.training, "--out", self.model(run), *overrides]

    def commands(self, run: Run, threads: int) -> Iterator[list[str]]:
        """The command lines of a run, each to be repeated as it is."""
        if self.trains(run):
            yield [*self.training_command(run), "--threads", str(threads), *(["--fresh"] if self.fresh else [])]
        recipe = self.file(run, "eval.toml")
        recipe.write_bytes(msgspec.toml.encode(self.evaluation(run)))  # without defaults, as TOML has no None
        yield [sys.executable, "-m", "eval.run", str(recipe)]

    def evaluation(self, run: Run) -> EvalRecipe:
        """The evaluation recipe of a run; a model that was trained elsewhere is read as it says itself."""
        config, is_own = self.config, run.arm == BASE or self.trains(run)
        return EvalRecipe(
            model=self.model(run),
            tasks=config.tasks,
            base=self.base if is_own else self.model(run),
            results=str(config.folder() / "results"),
            batch_tokens=config.batch_tokens,
            precision=config.precision,
            baselines=config.baselines if run.arm == BASE else (),
            ignore_identical_ids=config.ignore_identical_ids,
            engine=config.engine,
            **(self.reading if is_own else {}),
        )


def make_plan(config: CompareRecipe, training: str, tasks: Sequence[Task], *, fresh: bool = False) -> Plan:
    """The runs of a comparison on one base.

    The fingerprint changes with anything that could change a run's figures. A run is then looked at again: training and
    evaluation decide by their own records what must be made anew.

    Raises:
        UserError: the training recipe is not one with a base, or the data set's tag has moved.
    """
    try:
        text = Path(training).read_text("utf-8")
        values = tomllib.loads(text)
        base = str(values["base"])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(
            f"training {training}: not a training recipe with a base ({type(error).__name__}: {error})"
        ) from None
    fingerprint = sha256_json(
        {
            "dataset": data_identity(config.dataset, config.revision),
            "training": text,
            "precision": resolve_precision(config.precision),
            "tasks": [(task.name, task.revision, task.ignores_identical_ids) for task in tasks],
            "measuring": MEASURING,
        }
    )
    own = {
        arm: sha256_json([fingerprint, config.arm(arm), _model(config, arm) or data_identity(*config.data_of(arm))])
        for arm in config.arms
        if config.arm(arm) != {"kind": arm}
    }
    reading = {key: values[key] for key in READING if key in values}
    return Plan(config, training, base, reading, fingerprint, fresh, own)


def data_identity(dataset: str, revision: str | None) -> str:
    """What stands for a data set in a fingerprint: the SHA-256 of its manifest, or its commit.

    Raises:
        UserError: its tag has moved, or the Hub refuses.
    """
    if (manifest := Path(dataset) / "manifest.json").exists():
        return sha256_file(manifest)
    if Path(dataset).is_dir() or revision is None:  # training says what is wrong, or reads plain files
        return f"{dataset}@{revision}"
    return pin(dataset, revision, "dataset")  # the tag is looked up once, so that all arms train on the same commit


def _model(config: CompareRecipe, arm: str) -> str | None:
    """What stands for a model that was trained elsewhere in a fingerprint; None for an arm that is trained here."""
    reference = str(config.arm(arm).get("model", ""))
    try:
        return resolve_model(reference).identity if reference else None
    except UserError:  # `check_arms` says what is wrong
        return reference


def forecast(plan: Plan) -> str:
    """How many runs of a comparison are done and to do, and how long that takes by those that finished."""
    stamps = [plan.finished(run) for run in (Run(BASE, 0), *plan.runs())]
    left, one = stamps.count(None), plan.seconds_of_one(plan.runs())
    line = f"{plan.base}: {len(stamps)} runs, the base's among them: {len(stamps) - left} done, {left} to do"
    if not left or not one:
        return f"{line}; how long one takes is known after the first" if left else line
    whole = one * -(-left // plan.config.jobs)
    return f"{line}; about {duration(whole)} at {duration(one)} a run, {plan.config.jobs} at a time"
