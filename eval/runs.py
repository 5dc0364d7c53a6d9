"""The runs of a comparison: each a training and an evaluation in processes of their own, done once."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

import msgspec
import psutil
from msgspec import Struct
from tqdm import tqdm

from eval.measure.encoding import resolve_precision
from eval.measure.results import MEASURING
from eval.measure.tasks import Task
from eval.recipe import CompareRecipe, EvalRecipe
from foils.comparison import BASE
from foils.errors import EXIT_BAD_INPUT, UserError
from foils.hub import pin
from foils.provenance import sha256_file, sha256_json
from foils.records import read_record
from foils.words import duration

READING = ("query_prompt", "passage_prompt", "pooling")
"""Keys of a training recipe that the base is measured with too."""


class Run(NamedTuple):
    """One arm trained with one seed; `arm` is `BASE` for the model that nothing was done to."""

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
    """

    config: CompareRecipe
    training: str
    base: str
    reading: dict[str, Any]
    fingerprint: str
    fresh: bool = False

    def model(self, run: Run) -> str:
        """The model of a run: the base, or the folder that its training writes."""
        return self.base if run.arm == BASE else str(self.config.folder() / "models" / run.name)

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
        if run.arm != BASE and not (Path(self.model(run)) / "run.json").exists():  # the model was deleted
            return None
        found = read_record(self.file(run, "json"), Stamp, "delete it, and the run is looked at again")
        return found if found is not None and found.fingerprint == self.fingerprint else None

    def without(self, failed: Iterable[Run]) -> "Plan":
        """The plan with those arms alone of which no run failed."""
        arms = tuple(arm for arm in self.config.arms if arm not in {run.arm for run in failed})
        return self._replace(config=msgspec.structs.replace(self.config, arms=arms))

    def runs(self) -> list[Run]:
        """The runs of all arms and seeds, without the base."""
        return [Run(arm, seed) for arm in self.config.arms for seed in self.config.seeds]

    def commands(self, run: Run, threads: int) -> Iterator[list[str]]:
        """The command lines of a run, each to be repeated as it is."""
        if run.arm != BASE:
            values = {
                "kind": run.arm,
                "seed": run.seed,
                "dataset": self.config.dataset,
                "revision": self.config.revision,
            }
            yield [
                *(sys.executable, "-m", "training.train", self.training, "--out", self.model(run)),
                *(word for key, value in values.items() if value is not None for word in ("--set", f"{key}={value}")),
                *("--threads", str(threads)),
                *(["--fresh"] if self.fresh else []),
            ]
        recipe = self.file(run, "eval.toml")
        recipe.write_bytes(msgspec.toml.encode(self.evaluation(run)))  # without defaults, as TOML has no None
        yield [sys.executable, "-m", "eval.run", str(recipe)]

    def evaluation(self, run: Run) -> EvalRecipe:
        """The evaluation recipe of a run."""
        config = self.config
        return EvalRecipe(
            model=self.model(run),
            tasks=config.tasks,
            base=self.base,
            results=str(config.folder() / "results"),
            batch_tokens=config.batch_tokens,
            precision=config.precision,
            ignore_identical_ids=config.ignore_identical_ids,
            **self.reading,
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
    folder, revision = Path(config.dataset), config.revision
    if (manifest := folder / "manifest.json").exists():
        dataset = sha256_file(manifest)
    elif folder.is_dir() or revision is None:  # training says what is wrong, or reads plain files
        dataset = f"{config.dataset}@{revision}"
    else:  # the tag is looked up once, so that all arms train on the same commit
        dataset = pin(config.dataset, revision, "dataset")
    fingerprint = sha256_json(
        {
            "dataset": dataset,
            "training": text,
            "precision": resolve_precision(config.precision),
            "tasks": [(task.name, task.revision, task.ignores_identical_ids) for task in tasks],
            "measuring": MEASURING,
        }
    )
    return Plan(config, training, base, {key: values[key] for key in READING if key in values}, fingerprint, fresh)


def execute(plan: Plan, runs: Sequence[Run], jobs: int) -> dict[Run, str]:
    """Makes the runs that are not done, `jobs` at a time; one that fails does not stop the others.

    Returns:
        Those that failed -> why.
    """
    missing = [run for run in runs if plan.finished(run) is None]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    failed = {}
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(missing), desc="runs", unit="run", disable=not missing) as bar,
    ):
        waiting = {pool.submit(_make, plan, run, threads): run for run in missing}
        try:
            for future in as_completed(waiting):
                if (reason := future.result()) is not None:
                    failed[waiting[future]] = reason
                bar.set_postfix_str(waiting[future].name)
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while any(future.running() for future in waiting):
                with suppress(KeyboardInterrupt):
                    stop()
                sleep(0.05)
            raise
    return failed


def stop(*_: Any) -> None:
    """Ends all processes below this one, and then stops it as Ctrl-C does; for SIGTERM."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    raise KeyboardInterrupt


def check(plan: Plan, runs: Sequence[Run], failed: Mapping[Run, str]) -> None:
    """Refuses runs that failed.

    Raises:
        UserError: says why they failed, and names their logs.
    """
    if failed:
        logs = ", ".join(str(plan.file(run, "log")) for run in failed)
        reasons = "; ".join(dict.fromkeys(failed.values()))
        raise UserError(
            f"{len(failed)} of {len(runs)} runs failed ({reasons}); logs: {logs}; run again for what is missing"
        )


def _make(plan: Plan, run: Run, threads: int) -> str | None:
    """Trains and evaluates one run, its output in its log; why it failed, or None where all went well."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    started, file = perf_counter(), plan.file(run, "log")
    with file.open("wb") as log:
        for command in plan.commands(run, threads):
            finished = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
            )
            if finished.returncode < 0:
                return f"{run.name} was ended by signal {-finished.returncode}"
            if finished.returncode != 0:
                said = _reason(file.read_text("utf-8", errors="replace"), finished.returncode)
                return said or f"{run.name} ended with exit code {finished.returncode}"
    stamp = Stamp(plan.fingerprint, round(perf_counter() - started, 1))
    plan.file(run, "json").write_bytes(msgspec.json.encode(stamp) + b"\n")
    return None


def _reason(log: str, code: int) -> str:
    """The error that a run ended with, or else the last line of its log, such as a traceback's."""
    lines = [line.rpartition("\r")[2].strip() for line in log.strip().split("\n")]
    errors = [line for line in lines if line.startswith("error: ")] if code == EXIT_BAD_INPUT else []
    return [*lines, *errors][-1]


def forecast(plan: Plan) -> str:
    """How many runs of a comparison are done and to do, and how long that takes by those that finished."""
    stamps = [plan.finished(run) for run in (Run(BASE, 0), *plan.runs())]
    seconds = [stamp.seconds for stamp in stamps[1:] if stamp and stamp.seconds]
    left = stamps.count(None)
    line = f"{plan.base}: {len(stamps)} runs, the base's among them: {len(stamps) - left} done, {left} to do"
    if not left or not seconds:
        return f"{line}; how long one takes is known after the first" if left else line
    one = sum(seconds) / len(seconds)
    whole = one * -(-left // plan.config.jobs)
    return f"{line}; about {duration(whole)} at {duration(one)} a run, {plan.config.jobs} at a time"
