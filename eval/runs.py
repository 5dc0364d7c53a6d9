"""The runs of a comparison: each a training and an evaluation in processes of their own, done once."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import msgspec
import psutil
from tqdm import tqdm

from eval.plan import Plan, Run, Stamp
from foils.errors import EXIT_BAD_INPUT, UserError
from foils.words import duration

_BAR = "{desc}: {n_fmt}/{total_fmt} |{bar:20}| {elapsed}{postfix}"
_SHOWN_EVERY_S = {True: 2, False: 60}
_LENGTH = re.compile(r"; (\S+) epochs, (\S+) steps")
_STAGE = re.compile(r"'epoch': '?([\d.]+)|(on \S+) \(\w+\)$", re.MULTILINE)
"""In a run's log: how long its training is, how far it has come, and the task that it is measured on."""


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
        tqdm(total=len(missing), desc="runs", bar_format=_BAR, disable=not missing) as bar,
    ):
        waiting = {pool.submit(_make, plan, run, threads): run for run in missing}
        left = set(waiting)
        try:
            while left:
                done, left = wait(left, _SHOWN_EVERY_S[sys.stderr.isatty()], FIRST_COMPLETED)
                for future in done:
                    if (reason := future.result()) is not None:
                        failed[waiting[future]] = reason
                bar.n += len(done)
                bar.set_postfix_str(_doing(plan, [waiting[future] for future in left if future.running()], len(left)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while any(future.running() for future in waiting):
                with suppress(KeyboardInterrupt):
                    stop()
                sleep(0.05)
            raise
    return failed


def _doing(plan: Plan, running: Sequence[Run], left: int) -> str:
    """The runs at work with what their logs say last, and how long all that are left take by those that finished."""
    parts = [f"{run.name} {stage(plan.file(run, 'log'))}".rstrip() for run in sorted(running)]
    one = plan.seconds_of_one(plan.runs())
    return ", ".join(parts) + (f"; about {duration(one * -(-left // plan.config.jobs))} left" if one and left else "")


def stage(log: Path) -> str:
    """The step of a training, or the task that its model is measured on; empty before either."""
    text = log.read_text("utf-8", errors="replace") if log.exists() else ""
    said, length = _STAGE.findall(text), _LENGTH.search(text)
    if not said or not length or not said[-1][0]:
        return said[-1][1] if said else ""
    steps = int(length[2].replace(",", ""))
    return f"step {round(steps * float(said[-1][0]) / float(length[1].replace(',', ''))):,} of {steps:,}"


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
            if finished.returncode != 0:
                return why_failed(run.name, file.read_text("utf-8", errors="replace"), finished.returncode)
    stamp = Stamp(plan.own.get(run.arm, plan.fingerprint), round(perf_counter() - started, 1))
    plan.file(run, "json").write_bytes(msgspec.json.encode(stamp) + b"\n")
    return None


def why_failed(name: str, log: str, code: int) -> str:
    """The error that a process ended with, or else the last line that it printed, such as a traceback's."""
    if code < 0:
        return f"{name} was ended by signal {-code}"
    lines = [line.rpartition("\r")[2].strip() for line in log.strip().split("\n")]
    errors = [line for line in lines if line.startswith("error: ")] if code == EXIT_BAD_INPUT else []
    return [*lines, *errors][-1] or f"{name} ended with exit code {code}"
