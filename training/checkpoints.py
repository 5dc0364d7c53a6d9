"""Checkpoints that a killed training goes on from, to the weights that it would have had undisturbed.

transformers writes a checkpoint file by file, so that a kill leaves a folder that looks like one. Here the last file
of a checkpoint is a mark; a folder without it is no checkpoint and goes. The mark also carries the seconds that
training had taken by then, so that a run record tells the time of all attempts.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from cards.errors import UserError
from cards.folders import recover

CHECKPOINTS, INPUTS, MARK = "checkpoints", "inputs.json", "complete.json"
# Steps whose mean time decides how many make up the wanted minutes; the first are slower.
_WARM, _MEASURED = 2, 5


@contextmanager
def run_folder(out: Path, inputs: Mapping[str, Any]) -> Iterator[Path]:
    """The folder that a run writes to until it is done: that of an earlier attempt at the same run, else an empty one.

    It is this run's alone meanwhile. Every process of a run must enter; the first one makes the folder.

    Args:
        out: the model's folder.
        inputs: all that the run depends on.

    Raises:
        UserError: another run is writing there.
    """
    state, partial = PartialState(), out.with_name(f"{out.name}.partial")
    with ExitStack() as held:
        if state.is_main_process:
            recover(out)
            partial.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked(partial, out))
            if _read(partial / INPUTS) != inputs:
                _empty(partial)
                (partial / INPUTS).write_text(json.dumps(inputs), "utf-8")
        state.wait_for_everyone()
        yield partial


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a run's folder; what a kill left half written is deleted."""
    found = {}
    for path in (folder / CHECKPOINTS).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if (path / MARK).exists():
            found[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    return found[max(found)] if found else None


def seconds_before(checkpoint: Path | None) -> float:
    """What training had taken up to a checkpoint, over all attempts."""
    return 0.0 if checkpoint is None else float(json.loads((checkpoint / MARK).read_text("utf-8"))["seconds"])


def close_folder(folder: Path) -> None:
    """Takes away what only an unfinished run needs."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    (folder / INPUTS).unlink(missing_ok=True)


class Checkpoints(TrainerCallback):
    """Marks checkpoints as whole, and asks for one every so many minutes."""

    def __init__(self, before: float, minutes: float) -> None:
        """Takes the seconds of earlier attempts, and the minutes between checkpoints; 0 asks for none."""
        self._started = perf_counter() - before
        self._minutes = minutes
        self._interval: int | None = None
        self._measured_from = (0, 0.0)
        self._last = 0

    @property
    def seconds(self) -> float:
        """What training has taken so far, over all attempts."""
        return perf_counter() - self._started

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Counts from the step that training starts or goes on at."""
        self._last = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Finds out how long a step takes, once, and then asks for a checkpoint every so many steps."""
        if not self._minutes:
            return
        done = state.global_step - self._last
        if self._interval is None:
            if done == _WARM:
                self._measured_from = (state.global_step, perf_counter())
            elif done == _WARM + _MEASURED:
                each = (perf_counter() - self._measured_from[1]) / _MEASURED
                # All processes must save at the same step, and their clocks differ: the first one's counts.
                (self._interval,) = broadcast_object_list([max(1, round(60 * self._minutes / each))])
        elif done >= self._interval:
            control.should_save, self._last = True, state.global_step

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Marks the checkpoint that was just written, once every process has written its part."""
        PartialState().wait_for_everyone()
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        for file in folder.iterdir():
            _to_disk(file)
        (folder / MARK).write_text(json.dumps({"seconds": self.seconds}), "utf-8")


def _to_disk(path: Path) -> None:
    """A mark must not outlive, in a crash of the machine, what it vouches for."""
    if path.is_file():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _locked(partial: Path, out: Path) -> Iterator[None]:
    """The lock is the folder's own, so it goes with the process, however that ends, and leaves no file behind."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{out}: another process is training it at this moment, perhaps left over from a command that was "
                "killed; wait until it is done or end it, or name another folder with --out"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
